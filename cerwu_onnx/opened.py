"""An open .cwb file: its tensors as arrays, by name, and the model or the arrays that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from cerwu_onnx.array_files import masks
from cerwu_onnx.array_files.dtypes import Typed, from_coded, from_raw
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader
from cerwu_onnx.errors import CorruptFileError, UsageError, packages_for

if TYPE_CHECKING:
    import onnx

    from cerwu_onnx.model.skeleton import Elements


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
        from cerwu_onnx.array_files.files import ArrayFile, write_arrays
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
                "compress without --weights-only for that"
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
