"""Decode all tensors of a file by threads, ahead of whoever asks for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.jobs.threads import session_threads, shared

if TYPE_CHECKING:
    from cerwu_onnx.container.reader import Container

BATCH = 1 << 25
"""Elements of the tensors that are decoded together; of two batches at most, nobody may have asked for one yet."""

ADAPTIVE = 4
"""How many times as long the adaptive coder takes for an element."""

_Arrays: TypeAlias = list[npt.NDArray[Any]]
_Started: TypeAlias = tuple[Sequence[f.Record], list[tuple[list[int], "Future[_Arrays]"]]]


def decode_all(container: Container) -> Iterator[npt.NDArray[Any]]:
    """Every tensor as :meth:`Container.decode` returns it, in file order.

    Threads begin at once, before the first tensor is asked for.

    Raises:
        CorruptFileError: on the way, where a check of a tensor fails.
    """
    workers = session_threads() or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    batches = (_started(container, batch, pool, workers) for batch in _batches(container.tensors))
    ahead = deque(islice(batches, 2))

    def arrays() -> Iterator[npt.NDArray[Any]]:
        with pool:
            while ahead:
                yield from _finished(container, *ahead.popleft())
                ahead.extend(islice(batches, 1))

    return arrays()


def _batches(records: Sequence[f.Record]) -> Iterator[Sequence[f.Record]]:
    """The records in turn, as many together as :data:`BATCH` allows."""
    first, elements = 0, 0
    for end, record in enumerate(records):
        if end > first and elements + record.count > BATCH:
            yield records[first:end]
            first, elements = end, 0
        elements += record.count
    if records:
        yield records[first:]


def _started(container: Container, batch: Sequence[f.Record], pool: ThreadPoolExecutor, workers: int) -> _Started:
    """Begin to decode a batch: its tensors, largest first, go to the worker who has the least to do."""
    costs = [record.count * (1 if record.kind is f.Kind.ANS else ADAPTIVE) for record in batch]
    shares = shared(costs, min(workers, len(batch)))
    return batch, [(share, pool.submit(container.decode_list, [batch[place] for place in share])) for share in shares]


def _finished(
    container: Container, batch: Sequence[f.Record], shares: list[tuple[list[int], Future[_Arrays]]]
) -> Iterator[npt.NDArray[Any]]:
    """The tensors of a batch, in its order."""
    found: dict[int, npt.NDArray[Any]] = {}
    try:
        for share, future in shares:
            found.update(zip(share, future.result(), strict=True))
    except CorruptFileError:
        for record in batch:  # the first that is damaged, on any number of cores
            container.decode(record)
        raise
    for place in range(len(batch)):
        yield found.pop(place)


__all__ = ["decode_all"]
