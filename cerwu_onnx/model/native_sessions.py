"""Open onnxruntime sessions of .cwb files by the graph in C, without onnx or protobuf, and without a copy of weights.

Tensors are decoded by threads, each in one call of the library, while onnxruntime is loaded.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from cerwu_onnx.errors import ModelError, first_line, raise_if_out_of_memory
from cerwu_onnx.jobs.threads import session_threads, shared
from cerwu_onnx.native_model import Model

if TYPE_CHECKING:
    import onnxruntime as ort

APART = 1 << 16
"""Initializers of so many bytes are handed to onnxruntime where they are."""

_DTYPES = {1: "<f4", 2: "|u1", 3: "|i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8"}
_DTYPES |= {12: "<u4", 13: "<u8", 16: "<u2"}
"""The numpy type that holds the elements of each type of ``TensorProto.DataType`` that can be apart."""


def native_session(
    data: bytes, base: bytes | None, options: ort.SessionOptions | None, keywords: dict[str, Any]
) -> ort.InferenceSession:
    """A session of a file, on the CPU unless the keywords name another provider.

    Args:
        data: the file.
        base: that of a delta.
        options: they may be changed.
        keywords: arguments for ``InferenceSession``.

    Raises:
        UsageError: the file holds no graph.
        BaseError, CorruptFileError: a check fails.
        ModelError: onnxruntime cannot load the model.
    """
    model = Model(data, base, APART)
    if any(tensor.apart and tensor.element not in _DTYPES for tensor in model.tensors):
        model.put_apart(0)
    content = model.frame()
    places = [
        np.empty(tensor.size, np.uint8) if tensor.apart else content[tensor.offset : tensor.offset + tensor.size]
        for tensor in model.tensors
    ]
    workers = session_threads() or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        shares = [share for share in shared([tensor.size for tensor in model.tensors], workers) if share]
        started = [pool.submit(model.decode_list, share, [places[index] for index in share]) for share in shares]
        import onnxruntime as ort

        for future in started:
            future.result()
    outside = [
        (tensor.name, ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, tensor.element))
        for tensor, place in zip(model.tensors, places, strict=True)
        if tensor.apart and tensor.is_read  # onnxruntime refuses others
        for array in (place.view(_DTYPES[tensor.element]).reshape(tensor.shape),)
    ]
    options = default_options() if options is None else options
    if outside:
        options.add_external_initializers([name for name, _ in outside], [value for _, value in outside])
    session = open_session(content.tobytes(), options, keywords)
    session._cwb_arrays = places  # the session reads them while it lives
    return session


def default_options() -> ort.SessionOptions:
    """Options for a session without any: errors are raised, not printed with whatever nodes are called."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def open_session(content: bytes, options: ort.SessionOptions, keywords: dict[str, Any]) -> ort.InferenceSession:
    """A session of a serialized model, with ``session_threads`` threads, on the CPU unless told otherwise.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    import onnxruntime as ort

    threads = session_threads()
    if threads is not None:
        options.intra_op_num_threads = threads
    keywords.setdefault("providers", ["CPUExecutionProvider"])
    try:
        return ort.InferenceSession(content, options, **keywords)
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise_if_out_of_memory(error)
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error


__all__ = ["default_options", "native_session", "open_session"]
