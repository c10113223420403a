"""Do the batches of a pass side by side, in shares of which each keeps its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from cerwu_onnx.jobs.threads import end_if_stopped, side_by_side

R = TypeVar("R")


def by_batch(function: Callable[[int], R], batches: int, shares: int) -> list[R]:
    """Call a function for each batch; batch number i belongs to share ``i % shares``, and shares run side by side.

    Args:
        function: number of a batch -> result. What it adds to must belong to one share.
        batches: how many there are.
        shares: how many shares.

    Returns:
        The results, in the order of the batches.

    Raises:
        Exception: that of the first batch in order which fails.
    """
    numbers = [range(share, batches, shares) for share in range(min(shares, batches))]
    done = side_by_side(lambda own: _until_error(function, own), numbers)
    failed = {len(found) * shares + share: error for share, (found, error) in enumerate(done) if error is not None}
    if failed:
        raise failed[min(failed)]
    return [done[batch % shares][0][batch // shares] for batch in range(batches)]


def _until_error(function: Callable[[int], R], batches: Iterable[int]) -> tuple[list[R], Exception | None]:
    """The results for some batches, as far as there is no error, and the error."""
    found: list[R] = []
    try:
        for batch in batches:
            end_if_stopped()
            found.append(function(batch))
    except Exception as error:  # another share may have one of an earlier batch
        return found, error
    return found, None
