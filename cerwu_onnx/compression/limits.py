"""What a compression may be asked for, and whether its file holds the target: size, and what is left of a score."""

from __future__ import annotations

from cerwu_onnx.compression.encode import Coded
from cerwu_onnx.config import UNPRICED, Settings, Target
from cerwu_onnx.errors import CalibrationError, CheckFailed, UsageError
from cerwu_onnx.evaluate.confidence import least_share
from cerwu_onnx.evaluate.metrics import Measured
from cerwu_onnx.report import Point, Scores


def check_request(settings: Settings, target: Target, *, data: bool, cluster: bool) -> None:
    """Refuse targets that the method cannot look for, and a cluster for work that cannot be shared.

    Args:
        settings: of the compression.
        target: of the compression.
        data: whether there is calibration data.
        cluster: whether a cluster shall do the work.

    Raises:
        UsageError: it is asked for.
    """
    if target.searches and settings.method in UNPRICED:
        raise UsageError(f"method {settings.method} has no lambda to search over: its size follows from --levels alone")
    if (target.searches or target.fidelity is not None) and settings.lambda_ is not None:
        raise UsageError("lambda and a target exclude each other: the search finds lambda")
    if target.fidelity is not None and (settings.method != "trellis" or not data):
        raise UsageError("a fidelity is judged on calibration data, by the method trellis: give --calib")
    if cluster and settings.method == "trellis" and data:
        raise UsageError(
            "trellis with calibration data quantises a layer on what the layers before it give: a cluster can share "
            "many models (--out-dir) or many lambdas (sweep), not the layers of one"
        )


def check_delta(settings: Settings, target: Target) -> None:
    """Refuse what deltas do not support.

    Raises:
        UsageError: it is asked for.
    """
    if settings.method != "trellis":
        raise UsageError(f"a base is for the method trellis, not {settings.method}: its steps are those of the base")
    if target.size is not None or target.bits_per_weight is not None:
        raise UsageError("a delta has no target size: give --fidelity, --max-drop or --lambda")
    if settings.in_place:
        raise UsageError("a delta is decoded beside its base, not in place")


def check_size(point: Point, coded: Coded, target: Target) -> None:
    """Refuse a file that is larger than the target or limit allows.

    Raises:
        CheckFailed: it is larger.
    """
    size, rest = len(coded.content), sum(coded.other_bytes.values())
    if target.size is not None and size > target.size:
        raise CheckFailed(
            f"no file of at most {target.size:,} bytes: the smallest found has {size:,} (lambda {point.lambda_:g}), "
            f"{rest:,} of which are not weights; nothing was written"
        )
    if target.bits_per_weight is not None and point.bits_per_weight > target.bits_per_weight:
        raise CheckFailed(
            f"no file of at most {target.bits_per_weight:g} bits per weight: the smallest found has "
            f"{point.bits_per_weight:.3f} (lambda {point.lambda_:g}); nothing was written"
        )
    if target.fail_above is not None and size > target.fail_above:
        raise CheckFailed(
            f"the file would have {size:,} bytes, {size - target.fail_above:,} above the limit of "
            f"{target.fail_above:,}; nothing was written"
        )


def broken_limits(scores: Scores, target: Target) -> tuple[str, ...]:
    """One sentence for each limit of accuracy that the file does not hold."""
    lost = f"{scores.metric} falls from {scores.float_score:.6g} to {scores.score:.6g}, by {100 * scores.drop:.3g} %"
    found = []
    if target.max_drop is not None and not (scores.score if scores.low is None else scores.low) >= least(
        scores.float_score, target.max_drop
    ):
        limit, sure = f"the largest drop of {100 * target.max_drop:.6g} %", scores.surely()
        found.append(f"no file found holds {limit}; this is the best: {lost}{sure and f', {sure}'}")
    if target.fail_drop is not None and not scores.score >= least(scores.float_score, target.fail_drop):
        found.append(f"the limit is {100 * target.fail_drop:.6g} %: {lost}")
    return tuple(found)


def least(score: float, drop: float) -> float:
    """The score that is left after a drop."""
    return score - drop * abs(score)


def check_samples(before: Measured, target: Target) -> None:
    """Refuse a largest drop that so few samples could not confirm, even if both models gave the same answers.

    Raises:
        CalibrationError: there are too few samples.
    """
    if target.max_drop is None or before.answers is None:
        return
    share = least_share(before.answers, before.answers, target.confidence)
    if share < 1 - target.max_drop:
        raise CalibrationError(
            f"metric {target.metric}: {len(before.answers)} samples cannot show with {100 * target.confidence:g} % "
            f"confidence that no more than {100 * target.max_drop:.6g} % is lost, {100 * (1 - share):.2g} % at best: "
            "give more --metric-data, or a lower --confidence (50% leaves no margin)"
        )
