"""Divide calibration data into halves, so that a model quantised with one is judged on the other; add noise to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from cerwu_onnx.calibration.source import TOGETHER, Array, Feed, Source, evenly
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.types import Float64Array

BLOCK = 32
"""The most samples in a row that belong to the same half: neighbours may be alike."""

BLOCKS = 8
"""So many blocks at least, if there are enough samples."""

WHITE = 0.4
"""Standard deviation of white noise on an input, relative to that of the input."""

HALFWAY = 0.5**0.5
"""That of noise in the directions in which samples differ: it moves one half as far as two samples are apart."""


class Half:
    """Every other block of the samples of a source.

    Args:
        source: all samples.
        second: the half that begins with the second block; otherwise the first.
        most: so many samples at most, from everywhere in the half (its first feeds where their number is not known).
    """

    def __init__(self, source: Source, *, second: bool, most: int | None = None) -> None:
        self._source, self._second, self._most = source, second, most
        least = max(source.count(source.first()), 1)  # one sample, unless the model or the data want more
        if source.samples is None:  # feeds are taken as they are, however many samples each has
            unit, units = 1, sum(1 for _ in islice(source.batches(1), BLOCK * BLOCKS))
        else:
            unit, units = least, source.samples // least
        self._block = unit * max(1, min(BLOCK // least, units // BLOCKS))
        self._group, self._groups = self._block, 0  # 0: all
        self.samples: int | None = None
        if source.samples is not None:
            whole, rest = divmod(source.samples, 2 * self._block)
            own = whole * self._block + (max(rest - self._block, 0) if second else min(rest, self._block))
            self.samples = own
            if most is not None and most < own:
                self._group = unit * next(
                    n for n in range(max(TOGETHER // unit, 1), 0, -1) if self._block % (n * unit) == 0
                )
                self._groups, self._wanted = own // self._group, max(most // self._group, 1)
                self.samples = self._wanted * self._group

    def first(self) -> Feed:
        """The first sample of the half.

        Raises:
            CalibrationError: there is none.
        """
        feed = next(self.batches(1), None)
        if feed is None:
            raise CalibrationError("the calibration data cannot be divided into halves")
        return feed

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass over the samples of the half, at most ``size`` at a time, as far as they can be divided."""
        per_batch = next(n for n in range(max(1, min(size, self._group)), 0, -1) if self._group % n == 0)
        seen = own = taken = 0
        for feed in self._source.batches(per_batch):
            mine = (seen // self._block) % 2 == int(self._second)
            count = self._source.count(feed)
            seen += 1 if self._source.samples is None else count
            group = own // self._group
            own += count if mine else 0
            if mine and (not self._groups or (group < self._groups and evenly(group, self._groups, self._wanted))):
                taken += count
                yield feed
                if self._most is not None and taken >= self._most:
                    return

    def count(self, feed: Feed) -> int:
        """Samples in a feed."""
        return self._source.count(feed)


class Noisy:
    """The samples of a source with noise on every input of floating-point numbers, or of bytes: pixels, then.

    Args:
        source: the samples.
        natural: the difference of two samples (:data:`HALFWAY`); otherwise white noise (:data:`WHITE`), relative to
            the standard deviation of the input, or of the column in an input of two axes: features need not be of one
            scale.
    """

    def __init__(self, source: Source, *, natural: bool) -> None:
        self._source, self._natural = source, natural
        self._columns = {} if natural else _deviations(source)
        self.samples = source.samples

    def first(self) -> Feed:
        """The first sample."""
        return next(self.batches(1))

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass; the noise is the same in each pass with the same ``size``."""
        random, far = np.random.default_rng(0), HALFWAY if self._natural else WHITE
        last: Feed = {}
        for feed in self._source.batches(size):
            noise = _differences(feed, last, random) if self._natural else _white(feed, self._columns, random)
            yield {
                name: _moved(np.asarray(value), far * noise[name]) if name in noise else value
                for name, value in feed.items()
            }
            last = feed

    def count(self, feed: Feed) -> int:
        """Samples in a feed."""
        return self._source.count(feed)


def _varies(array: Array) -> bool:
    """Whether noise can be added to an input."""
    return array.dtype.kind == "f" or array.dtype == np.uint8


def _moved(array: Array, noise: Float64Array) -> Array:
    """An input with noise, as far as its type reaches."""
    moved = array + noise
    return moved.astype(array.dtype) if array.dtype.kind == "f" else np.rint(moved).clip(0, 255).astype(array.dtype)


def _deviations(source: Source) -> dict[str, Float64Array]:
    """Standard deviations of the columns of inputs that are tables of numbers, by name."""
    tables: dict[str, list[Array]] = {}
    for feed in source.batches(BLOCK):
        for name, value in feed.items():
            if (table := np.asarray(value)).ndim == 2 and _varies(table):
                tables.setdefault(name, []).append(np.array(table))
    alike = {name: rows for name, rows in tables.items() if len({table.shape[1] for table in rows}) == 1}
    return {name: np.concatenate(rows).std(axis=0, dtype=np.float64) for name, rows in alike.items()}


def _white(feed: Feed, columns: Mapping[str, Float64Array], random: np.random.Generator) -> dict[str, Float64Array]:
    """White noise for inputs of floating-point numbers, with their standard deviations, or those of their columns."""
    values = {name: np.asarray(value) for name, value in feed.items()}
    return {
        name: columns.get(name, value.std(dtype=np.float64)) * random.normal(size=value.shape)
        for name, value in values.items()
        if _varies(value) and value.size
    }


def _differences(feed: Feed, last: Feed, random: np.random.Generator) -> dict[str, Float64Array]:
    """Differences between samples of a batch, over the root of two; of a batch of one sample, from the last batch."""
    found = {}
    for name, value in feed.items():
        wide = np.asarray(value)
        if not _varies(wide) or not wide.ndim or not wide.size:
            continue
        if len(wide) > 1:
            order = random.permutation(len(wide))
            difference = wide[order].astype(np.float64) - wide[np.roll(order, 1)]
        else:
            other = np.asarray(last.get(name, wide))
            difference = wide.astype(np.float64) - other if other.shape == wide.shape else np.zeros(wide.shape)
        found[name] = difference / 2**0.5
    return found
