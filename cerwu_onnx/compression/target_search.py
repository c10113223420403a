"""The price at which a file has the size, or a model the accuracy, that was asked for.

Both fall as lambda grows. High-rate theory says how fast the size does: half a bit per weight for every doubling, so
that a step from one measured size lands near the target and the secants after it converge. Of the accuracy only its
direction is known, and that only up to chance: it is bisected, and then, because the score of one file scatters around
that of its neighbours, smaller ones are tried for some way on. What is measured is always the file itself.

A search has two parts where sensitivities can be measured at the point of operation: one to get near it without, and,
after they have been, one to get there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from cerwu_onnx.report import Point

T = TypeVar("T")

BITS_PER_DOUBLING = 0.5
"""Bits per weight that a doubled lambda saves, by high-rate theory."""

LEAST, MOST = 2.0**-20, 2.0**12
"""No lambda beyond these is tried."""

WITHIN = 0.01
"""A size is met when the file is at most this share below it."""

BYTES = 0.03
"""An accuracy is met when a file that is smaller by at most this share loses too much."""

NEAR_SIZE, NEAR_ACCURACY = 0.12, 0.2
"""The same for the first of two parts; a size may also be above."""

TRIALS = 10
"""At most so many files in one part of a search."""

GIVE_UP = 4
"""So many files without an accuracy that holds end the search for one; strides then span almost 5 bits per weight."""

STRIDE, SHORT_STRIDE = 2.0, 0.5
"""First step in log2 lambda while an accuracy is not bracketed, in the first part and in the second; then longer."""

LONGER = 1.5
"""Growth of those steps."""

BEYOND, SCAN = 3, 0.25
"""So many files in a row that lose too much, each this far in log2 lambda from the last, end a search for accuracy."""


class Search(Generic[T]):
    """Tries prices and keeps the best result.

    Args:
        attempt: ``lambda -> (point, result)``.
        settle: ``lambda -> None``, measures again at a point of operation what all later attempts rest on; None where
            there is nothing to measure.
        ample: whether a result loses next to nothing, so that a larger one is not looked for.

    Attributes:
        points: everything tried, in that order.
        best: the best result so far with its point; there is one after the first attempt.
        ended: whether a search for a size ended with a result that is ample, well below it.
    """

    def __init__(
        self,
        attempt: Callable[[float], tuple[Point, T]],
        settle: Callable[[float], None] | None,
        ample: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._attempt, self._settle, self._ample = attempt, settle, ample
        self._rank: Callable[[Point], tuple[float, ...]] = lambda _: ()
        self.points: list[Point] = []
        self.best: tuple[Point, T]
        self.ended = self._last_is_ample = False

    def to_size(self, size: Callable[[Point], float], target: float, start: float, doubling: float) -> None:
        """Search for the largest size that is not above a target.

        Args:
            size: what of a point is meant.
            target: in its units.
            start: first lambda.
            doubling: by how much a doubled lambda shrinks it, roughly.
        """
        self._rank = lambda point: (1, size(point)) if size(point) <= target else (0, -size(point))
        aim = target * (1 - WITHIN / 2)
        if self._settle is not None:
            low, high = aim * (1 - NEAR_SIZE), aim * (1 + NEAR_SIZE)
            self._fit(size, low, aim, high, start, doubling)
            if self.ended:
                return
            last = self.points[-1]
            self._settle(last.lambda_)
            start = _clipped(math.log2(last.lambda_) + (size(last) - aim) / doubling)
        self._fit(size, target * (1 - WITHIN), aim, target, start, doubling)

    def to_accuracy(self, least: float, start: float) -> None:
        """Search for the smallest file with a score of surely at least ``least``, beginning at lambda ``start``."""
        self._rank = lambda point: (
            (1, -point.file_bytes) if _score(point) >= least else (0, _score(point), -point.file_bytes)
        )
        if self._settle is not None:
            self._bracket(least, start, STRIDE, NEAR_ACCURACY)
            near = self.best[0]
            if _score(near) < least:
                return
            self._settle(near.lambda_)
            start = near.lambda_
        self._bracket(least, start, SHORT_STRIDE if self._settle else STRIDE, BYTES)
        self._scan(least)

    def at(self, price: float) -> Point:
        """Try one lambda."""
        point, result = self._attempt(price)
        self._last_is_ample = self._ample(result)
        if not self.points or self._rank(point) > self._rank(self.best[0]):
            self.best = point, result
        self.points.append(point)
        return point

    def _fit(
        self, size: Callable[[Point], float], low: float, aim: float, high: float, start: float, doubling: float
    ) -> None:
        """Secants in log2 lambda until a size is within ``[low, high]`` or ample, no lambda is left, or chance decides.

        Between two points that enclose ``aim``, regula falsi; an end that stays twice counts half (Illinois).
        """
        x, least = math.log2(start), 0.02
        above: tuple[float, float] | None = None  # log2 lambda and size - aim, of the nearest on either side
        below: tuple[float, float] | None = None
        was = 0.0
        for _ in range(TRIALS):
            found = size(self.at(_rounded(x)))
            if low <= found <= high:
                return
            if found < low and self._last_is_ample:
                self.ended = True
                return
            off = found - aim
            if off > 0:
                slope = _slope(above, (x, off), doubling)
                saturated = above is not None and x - above[0] >= 1 and above[1] - off < 0.01 * doubling
                if below is not None and was > 0:
                    below = below[0], below[1] / 2
                above = x, off
            else:
                slope = _slope((x, off), below, doubling)
                saturated = below is not None and below[0] - x >= 1 and off - below[1] < 0.01 * doubling
                if above is not None and was < 0:
                    above = above[0], above[1] / 2
                below = x, off
            was = off
            if above is not None and below is not None:
                x = above[0] + (below[0] - above[0]) * above[1] / (above[1] - below[1])
                if below[0] - above[0] < 1e-3:
                    return
                continue
            step = math.copysign(min(max(abs(off) / slope, least), 4.0), off)
            least *= 2
            following = math.log2(_clipped(x + step))
            if saturated or following == x:
                return
            x = following

    def _bracket(self, least: float, start: float, stride: float, tolerance: float) -> None:
        """Double and halve lambda until a file holds and one that does not is hardly smaller."""
        x = math.log2(start)
        holds: tuple[float, int] | None = None  # log2 lambda and bytes
        fails: tuple[float, int] | None = None
        for trial in range(TRIALS):
            point = self.at(_rounded(x))
            before = holds
            if _score(point) >= least:
                holds = x, point.file_bytes
            else:
                fails = x, point.file_bytes
            if holds is not None and fails is not None:
                if holds[1] - fails[1] <= tolerance * holds[1]:
                    return
                x = (holds[0] + fails[0]) / 2
                continue
            following = math.log2(_clipped(x + (stride if holds else -stride)))
            no_smaller = before is not None and holds is not None and before[1] - holds[1] < 0.005 * before[1]
            if following == x or no_smaller or (holds is None and trial + 1 >= GIVE_UP):
                return
            x, stride = following, stride * LONGER

    def _scan(self, least: float) -> None:
        """Go on from the smallest file that holds, where some do not, until :data:`BEYOND` in a row do not."""
        held, failed = self.best[0], 0
        if _score(held) < least or all(_score(point) >= least for point in self.points):
            return
        for trial in range(1, TRIALS + 1):
            point = self.at(_rounded(math.log2(_clipped(math.log2(held.lambda_) + trial * SCAN))))
            failed = 0 if _score(point) >= least else failed + 1
            if failed == BEYOND:
                return


def _slope(left: tuple[float, float] | None, right: tuple[float, float] | None, usual: float) -> float:
    """Fall of the size per doubling of lambda between two points, if that is credible; else the usual one."""
    if left is None or right is None or right[0] <= left[0]:
        return usual
    return min(max((left[1] - right[1]) / (right[0] - left[0]), usual / 8), usual * 4)


def _clipped(x: float) -> float:
    """Lambda from its log2, within bounds."""
    return min(max(math.pow(2.0, min(max(x, -60.0), 60.0)), LEAST), MOST)


def _rounded(x: float) -> float:
    """Lambda from its log2, with four digits: what a file records and a user types."""
    return float(f"{2.0**x:.4g}")


def _score(point: Point) -> float:
    """What counts: the score that is sure, or else the one that was measured."""
    score = point.score if point.low is None else point.low
    return -math.inf if score is None else score
