"""Samples stacked along the first axes of arrays, in memory or in files, and the source that cuts them into batches."""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np

from cerwu_onnx.calibration.feeds import Array, check_dtype, check_keys, convert, describe, is_stacked
from cerwu_onnx.errors import CalibrationError, first_line
from cerwu_onnx.jobs.inputs import reading
from cerwu_onnx.model.tensors import InputInfo

log = logging.getLogger(__name__)

Header: TypeAlias = "tuple[tuple[int, ...], np.dtype[Any]]"
"""Shape (samples first) and type of one key."""


class Part(Protocol):
    """A piece of the data: one array per key, all with the same number of samples along the first axis."""

    @property
    def where(self) -> str:
        """The part's name in messages."""

    @property
    def headers(self) -> Mapping[str, Header]:
        """Shapes and types of the arrays of :meth:`load`, known without reading the samples."""

    def load(self) -> Mapping[str, Array]:
        """Read the arrays."""


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """Arrays in memory."""

    where: str
    arrays: Mapping[str, Array]

    @property
    def headers(self) -> Mapping[str, Header]:
        """Shapes and types of the arrays."""
        return {name: (array.shape, array.dtype) for name, array in self.arrays.items()}

    def load(self) -> Mapping[str, Array]:
        """The arrays themselves."""
        return self.arrays


@dataclass(frozen=True, slots=True)
class FilePart:
    """Arrays in a file that is read when needed."""

    where: str
    headers: Mapping[str, Header]
    read: Callable[[], Mapping[str, Array]]

    def load(self) -> Mapping[str, Array]:
        """Read the file.

        Raises:
            CalibrationError: it cannot be read.
        """
        try:
            return self.read()
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise CalibrationError(f"{self.where}: cannot be read: {first_line(error)}") from error

    @classmethod
    def npz(cls, path: Path) -> FilePart:
        """A ``.npz`` file; only the headers of its keys are read here.

        Raises:
            CalibrationError: it is not one.
        """
        headers = {}
        reading(path)
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as stream:
                        size = archive.getinfo(member).file_size
                        headers[member.removesuffix(".npy")] = _header(stream, size)
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise CalibrationError(f"{path}: not a readable .npz file: {first_line(error)}") from error

        def read() -> Mapping[str, Array]:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}

        return cls(str(path), headers, read)

    @classmethod
    def npy(cls, path: Path, info: InputInfo) -> FilePart:
        """A ``.npy`` file holding samples along the first axis, or one sample without that axis.

        Raises:
            CalibrationError: it is not one.
        """
        reading(path)
        try:
            with path.open("rb") as stream:
                shape, dtype = _header(stream, path.stat().st_size)
        except (OSError, ValueError, EOFError) as error:
            raise CalibrationError(f"{path}: not a readable .npy file: {first_line(error)}") from error
        single = info.shape is not None and len(shape) == len(info.shape) - 1

        def read() -> Mapping[str, Array]:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return {info.name: array[None] if single else array}

        return cls(str(path), {info.name: ((1, *shape) if single else shape, dtype)}, read)


def _header(stream: IO[bytes], size: int) -> Header:
    """Shape and type of an array in the npy format, checked against the file's ``size`` before anything is allocated.

    Raises:
        ValueError: it is not npy, holds Python objects, or has fewer elements than its shape declares.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("arrays of Python objects are not accepted")
    if min(shape, default=0) < 0 or stream.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of shape {shape} and type {dtype} needs more than the {size} bytes that are there")
    return shape, dtype


class Rows:
    """A source of samples stacked along first axes, merged over parts and cut to any batch size.

    If the model fixes the batch size, batches have that size and a remainder is dropped. An array with one more
    axis than its input holds one whole input per sample; batches then have a single sample.
    """

    def __init__(
        self,
        inputs: Sequence[InputInfo],
        parts: Sequence[Part],
        limit: int | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Check keys, shapes and types of all parts.

        Args:
            inputs: what the model needs.
            parts: the data, in order.
            limit: use at most so many samples.
            keep: hold the loaded parts in memory for the next pass.

        Raises:
            CalibrationError: the parts do not fit the model or hold no sample.
        """
        self._inputs, self._parts, self._keep = tuple(inputs), tuple(parts), keep
        self._cache: dict[int, Mapping[str, Array]] = {}
        self._stacked: set[str] = set()
        total = 0
        for number, part in enumerate(self._parts):
            total += self._check(part, first=number == 0)
        self._batch = self._fixed_batch()
        total = total if limit is None else min(total, limit)
        usable = total - total % (self._batch or 1)
        if not usable:
            where = self._parts[0].where if len(self._parts) == 1 else "the calibration data"
            need = f"; the model needs {self._batch} at a time" if self._batch and total else ""
            raise CalibrationError(f"{where} holds {total} samples{need}")
        if usable < total:
            log.warning(
                "the model's batch size is fixed to %d: the last %d of %d calibration samples are not used",
                self._batch, total - usable, total,
            )  # fmt: skip
        self.samples: int | None = usable

    @property
    def batch(self) -> int | None:
        """The number of samples that each batch must have; None if any will do."""
        return self._batch

    def one_by_one(self) -> None:
        """Yield single samples from now on, whatever size is asked for."""
        self._batch = 1

    def first(self) -> dict[str, Array]:
        """The first sample (the first batch if the batch size is fixed)."""
        return next(self.batches(1))

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """One pass over the samples.

        Args:
            size: samples per batch, unless the model fixes it.

        Yields:
            Feeds. A batch is smaller at the end and where the samples' shapes change.

        Raises:
            CalibrationError: a value is not finite or does not fit the input's type.
        """
        size = self._batch or max(1, size)
        held: list[dict[str, Array]] = []
        count = 0
        for arrays, where, length in self._loaded():
            start = 0
            while start < length:
                take = min(size - count, length - start)
                piece = {
                    info.name: convert(info, arrays[info.name][start : start + take], where, start)
                    for info in self._inputs
                }
                if held and any(held[0][name].shape[1:] != piece[name].shape[1:] for name in piece):
                    yield from self._merged(held, count)
                    held, count = [], 0
                held.append(piece)
                count += take
                start += take
                if count == size:
                    yield from self._merged(held, count)
                    held, count = [], 0
        yield from self._merged(held, count)

    def count(self, feed: dict[str, Array]) -> int:
        """Samples in a feed of :meth:`batches`."""
        return 1 if self._stacked else int(feed[self._inputs[0].name].shape[0])

    def _check(self, part: Part, *, first: bool) -> int:
        """Check a part's headers; return its number of samples."""
        check_keys(part.headers, self._inputs, part.where)
        counts = {}
        for info in self._inputs:
            shape, dtype = part.headers[info.name]
            check_dtype(info, dtype, part.where)
            stacked = is_stacked(info, shape, part.where)
            if stacked and first:
                self._stacked.add(info.name)
            if stacked != (info.name in self._stacked):
                raise CalibrationError(f"{part.where}: {info.name!r} has another number of axes than in other files")
            counts[info.name] = shape[0]
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{name!r} {count}" for name, count in counts.items())
            raise CalibrationError(
                f"{part.where}: the inputs have different numbers of samples: {shown}; give an input whose samples lie "
                "along another axis (a state, say) one axis more in front, along which each entry is a whole input"
            )
        return next(iter(counts.values()))

    def _fixed_batch(self) -> int | None:
        """The batch size that the model demands; None if any will do."""
        fixed = {}
        for info in self._inputs:
            if info.name not in self._stacked and info.shape and isinstance(info.shape[0], int):
                fixed[info.name] = info.shape[0]
        sizes = set(fixed.values()) | ({1} if self._stacked else set())
        if len(sizes) > 1:
            wrong = next(info for info in self._inputs if fixed.get(info.name, 1) != 1)
            raise CalibrationError(
                f"the model's inputs have different batch sizes: give {describe(wrong)} one axis more in "
                "front, so that each entry along the first axis is a whole input"
            )
        return max(next(iter(sizes)), 1) if sizes else None

    def _loaded(self) -> Iterator[tuple[Mapping[str, Array], str, int]]:
        """Each part's arrays, its name, and how many of its samples to use."""
        left = self.samples or 0
        for number, part in enumerate(self._parts):
            if not left:
                return
            arrays = self._cache.get(number) or part.load()
            if self._keep:
                self._cache[number] = arrays
            length = min(left, arrays[self._inputs[0].name].shape[0])
            left -= length
            yield arrays, part.where, length

    def _merged(self, held: list[dict[str, Array]], count: int) -> Iterator[dict[str, Array]]:
        """Merge the held pieces into one feed; none if they do not fill the model's fixed batch size."""
        if not count or (self._batch is not None and count < self._batch):
            return
        feed = {}
        for name in held[0]:
            rows = held[0][name] if len(held) == 1 else np.concatenate([piece[name] for piece in held])
            feed[name] = np.asarray(rows[0] if name in self._stacked else rows)
        yield feed
