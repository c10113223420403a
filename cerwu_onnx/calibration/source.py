"""Open calibration data (files, folders, functions or objects) as a source of feeds, batch by batch."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration.feeds import check_feed_shape, check_keys, convert
from cerwu_onnx.calibration.images import SUFFIXES, ImageOptions, image_parts
from cerwu_onnx.calibration.parts import ArrayPart, FilePart, Part, Rows
from cerwu_onnx.errors import CalibrationError, UsageError, first_line
from cerwu_onnx.jobs.user_functions import load_function
from cerwu_onnx.model.tensors import InputInfo

log = logging.getLogger(__name__)

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = dict[str, Array]
CalibrationSpec: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Callable[[], Iterable[Any]] | Iterable[Any]"


TOGETHER = 8
"""Where some of the samples are taken only, so many in a row are: they may be sorted."""


class Source(Protocol):
    """A set of calibration feeds that can be read batch by batch."""

    @property
    def samples(self) -> int | None:
        """How many samples one pass has; None if that is not known beforehand."""

    def first(self) -> Feed:
        """One small feed (a single sample if the model allows it) that later passes will still contain."""

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass: feeds of about ``size`` samples.

        Raises:
            CalibrationError: the data does not fit the model.
        """

    def count(self, feed: Feed) -> int:
        """How many samples a feed from :meth:`batches` has."""


def evenly(place: int, places: int, wanted: int) -> bool:
    """Whether a place is one of ``wanted`` ones that are spread evenly over ``places``; the first is."""
    return place * wanted % places < wanted


def open_source(
    spec: CalibrationSpec,
    inputs: Sequence[InputInfo],
    *,
    images: ImageOptions | None = None,
    limit: int | None = None,
    name: str = "calibration data",
) -> Source:
    """Open calibration data for a model.

    Args:
        spec: a ``.npz`` file (keys are the model's inputs, samples along the first axis); a ``.npy`` file or
            a folder of them (models of one input); a folder of ``.npz``; a folder of images;
            ``module:function`` or ``file.py:function``, a function without arguments returning feeds; such a
            function; a mapping from inputs to arrays; an iterable of feeds. Feeds (mappings from inputs to
            arrays) are given to the model as they are; those of an iterator stay in memory, to be read again.
        inputs: what the model needs, from :func:`cerwu_onnx.model.graph.model_inputs`.
        images: how images become samples.
        limit: use at most so many samples.
        name: what error messages call data that is not a file or a function.

    Raises:
        UsageError: there is no such file, folder or function.
        CalibrationError: the data is empty or does not fit the model.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the number of calibration samples must be at least 1, got {limit}")
    if not inputs:
        raise CalibrationError("the model has no input to feed with calibration data")
    if isinstance(spec, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in spec.items()}
        return Rows(inputs, [ArrayPart(name, arrays)], limit)
    if isinstance(spec, np.ndarray):
        return Rows(inputs, [ArrayPart(name, {_only(inputs, "an array").name: spec})], limit)
    if callable(spec):
        return Feeds(inputs, spec, getattr(spec, "__name__", "function"), limit)
    if not isinstance(spec, str | os.PathLike):
        return Feeds(inputs, _reader(spec), name, limit)
    path = Path(spec)
    if path.is_file():
        return Rows(inputs, [_file_part(path, inputs)], limit, keep=True)
    if path.is_dir():
        parts = _folder_parts(path, inputs, images or ImageOptions())
        return Rows(inputs, parts, limit)
    module, colon, function = str(spec).rpartition(":")
    if colon and function.isidentifier() and module:
        return Feeds(inputs, _function(module, function), str(spec), limit)
    raise UsageError(f"{path}: no such file or folder of calibration data")


def _only(inputs: Sequence[InputInfo], what: str) -> InputInfo:
    if len(inputs) != 1:
        raise CalibrationError(
            f"{what} feeds one input, but the model has {len(inputs)} ({', '.join(i.name for i in inputs)}): "
            "use .npz with one key per input"
        )
    return inputs[0]


def _file_part(path: Path, inputs: Sequence[InputInfo]) -> Part:
    if path.suffix == ".npz":
        return FilePart.npz(path)
    if path.suffix == ".npy":
        return FilePart.npy(path, _only(inputs, "a .npy file"))
    raise CalibrationError(f"{path}: calibration data is a .npz or .npy file, a folder, or module:function")


def _folder_parts(folder: Path, inputs: Sequence[InputInfo], options: ImageOptions) -> list[Part]:
    """A folder's files in the order of their names, all of one kind; files of unknown kinds are ignored."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    kinds = {
        ".npz": [p for p in files if p.suffix == ".npz"],
        ".npy": [p for p in files if p.suffix == ".npy"],
        "image": [p for p in files if p.suffix.lower() in SUFFIXES],
    }
    present = [kind for kind, found in kinds.items() if found]
    if not present:
        raise CalibrationError(f"{folder}: holds no .npz, .npy, .png, .jpg or .bmp file")
    if len(present) > 1:
        raise CalibrationError(f"{folder}: holds {' and '.join(present)} files; keep one kind in a folder")
    if kinds[".npz"]:
        return [FilePart.npz(path) for path in kinds[".npz"]]
    if kinds[".npy"]:
        only = _only(inputs, "a folder of .npy files")
        return [FilePart.npy(path, only) for path in kinds[".npy"]]
    return image_parts(kinds["image"], _only(inputs, "a folder of images"), options)


def _function(module: str, name: str) -> Callable[[], Iterable[Any]]:
    """Load ``name`` from a module or from a Python file.

    Raises:
        UsageError: there is no such module or function.
        CalibrationError: importing it fails.
    """
    if module.endswith(".py") and not Path(module).is_file():
        raise UsageError(f"{module}: no such Python file")
    function: Callable[[], Iterable[Any]] = load_function(module, name, f"calibration data {module}:{name}")
    return function


def _reader(items: Iterable[Any]) -> Callable[[], Iterable[Any]]:
    """A function that starts a pass over ``items``; copies of what an iterator yields are kept for later passes."""
    if not isinstance(items, Iterable):
        raise UsageError(f"calibration data cannot be a {type(items).__name__}")
    if not isinstance(items, Iterator):
        return lambda: items
    kept: list[Any] = []

    def replay() -> Iterator[Any]:
        yield from kept
        for item in items:
            kept.append(copy.deepcopy(item))
            yield kept[-1]

    return replay


class Feeds:
    """A :class:`Source` of ready feeds: mappings from inputs to arrays, or bare arrays for a single input."""

    def __init__(
        self, inputs: Sequence[InputInfo], read: Callable[[], Iterable[Any]], where: str, limit: int | None
    ) -> None:
        self._inputs, self._read, self._where, self._limit = tuple(inputs), read, where, limit
        self._started: tuple[Feed, Iterator[Feed]] | None = None
        self.samples: int | None = None

    def first(self) -> Feed:
        """The first feed. :meth:`batches` goes on with the pass that this begins."""
        if self._started is None:
            items = self._feeds()
            feed = next(items, None)
            if feed is None:
                raise CalibrationError(f"{self._where}: yields no feed")
            self._started = feed, items
        return self._started[0]

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass; ``size`` is ignored, because a feed may not be divisible."""
        self.first()
        if self._started is None:
            return
        (feed, rest), self._started = self._started, None
        done = 0
        current: Feed | None = feed
        while current is not None:
            done += self.count(current)
            yield current
            current = None if self._limit is not None and done >= self._limit else next(rest, None)

    def count(self, feed: Feed) -> int:
        """Length of the first input's first axis, if each other input but single numbers has an axis as long.

        Otherwise 1: that axis may be the time of a series, beside which lies its initial state. Also 1 if it is empty,
        as a key-value cache can be: it still runs.
        """
        array, *others = (feed[info.name] for info in self._inputs)
        along = array.ndim and all(other.size == 1 or len(array) in other.shape for other in others)
        return max(len(array), 1) if along else 1

    def _feeds(self) -> Iterator[Feed]:
        try:
            for number, item in enumerate(self._read()):
                yield self._checked(item, f"{self._where}, feed {number}")
        except (CalibrationError, UsageError):
            raise
        except (Exception, SystemExit) as error:  # anything the user's function may raise
            raise CalibrationError(f"{self._where}: failed with {type(error).__name__}: {first_line(error)}") from error

    def _checked(self, item: Any, where: str) -> Feed:
        if not isinstance(item, Mapping):
            if len(self._inputs) != 1:
                raise CalibrationError(f"{where}: is a {type(item).__name__}, not a mapping from inputs to arrays")
            item = {self._inputs[0].name: item}
        check_keys([str(key) for key in item], self._inputs, where)
        feed = {}
        for info in self._inputs:
            array = np.asarray(item[info.name])
            check_feed_shape(info, array.shape, where)
            feed[info.name] = convert(info, array, where)
        return feed


class OneReader:
    """The samples of a source for several threads, of which one reads at a time: a user's function need not know."""

    def __init__(self, source: Source) -> None:
        self._source, self._lock = source, RLock()
        self.samples = source.samples

    def first(self) -> Feed:
        """The first feed."""
        with self._lock:
            return self._source.first()

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass; others wait until it ends or is closed."""
        with self._lock:
            yield from self._source.batches(size)

    def count(self, feed: Feed) -> int:
        """Samples in a feed."""
        return self._source.count(feed)


def first_feeds(source: Source, samples: int, batch: int) -> list[Feed]:
    """Copies of the first feeds that together hold so many samples, ``batch`` in each where feeds can be divided."""
    return _copies(_until(source, source.batches(min(batch, samples)), samples))


def some_feeds(source: Source, samples: int, batch: int) -> list[Feed]:
    """Copies of feeds :func:`from_everywhere`."""
    return _copies(from_everywhere(source, samples, batch))


def from_everywhere(source: Source, samples: int, batch: int) -> Iterator[Feed]:
    """Feeds from everywhere that together hold so many samples; the first ones where their number is not known.

    Where not all samples are taken, :data:`TOGETHER` at most lie in a feed: they may be sorted.
    """
    size = min(batch, samples)
    if source.samples is None or source.samples <= samples:
        return _until(source, source.batches(size), samples)
    size = max(min(size, TOGETHER), source.count(source.first()))
    places, wanted = max(source.samples // size, 1), -(-samples // size)
    spread = (feed for place, feed in enumerate(source.batches(size)) if evenly(place, places, wanted))
    return _until(source, spread, samples)


def _until(source: Source, feeds: Iterable[Feed], samples: int) -> Iterator[Feed]:
    seen = 0
    for feed in feeds:
        yield feed
        seen += source.count(feed)
        if seen >= samples:
            return


def _copies(feeds: Iterable[Feed]) -> list[Feed]:
    return [{name: np.array(value) for name, value in feed.items()} for feed in feeds]


__all__ = [
    *("TOGETHER", "CalibrationSpec", "Feed", "Feeds", "OneReader", "Rows", "Source"),
    *("evenly", "first_feeds", "from_everywhere", "open_source", "some_feeds"),
]
