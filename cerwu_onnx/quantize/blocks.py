"""Hessians in blocks: columns that are quantised as if their inputs had nothing to do with those of other blocks.

A Hessian ``(G, N, N)`` of B blocks is kept as its diagonal blocks ``(G * B, n, n)`` with ``n = N / B``, which takes one
B-th of the memory, and one B-th squared of the time to factorise. Statistics say how many blocks they have
(:attr:`cerwu_onnx.types.LayerStats.blocks`); what needs matrices to fit cuts them here.
"""

from __future__ import annotations

from cerwu_onnx.types import Float64Array


def cut(matrix: Float64Array, blocks: int) -> Float64Array:
    """Matrices ``(G, M, N)`` as ``(G * B, M, n)``, the blocks of each group one after another; a view of one block."""
    groups, rows, columns = matrix.shape
    parts = matrix.reshape(groups, rows, blocks, columns // blocks).transpose(0, 2, 1, 3)
    stacked: Float64Array = parts.reshape(groups * blocks, rows, columns // blocks)
    return stacked


def joined(parts: Float64Array, blocks: int) -> Float64Array:
    """Invert :func:`cut`."""
    count, rows, columns = parts.shape
    apart = parts.reshape(count // blocks, blocks, rows, columns).transpose(0, 2, 1, 3)
    matrix: Float64Array = apart.reshape(count // blocks, rows, blocks * columns)
    return matrix


def summed(parts: Float64Array, blocks: int) -> Float64Array:
    """Sums over the blocks of each group of what there is for each, ``(G * B, ...)``, as ``(G, ...)``."""
    sums: Float64Array = parts.reshape(len(parts) // blocks, blocks, *parts.shape[1:]).sum(axis=1)
    return sums
