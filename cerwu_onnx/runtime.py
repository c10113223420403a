"""Use .cwb files: open, decompress, load into onnxruntime, verify, compare with the original model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.array_files import masks
from cerwu_onnx.array_files.dtypes import Typed, from_coded, from_raw
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader
from cerwu_onnx.errors import BaseError, CheckFailed, CorruptFileError, UsageError, packages_for

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from cerwu_onnx.calibration import CalibrationSpec, ImageOptions
    from cerwu_onnx.calibration.output_errors import OutputError
    from cerwu_onnx.model.skeleton import Elements


INSIDE = 2**31 - 2**26
"""The most bytes of tensors in one ONNX file, with room for the rest: protobuf's limit is 2 GB."""

OUTSIDE = 1 << 16
"""Tensors of at least so many bytes go into the second file if external data is asked for."""

PAGE = 4096
"""Offsets in such a file are multiples of this."""


class CompressedModel(Mapping[str, npt.NDArray[Any]]):
    """An open .cwb file: a mapping from tensor names to decoded arrays, each decoded when it is asked for.

    Coded tensors are float32: float16 weights before they are rounded, tables of integers without their offset;
    :meth:`to_onnx` makes the final values. Exact tensors have the dtype in which they were stored (bfloat16 as its
    bits, uint16). Tensors that take fewer bytes in the graph section are not in this mapping, only in :meth:`to_onnx`.

    Raises:
        CorruptFileError: on access, when a check of the tensor fails.
    """

    def __init__(self, container: reader.Container) -> None:
        """Wrap a parsed container; use :func:`open` for files."""
        self.container = container
        self._records = {record.name: record for record in container.tensors}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Decode one tensor."""
        return self._final(name, self.container.decode(self._records[name]))

    @cached_property
    def dtypes(self) -> dict[str, str] | None:
        """For a file of arrays the types of the arrays by name; None for a model, whose graph says them.

        Raises:
            CorruptFileError: the metadata are damaged.
        """
        if self.has_graph:
            return None
        try:
            return masks.dtypes(self.metadata, list(self))
        except ValueError as error:
            raise CorruptFileError(f"metadata section: the types of the arrays are damaged: {error}") from None

    def _final(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A decoded tensor in the type of its array."""
        if self.dtypes is None:
            return values
        coded, dtype = self._records[name].is_coded, self.dtypes[name]
        try:
            return from_coded(values, dtype) if coded else from_raw(values, dtype)
        except ValueError as error:
            raise CorruptFileError(f"tensor {name!r}: the metadata ask for {error}: the file is damaged") from None

    def save_arrays(self, output: str | Path, *, force: bool = False) -> int:
        """Write the arrays of a file without a graph into a .npz or .safetensors file; returns their number.

        Raises:
            UsageError: the file holds a model, or the output cannot be written.
            CorruptFileError: a check fails.
        """
        from cerwu_onnx.array_files import ArrayFile, write_arrays
        from cerwu_onnx.jobs.files import atomic, check_target

        check_target(output, overwrite=force)
        if self.has_graph:
            raise UsageError(f"the file holds a model: decompress it into an .onnx file, not into {output}")
        self.container.check_sections()
        decoded = zip(self, self.container.decode_all(), strict=True)
        kinds = self.dtypes or {name: str(record.element.name.lower()) for name, record in self._records.items()}
        arrays = {name: Typed(self._final(name, values), kinds[name]) for name, values in decoded}
        about = self.metadata.get(masks.ABOUT)
        texts = about if isinstance(about, dict) and all(isinstance(text, str) for text in about.values()) else {}
        with atomic(output, overwrite=force) as stream:
            write_arrays(stream, output, ArrayFile(arrays, texts))
        return len(arrays)

    def __iter__(self) -> Iterator[str]:
        """Names in file order."""
        return iter(self._records)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._records)

    @property
    def metadata(self) -> dict[str, Any]:
        """The compressor's records: tool, method, lambda, calibration, model id."""
        return self.container.metadata()

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the coded tensors that are float parameters (biases, BatchNormalization), not weights."""
        return coded_parameters(self.container)

    @property
    def tables(self) -> frozenset[str]:
        """Names of the coded tensors that are integers, coded without loss, not weights."""
        return coded_tables(self.container)

    def to_onnx(
        self,
        keep: Callable[[onnx.TensorProto, Elements], bool] | None = None,
    ) -> onnx.ModelProto:
        """Rebuild the float ONNX model.

        Args:
            keep: called with each decoded initializer and its elements; true if it has stored them elsewhere.

        Raises:
            CorruptFileError: a check fails.
            UsageError: the file holds weights only.
            MissingPackageError: onnx is not installed.
        """
        with packages_for("an ONNX model"):
            from cerwu_onnx.model.skeleton import join

        self.container.check_sections()  # damage anywhere in the file is an error, whatever was asked for
        skeleton = self.container.graph()
        if skeleton is None:
            raise UsageError(
                "the file holds weights only, no graph: no ONNX model can be made of it; "
                "compress without --weights-only (weights_only=True) for that"
            )
        tensors = zip(self.container.tensors, self.container.decode_all(), strict=True)
        given = ((record.name, int(record.element), values) for record, values in tensors)
        return join(skeleton, given, keep, section=(self.container.base or self.container).section_size(f.Kind.GRAPH))

    @property
    def has_graph(self) -> bool:
        """Whether the file has a graph, not weights only."""
        whole = self.container.base or self.container
        return any(record.kind is f.Kind.GRAPH for record in whole.records)

    @property
    def onnx_bytes(self) -> int:
        """About how many bytes the tensors of the rebuilt model take."""
        return sum(record.count * f.item_size(record.element) for record in self.container.tensors)

    def verify(self) -> int:
        """Decode everything and check every CRC; return the number of tensors.

        Raises:
            CorruptFileError: a check fails.
        """
        if self.has_graph:
            self.to_onnx(lambda tensor, raw: True)  # decodes every tensor and reads the metadata
            return len(self)
        for _ in self.container.decode_all():
            pass
        self.container.check_sections()
        return len(self)


def coded_parameters(container: reader.Container) -> frozenset[str]:
    """Names of the coded tensors that the metadata's ``params`` marks as float parameters."""
    return _marked(container, "params")


def coded_tables(container: reader.Container) -> frozenset[str]:
    """Names of the coded tensors that the metadata's ``tables`` marks as integers, coded without loss."""
    return _marked(container, "tables")


def _marked(container: reader.Container, key: str) -> frozenset[str]:
    """Names of coded tensors by a mask of the metadata: bit i stands for tensor i."""
    try:
        mask = int(str(container.metadata().get(key, "0")), 16) & (1 << len(container.tensors)) - 1
    except ValueError:
        return frozenset()
    return frozenset(
        record.name for index, record in enumerate(container.tensors) if record.is_coded and mask >> index & 1
    )


def open(path: str | Path, *, base: str | Path | None = None) -> CompressedModel:
    """Open a .cwb file; header and directory are checked, tensors are decoded on access.

    Args:
        path: of the file.
        base: path of its base, if it is a delta.

    Raises:
        UsageError: a file cannot be read.
        BaseError: a delta has no base or another one, or what is no delta has one.
        CorruptFileError: it is not a .cwb file, damaged or too new.
    """
    return CompressedModel(reader.read(path, base))


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
        base: as for :func:`open`.
        force: overwrite.
        external_data: write large tensors into ``output`` + ".data", which models of 2 GB and more always need. The
            result then refers to that file.

    Raises:
        UsageError: a path cannot be read or written, or the file holds weights only.
        BaseError, CorruptFileError: as for :func:`open`, or a check fails.
    """
    from cerwu_onnx.jobs.files import check_target

    if output is not None:
        for source in (path,) if base is None else (path, base):
            check_target(output, overwrite=force, source=source)
    model = open(path, base=base)
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
        BaseError, CorruptFileError: as for :func:`open`, or a check fails.
        ModelError: onnxruntime cannot load the model that the file holds.
    """
    given = options.pop("sess_options", None)
    with packages_for("load_session"):
        if native.available():
            from cerwu_onnx.model.native_sessions import native_session

            contents = [None if part is None else reader.content_of(part) for part in (path, base)]
            try:
                return native_session(contents[0] or b"", contents[1], given, options)
            except (CorruptFileError, BaseError) as error:
                raise type(error)(f"{path}: {error}") from None
        from cerwu_onnx.model.elements import FLOATS
        from cerwu_onnx.model.sessions import new_session
    elements: dict[str, Elements] = {}

    def aside(tensor: onnx.TensorProto, raw: Elements) -> bool:  # the session reads large ones where they are
        if len(raw) >= OUTSIDE and tensor.data_type in FLOATS:
            elements[tensor.name] = raw
        return tensor.name in elements

    return new_session(open(path, base=base).to_onnx(aside), given, elements, **options)


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
    from cerwu_onnx.jobs.inputs import unchanged_inputs

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

    original = load_model(against)
    compressed = open(path, base=base)
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
