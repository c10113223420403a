"""Search for the price (lambda) at which the file meets a target size, or the model a target accuracy.

Size and accuracy both fall as lambda grows. High-rate theory says how fast the size falls: half a bit per weight for
each doubling of lambda. A step from one measured size therefore lands near the target, and secants converge from there.
Scores fall about in proportion to lambda, but those of files with nearly the same lambda scatter. So a search for an
accuracy tries pairs of files: two far from each other tell where the limit lies, two around it tell it better, and one
more may follow. The files of a pair do not depend on each other, and may be made side by side. Each trial measures a
whole file.

Where sensitivities can be measured around the quantised model, a search has two parts: the first gets near the target,
then the sensitivities are measured there, and the second part ends at the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from cerwu_onnx.report import Point

T = TypeVar("T")

BITS_PER_DOUBLING = 0.5
"""Bits per weight that a doubled lambda saves, by high-rate theory."""

LEAST, MOST = 2.0**-20, 2.0**12
"""The search tries no lambda outside these bounds."""

WITHIN = 0.01
"""A size target is met by a file that is at most this share below it."""

NEAR_SIZE = 0.12
"""The same share in the first part of a search; the size may there also be above its target."""

TRIALS = 10
"""The most files that one part of a search tries."""

GIVE_UP = 8
"""A search for an accuracy ends if none of so many files holds it."""

STRIDE, SHORT_STRIDE, LONG_STRIDE = 2.0, 0.5, 4.0
"""Distances in log2 lambda: of the first two files, in the first and the second part; and the longest step."""

NEIGHBOUR = 0.25
"""The next two are so far from where the limit should lie, in log2 lambda."""

BEYOND = 0.2
"""A fifth one is tried if the limit seems to be further than this beyond the largest lambda that holds."""


def most_trials(settles: bool) -> int:
    """The most files that a search tries, by whether it has two parts."""
    return TRIALS * (1 + settles)


class Search(Generic[T]):
    """Tries prices and keeps the best result.

    Args:
        attempt: lambdas -> (point, result) of each; they do not depend on each other.
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
        attempt: Callable[[Sequence[float]], Sequence[tuple[Point, T]]],
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
        self._rank = lambda point: (  # of files of one size, that of the smallest lambda loses least
            (1, size(point), -point.lambda_) if size(point) <= target else (0, -size(point))
        )
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

    def to_accuracy(self, before: float, least: float, start: float) -> None:
        """Search for the smallest file whose score is surely at least ``least``.

        Args:
            before: the score of the float model.
            least: the least score.
            start: first lambda.
        """
        self._rank = lambda point: (
            (1, -point.file_bytes) if _score(point) >= least else (0, _score(point), -point.file_bytes)
        )
        if self._settle is not None:
            self._pairs(before, least, start, STRIDE)
            near = self.best[0]
            if _score(near) < least:
                return
            self._settle(near.lambda_)
            start = near.lambda_
        self._pairs(before, least, start, SHORT_STRIDE if self._settle else STRIDE)

    def at(self, price: float) -> Point:
        """Try one lambda."""
        return self._try([price])[0]

    def _try(self, prices: Sequence[float]) -> list[Point]:
        """Try some lambdas."""
        found = self._attempt(prices)
        for point, result in found:
            self._last_is_ample = self._ample(result)
            if not self.points or self._rank(point) > self._rank(self.best[0]):
                self.best = point, result
            self.points.append(point)
        return [point for point, _ in found]

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

    def _pairs(self, before: float, least: float, start: float, apart: float) -> None:
        """Try two files far from each other, two around where the limit should lie, and one where it lies by these.

        Scores scatter, so a file that loses too much does not mean that all smaller ones do. More are tried, one at a
        time, while none holds, or the limit is far beyond all of them.

        Args:
            before: the score of the float model.
            least: the least score.
            start: first lambda.
            apart: distance of the second one, in log2 lambda.
        """
        x = math.log2(start)
        tried = self._try(_lambdas(x, x + apart))
        for _ in range(TRIALS):
            ordered = sorted(tried, key=lambda point: point.lambda_)
            lowest, highest = (math.log2(ordered[end].lambda_) for end in (0, -1))
            limit = min(max(_limit(tried, before, least), lowest - LONG_STRIDE), highest + LONG_STRIDE)
            held = next((math.log2(point.lambda_) for point in ordered[::-1] if _score(point) >= least), None)
            if len(tried) == 2:
                x = limit if held is None else max(limit, held + 1.2 * NEIGHBOUR)
                logs = [x - NEIGHBOUR, x + NEIGHBOUR]
            elif held is None:
                if len(tried) >= GIVE_UP:
                    return
                x = max(min(limit, lowest) - SHORT_STRIDE * (len(tried) - 2) / 2, lowest - LONG_STRIDE)
                logs = [x]
            elif len(tried) == 4 and limit - held > BEYOND:
                logs = [limit]
            else:
                shrinks = ordered[-1].file_bytes < 0.995 * ordered[-2].file_bytes
                if held < highest or limit - held <= 1 or not shrinks:
                    return
                logs = [limit]
            tried += self._try(_lambdas(*logs))


def _lambdas(*logs: float) -> list[float]:
    """Lambdas from their log2, within bounds and rounded."""
    return [_rounded(math.log2(_clipped(log))) for log in logs]


def _limit(tried: Sequence[Point], before: float, least: float) -> float:
    """Where log2 lambda loses as much as it may, if the score falls in proportion to lambda: by least squares.

    Files that lose more than four times as much count only where the limit would else lie beyond them.
    """
    drop, limit = before - least, math.inf
    near, total = 0.0, 0.0
    lost = [(point.lambda_, before - _score(point)) for point in tried]
    for price, found in sorted(lost, key=lambda one: (one[1] > 4 * drop, one[0])):
        if found <= 4 * drop or limit > price:
            near, total = near + price * found, total + price**2
            limit = drop * total / near if near > 0 else math.inf
    return math.log2(min(max(limit, LEAST), MOST))


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
