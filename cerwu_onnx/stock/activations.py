"""A .cwb file as a QDQ model, whose activations are 8-bit integers, too, so that integer kernels can run it.

onnxruntime's quantiser finds the ranges of the activations and places QuantizeLinear and DequantizeLinear. Weights keep
the integers and steps that the file has; those that do not fit 8 bits get a step of their own from the quantiser.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cerwu_onnx.calibration import Source
from cerwu_onnx.errors import CerwuError, ModelError, first_line, raise_if_out_of_memory
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.opened import CompressedModel, coded_tables
from cerwu_onnx.stock.weights import with_integers

BATCH = 16
"""Samples per run of the model."""


def quantised_activations(compressed: CompressedModel, source: Source) -> onnx.ModelProto:
    """Rebuild the model of a file with 8-bit weights and activations; operators that have no integers keep floats.

    Args:
        compressed: the file.
        source: data whose smallest and largest activations become the ranges.

    Raises:
        ModelError: onnxruntime's quantiser fails.
        UsageError: the file holds no graph.
        CalibrationError: the data does not fit the model.
        CorruptFileError: a check fails.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = compressed.to_onnx()
    feeds = source.batches(BATCH)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            found = next(feeds, None)
            return None if found is None else dict(found)

    options = {"TensorQuantOverrides": _steps(model, compressed)}
    with tempfile.TemporaryDirectory() as folder, _silent():
        path = Path(folder) / "model.onnx"
        try:
            quantize_static(
                model,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options=options,
            )
        except CerwuError:
            raise
        except Exception as error:  # what the quantiser raises has no common base but this
            raise_if_out_of_memory(error)
            raise ModelError(f"onnxruntime's quantiser cannot take the model: {first_line(error)}") from error
        return with_integers(onnx.load(path), compressed, "int8").model


def _steps(model: onnx.ModelProto, compressed: CompressedModel) -> dict[str, list[dict[str, Any]]]:
    """The step of each weight that fits 8 bits, as the quantiser takes it."""
    from onnxruntime.quantization import QuantType

    container, tables = compressed.container, coded_tables(compressed.container)
    layouts = {layer.weight: layer.layout for layer in analyse(model).layers}
    floats = {name for name, tensor in constant_tensors(model).items() if tensor.data_type == onnx.TensorProto.FLOAT}
    found: dict[str, list[dict[str, Any]]] = {}
    for record in container.tensors:
        if not record.is_coded or record.name in tables or record.name not in floats or len(record.shape) < 2:
            continue
        symbols, steps = container.values(record), container.steps(record)
        layout = layouts.get(record.name)
        if layout is not None and np.ptp(layout.to_matrix(np.broadcast_to(steps, record.shape)), axis=2).any():
            continue  # integer kernels have steps of outputs only
        axes = [axis for axis, length in enumerate(steps.shape) if length > 1]
        if len(axes) <= 1 and symbols.min() >= -127 and symbols.max() <= 127:
            grid: dict[str, Any] = {"zero_point": np.int8(0), "quant_type": QuantType.QInt8}
            grid |= {"axis": axes[0]} if axes else {}
            found[record.name] = [{"scale": step, **grid} for step in steps.ravel()]
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """A context in which libraries do not log what is no error."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


__all__ = ["quantised_activations"]
