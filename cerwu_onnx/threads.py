"""How many threads matrix products take."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController

LARGE = 1024
"""Columns from which a Hessian's products and factors gain from more than one thread.

Threads of smaller ones wait for each other more than they compute, twenty times as long where other processes hold a
core.
"""


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Until the end of the context one thread, if matrices have fewer than :data:`LARGE` columns."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1 if columns < LARGE else None, user_api="blas")
    return limits


@cache
def _libraries() -> ThreadpoolController:
    """Those of numpy and scipy. To look for them takes a millisecond."""
    return ThreadpoolController()
