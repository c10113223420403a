"""Search for the price (lambda) at which the file meets a target size, or the model a target accuracy.

Size and accuracy both fall as lambda grows. High-rate theory says how fast the size falls: half a bit per weight for
each doubling of lambda. A step from one measured size therefore lands near the target, and secants converge from there.
Of the accuracy only the direction is known, and chance can reverse even that. So the search bisects; then, because the
scores of files with nearly the same lambda scatter, it also tries some smaller files. Each trial measures a whole file.

Where sensitivities can be measured around the quantised model, a search has two parts: the first gets near the target,
then the sensitivities are measured there, and the second part ends at the target.
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
"""The search tries no lambda outside these bounds."""

WITHIN = 0.01
"""A size target is met by a file that is at most this share below it."""

WITHIN_ACCURACY = 0.03
"""An accuracy target is met when a file that is smaller by at most this share loses too much."""

NEAR_SIZE, NEAR_ACCURACY = 0.12, 0.2
"""The same two shares in the first part of a search; the size may there also be above its target."""

TRIALS = 10
"""The most files that one part of a search tries."""

GIVE_UP = 4
"""A search for accuracy ends if none of so many files holds it; its strides then span almost 5 bits per weight."""

STRIDE, SHORT_STRIDE = 2.0, 0.5
"""First step in log2 lambda of a search for accuracy, in its first and its second part; the next steps are longer."""

LONGER = 1.5
"""Factor by which those steps grow."""

BEYOND, SCAN = 3, 0.25
"""A search for accuracy ends after so many files in a row that lose too much, this far apart in log2 lambda."""


def most_trials(settles: bool, accuracy: bool) -> int:
    """The most files that a search tries, by whether it has two parts, and whether it is one for accuracy."""
    return TRIALS * (1 + settles + accuracy)


class Search(Generic[T]):
    """Tries prices and keeps the best result.

    Args:
        attempt: ``lambda -> (point, result)``.
        settle: ``lambda -> None``, measures sensitivities around the model quantised at that lambda, for all later
            attempts; None where there is nothing to measure.
        ample: whether a result loses next to nothing, so that a larger file need not be tried.

    Attributes:
        points: all trials, in order.
        best: the best result so far with its point; it exists after the first attempt.
        ended: whether a search for a size ended below its target because the result there is ample.
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
            size: the size of a point: bytes, or bits per weight.
            target: in the same units.
            start: first lambda.
            doubling: roughly how much the size shrinks when lambda doubles.
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
        """Search for the smallest file whose score is surely at least ``least``, beginning at lambda ``start``."""
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
        self._bracket(least, start, SHORT_STRIDE if self._settle else STRIDE, WITHIN_ACCURACY)
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
        """Take secant steps in log2 lambda until the size is within ``[low, high]`` or the result is ample.

        Also stop where the bounds of lambda are reached, the size does not change any more, or two lambdas around
        ``aim`` are nearly the same. Between two points that enclose ``aim``, the step is regula falsi; an end that
        stays twice counts half (Illinois).
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
        """Bisect log2 lambda until one file holds the accuracy, and another one that does not is hardly smaller."""
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
        """Try smaller files than the smallest that holds, until :data:`BEYOND` in a row do not; not if all hold."""
        held, failed = self.best[0], 0
        if _score(held) < least or all(_score(point) >= least for point in self.points):
            return
        for trial in range(1, TRIALS + 1):
            point = self.at(_rounded(math.log2(_clipped(math.log2(held.lambda_) + trial * SCAN))))
            failed = 0 if _score(point) >= least else failed + 1
            if failed == BEYOND:
                return


def _slope(left: tuple[float, float] | None, right: tuple[float, float] | None, usual: float) -> float:
    """Fall of the size per doubling of lambda between two points, kept within credible bounds.

    It is ``usual`` where a point is missing or the points are not in order.
    """
    if left is None or right is None or right[0] <= left[0]:
        return usual
    return min(max((left[1] - right[1]) / (right[0] - left[0]), usual / 8), usual * 4)


def _clipped(x: float) -> float:
    """Lambda from its log2, within bounds."""
    return min(max(math.pow(2.0, min(max(x, -60.0), 60.0)), LEAST), MOST)


def _rounded(x: float) -> float:
    """Lambda from its log2, rounded to four digits, as a file records it and a user types it."""
    return float(f"{2.0**x:.4g}")


def _score(point: Point) -> float:
    """The score that counts: the lower bound if there is one, else the measured score."""
    score = point.score if point.low is None else point.low
    return -math.inf if score is None else score
