"""Cut matrices into blocks of columns that are quantised as if inputs of different blocks were uncorrelated.

A Hessian ``(G, N, N)`` of B blocks is kept as its diagonal blocks ``(G * B, n, n)`` with ``n = N / B``. That takes a
B-th of the memory, and a B^2-th of the time to factorise. Statistics tell their number of blocks
(:attr:`cerwu_onnx.types.LayerStats.blocks`); code that needs matching matrices cuts them here.
"""

from __future__ import annotations

from cerwu_onnx.types import Float64Array


def cut(matrix: Float64Array, blocks: int) -> Float64Array:
    """Cut matrices ``(G, M, N)`` to ``(G * B, M, n)``, the blocks of a group one after another; one block is a view."""
    groups, rows, columns = matrix.shape
    parts = matrix.reshape(groups, rows, blocks, columns // blocks).transpose(0, 2, 1, 3)
    stacked: Float64Array = parts.reshape(groups * blocks, rows, columns // blocks)
    return stacked


def joined(parts: Float64Array, blocks: int) -> Float64Array:
    """The inverse of :func:`cut`."""
    count, rows, columns = parts.shape
    apart = parts.reshape(count // blocks, blocks, rows, columns).transpose(0, 2, 1, 3)
    matrix: Float64Array = apart.reshape(count // blocks, rows, blocks * columns)
    return matrix


def summed(parts: Float64Array, blocks: int) -> Float64Array:
    """Sum values of blocks ``(G * B, ...)`` over the blocks of each group, to ``(G, ...)``."""
    sums: Float64Array = parts.reshape(len(parts) // blocks, blocks, *parts.shape[1:]).sum(axis=1)
    return sums
