"""Use .cwb files: decompress, load into onnxruntime, compare with the original. Modules load where they are used."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cerwu_onnx import native
from cerwu_onnx.errors import BaseError, CheckFailed, CorruptFileError, UsageError, packages_for
from cerwu_onnx.jobs.inputs import content_of, unchanged_inputs

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from cerwu_onnx.calibration import CalibrationSpec, ImageOptions
    from cerwu_onnx.calibration.output_errors import OutputError
    from cerwu_onnx.model.skeleton import Elements
    from cerwu_onnx.opened import CompressedModel


INSIDE = 2**31 - 2**26
"""The most bytes of tensors in one ONNX file, with room for the rest: protobuf's limit is 2 GB."""

OUTSIDE = 1 << 16
"""Tensors of at least so many bytes go into the second file if external data is asked for."""

PAGE = 4096
"""Offsets in such a file are multiples of this."""


def decompress(
    path: str | Path,
    output: str | Path | None = None,
    *,
    base: str | Path | None = None,
    force: bool = False,
    external_data: bool = False,
) -> onnx.ModelProto:
    """Rebuild the float ONNX model of a .cwb file, and write it when ``output`` is given.

    Args:
        path: of the .cwb file.
        output: path of the ONNX file.
        base: as for :func:`cerwu_onnx.opened.open`.
        force: overwrite.
        external_data: write large tensors into ``output`` + ".data", which models of 2 GB and more always need. The
            result then refers to that file.

    Raises:
        UsageError: a path cannot be read or written, or the file holds weights only.
        BaseError, CorruptFileError: as for :func:`cerwu_onnx.opened.open`, or a check fails.
    """
    from cerwu_onnx.jobs.files import check_target
    from cerwu_onnx.opened import open as open_file

    if output is not None:
        for source in (path,) if base is None else (path, base):
            check_target(output, overwrite=force, source=source)
    model = open_file(path, base=base)
    return model.to_onnx() if output is None else write_onnx(model, output, force=force, external_data=external_data)


def write_onnx(
    model: CompressedModel, output: str | Path, *, force: bool = False, external_data: bool = False
) -> onnx.ModelProto:
    """Write the rebuilt model; arguments, result and errors are those of :func:`decompress`."""
    from cerwu_onnx.jobs.files import atomic, write_atomic

    if not external_data and model.onnx_bytes <= INSIDE:
        rebuilt = model.to_onnx()
        write_atomic(output, rebuilt.SerializeToString(deterministic=True), overwrite=force)
        return rebuilt
    data = Path(f"{output}.data")
    try:
        data.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{data}: the model holds this name, which is no UTF-8: give another output") from None
    with atomic(output, overwrite=force) as graph, atomic(data, overwrite=force) as stream:
        rebuilt = model.to_onnx(lambda tensor, raw: _append(tensor, raw, stream, data.name))
        graph.write(rebuilt.SerializeToString(deterministic=True))
        graph.flush()
        Path(output).unlink(missing_ok=True)  # rather no model for a moment than an old one with new weights
    return rebuilt


def _append(tensor: onnx.TensorProto, raw: Elements, stream: IO[bytes], location: str) -> bool:
    """Append the elements of a large tensor to a file, at an offset that can be mapped to memory."""
    from onnx import TensorProto

    if len(raw) < OUTSIDE:
        return False
    stream.write(bytes(-stream.tell() % PAGE))
    for key, value in (("location", location), ("offset", stream.tell()), ("length", len(raw))):
        tensor.external_data.add(key=key, value=str(value))
    stream.write(raw)
    tensor.data_location = TensorProto.EXTERNAL
    return True


def load_session(path: str | Path, *, base: str | Path | None = None, **options: Any) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session directly from a .cwb file; ``options`` go to ``InferenceSession``.

    Providers default to the CPU. ``base`` is that of :func:`open`.

    Raises:
        UsageError: the file cannot be read or holds weights only.
        BaseError, CorruptFileError: as for :func:`cerwu_onnx.opened.open`, or a check fails.
        ModelError: onnxruntime cannot load the model that the file holds.
    """
    given = options.pop("sess_options", None)
    with packages_for("load_session"):
        if native.available():
            from cerwu_onnx.model.native_sessions import native_session

            contents = [None if part is None else content_of(part) for part in (path, base)]
            try:
                return native_session(contents[0] or b"", contents[1], given, options)
            except (CorruptFileError, BaseError) as error:
                from cerwu_onnx.opened import open as open_file

                open_file(path, base=base)  # which says more, if its checks fail, too
                raise type(error)(f"{path}: {error}") from None
        from cerwu_onnx.model.elements import FLOATS
        from cerwu_onnx.model.sessions import new_session
        from cerwu_onnx.opened import open as open_file
    elements: dict[str, Elements] = {}

    def aside(tensor: onnx.TensorProto, raw: Elements) -> bool:  # the session reads large ones where they are
        if len(raw) >= OUTSIDE and tensor.data_type in FLOATS:
            elements[tensor.name] = raw
        return tensor.name in elements

    return new_session(open_file(path, base=base).to_onnx(aside), given, elements, **options)


def compare(
    path: str | Path,
    against: str | Path,
    data: CalibrationSpec,
    *,
    base: str | Path | None = None,
    images: ImageOptions | None = None,
    batch_size: int = 64,
) -> tuple[OutputError, ...]:
    """Run the compressed and the original model on the same data.

    A file of weights only runs with the graph of the original.

    Raises:
        CheckFailed: inputs or outputs differ in name, an output changes its shape, or becomes NaN where it was not.
        UsageError, ModelError, CalibrationError, CorruptFileError: the files or the data are at fault.
        InputChangedError: one of them was replaced or written while it was in use.
    """
    with unchanged_inputs() as check_inputs:
        found = _compared(path, base, against, data, images, batch_size)
        check_inputs()
    return found


def _compared(
    path: str | Path,
    base: str | Path | None,
    against: str | Path,
    data: CalibrationSpec,
    images: ImageOptions | None,
    batch_size: int,
) -> tuple[OutputError, ...]:
    """What :func:`compare` gives."""
    with packages_for("compare"):
        from cerwu_onnx.calibration import open_data
        from cerwu_onnx.calibration.output_errors import errors_between
        from cerwu_onnx.model.graph import load_model
        from cerwu_onnx.model.rebuilt import fold_again, with_directory
        from cerwu_onnx.model.sessions import new_session
        from cerwu_onnx.opened import open as open_file

    original = load_model(against)
    compressed = open_file(path, base=base)
    if compressed.has_graph:
        ours = load_session(path, base=base)
    else:
        ours = new_session(with_directory(compressed.container, fold_again(original, compressed.container)))
    theirs = new_session(original)
    names = [output.name for output in theirs.get_outputs()]
    if names != [output.name for output in ours.get_outputs()]:
        raise CheckFailed(f"{path} and {against} have different outputs: they are not the same model")
    if [i.name for i in theirs.get_inputs()] != [i.name for i in ours.get_inputs()]:
        raise CheckFailed(f"{path} and {against} have different inputs: they are not the same model")
    return errors_between(theirs, ours, open_data(data, original, images=images).batches(batch_size))
