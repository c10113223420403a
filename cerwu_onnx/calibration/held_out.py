"""Divide calibration data into halves, so that a model quantised with one is judged on the other; add noise to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cerwu_onnx.calibration.source import Feed, Source

BLOCK = 32
"""The most samples in a row that belong to the same half: neighbours may be alike."""

BLOCKS = 8
"""So many blocks at least, if there are enough samples."""

NOISE = 0.1
"""Standard deviation of the noise on an input, relative to that of the input."""


class Half:
    """Every other block of the samples of a source.

    Args:
        source: all samples.
        second: the half that begins with the second block; otherwise the first.
        most: so many samples at most.
    """

    def __init__(self, source: Source, *, second: bool, most: int | None = None) -> None:
        self._source, self._second, self._most = source, second, most
        self._unit = max(source.count(source.first()), 1)  # of one sample, unless the model or the data want more
        units = (source.samples or BLOCK * BLOCKS * self._unit) // self._unit
        self._block = self._unit * max(1, min(BLOCK // self._unit, units // BLOCKS))
        self.samples: int | None = None
        if source.samples is not None:
            whole, rest = divmod(source.samples, 2 * self._block)
            own = whole * self._block + (max(rest - self._block, 0) if second else min(rest, self._block))
            self.samples = own if most is None else min(own, most)

    def first(self) -> Feed:
        """The first sample of the half."""
        return next(self.batches(1))

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass over the samples of the half, at most ``size`` at a time, as far as they can be divided."""
        per_batch = next(n for n in range(max(1, min(size, self._block)), 0, -1) if self._block % n == 0)
        seen = taken = 0
        for feed in self._source.batches(per_batch):
            mine = (seen // self._block) % 2 == int(self._second)
            count = self._source.count(feed)
            seen += count
            if mine:
                taken += count
                yield feed
                if self._most is not None and taken >= self._most:
                    return

    def count(self, feed: Feed) -> int:
        """Samples in a feed."""
        return self._source.count(feed)


class Noisy:
    """The samples of a source with white noise on every input of floating-point numbers.

    Args:
        source: the samples.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.samples = source.samples

    def first(self) -> Feed:
        """The first sample."""
        return next(self.batches(1))

    def batches(self, size: int) -> Iterator[Feed]:
        """One pass; the noise is the same in each pass with the same ``size``."""
        random = np.random.default_rng(0)
        for feed in self._source.batches(size):
            yield {name: _noisy(np.asarray(value), random) for name, value in feed.items()}

    def count(self, feed: Feed) -> int:
        """Samples in a feed."""
        return self._source.count(feed)


def _noisy(values: np.ndarray[Any, np.dtype[Any]], random: np.random.Generator) -> np.ndarray[Any, np.dtype[Any]]:
    if values.dtype.kind != "f" or not values.size:
        return values
    deviation = NOISE * float(values.std(dtype=np.float64))
    noisy: np.ndarray[Any, np.dtype[Any]] = (values + deviation * random.normal(size=values.shape)).astype(values.dtype)
    return noisy
