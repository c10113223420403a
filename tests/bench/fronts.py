"""Rate-accuracy points: the Pareto front, the cost at a score, means of ratios. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple


class Point(NamedTuple):
    """What a compression costs (bits per weight or bytes) and the score that is left."""

    cost: float
    score: float


class Cost(NamedTuple):
    """A cost at a score. ``bracketed`` is False when even the cheapest point scores more: then it is an upper bound."""

    value: float
    bracketed: bool = True


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both cost and score, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def cost_at(points: Iterable[Point], score: float) -> Cost | None:
    """The cost at ``score``, linear between the points of the Pareto front; None when no point scores so much."""
    front = pareto(points)
    if not front or front[-1].score < score:
        return None
    if front[0].score >= score:
        return Cost(front[0].cost, bracketed=front[0].score == score)
    low, high = next(pair for pair in pairwise(front) if pair[1].score >= score)
    share = (score - low.score) / (high.score - low.score)
    return Cost(low.cost + share * (high.cost - low.cost))


def least(costs: Iterable[float | None]) -> float | None:
    """The smallest of those that are known."""
    return min((cost for cost in costs if cost is not None), default=None)


def ratio(cost: float | None, reference: float | None) -> float | None:
    """``cost / reference``; None when either is not known."""
    return None if cost is None or not reference else cost / reference


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """Geometric mean of those that are known and positive; None of none."""
    logarithms = [math.log(value) for value in values if value]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None
