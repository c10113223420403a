"""Lay out an operator's constant operand as a stack of matrices ``(G, M, N)``: one function per operator.

The table in docs/architecture.md, "The canonical layer", is the summary. This module does not import onnx.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cerwu_onnx.types import MatrixLayout

_AS_IS = (0, 1, 2)
_TRANSPOSED = (0, 2, 1)

_NEIGHBOURS = 128
"""The most columns of a matrix if nothing is known of its inputs."""

_NARROW = 16
"""Rows of at least so many columns are worth dividing."""


def conv_layout(shape: tuple[int, ...], groups: int) -> MatrixLayout:
    """Layout of a convolution's weight.

    Args:
        shape: ``(O, C/g, k...)``, one kernel size per spatial axis.
        groups: the attribute ``group``.

    Returns:
        ``g`` matrices of ``O/g`` rows and ``C/g * prod(k)`` columns; columns run over channels, then taps.

    Raises:
        ValueError: the rank is below 3 or ``groups`` does not divide ``O``.
    """
    if len(shape) < 3:
        raise ValueError(f"a convolution weight has at least 3 axes, got shape {shape}")
    if groups < 1 or shape[0] % groups:
        raise ValueError(f"group = {groups} does not divide {shape[0]} output channels")
    return _stack(shape, (groups, shape[0] // groups, math.prod(shape[1:])), transposed=False)


def gemm_layout(shape: tuple[int, ...], side: Literal["A", "B"], transposed: bool) -> MatrixLayout:
    """Layout of the constant operand of Gemm.

    Args:
        shape: the tensor's two dimensions, as stored.
        side: which operand is constant.
        transposed: the attribute ``transA`` or ``transB`` of that operand.

    Returns:
        One matrix whose rows are outputs: ``op(A)``, or ``op(B)`` transposed.

    Raises:
        ValueError: the rank is not 2.
    """
    if len(shape) != 2:
        raise ValueError(f"an operand of Gemm has 2 axes, got shape {shape}")
    return _stack(shape, (1, shape[0], shape[1]), transposed=transposed == (side == "A"))


def matmul_layout(shape: tuple[int, ...], side: Literal["left", "right"]) -> MatrixLayout:
    """Layout of the constant operand of MatMul.

    Args:
        shape: ``(N,)``, ``(b..., M, N)`` on the left or ``(b..., N, M)`` on the right.
        side: where the constant stands.

    Returns:
        ``prod(b)`` matrices; a vector is one matrix of one row.

    Raises:
        ValueError: the tensor has no axis.
    """
    if not shape:
        raise ValueError("an operand of MatMul has at least 1 axis")
    if len(shape) == 1:
        return _stack(shape, (1, 1, shape[0]), transposed=False)
    return _stack(shape, (math.prod(shape[:-2]), shape[-2], shape[-1]), transposed=side == "right")


def conv_transpose_layout(shape: tuple[int, ...], groups: int) -> MatrixLayout:
    """Layout of a transposed convolution's weight.

    Args:
        shape: ``(C, M/g, k...)``, one kernel size per spatial axis.
        groups: the attribute ``group``.

    Returns:
        ``g`` matrices of ``M/g * prod(k)`` rows, which run over output channels, then taps, and ``C/g`` columns.

    Raises:
        ValueError: the rank is below 3 or ``groups`` does not divide ``C``.
    """
    if len(shape) < 3:
        raise ValueError(f"a convolution weight has at least 3 axes, got shape {shape}")
    if groups < 1 or shape[0] % groups:
        raise ValueError(f"group = {groups} does not divide {shape[0]} input channels")
    return _stack(shape, (groups, shape[0] // groups, math.prod(shape[1:])), transposed=True)


def recurrent_layout(shape: tuple[int, ...], operand: Literal["W", "R"]) -> MatrixLayout:
    """Layout of a weight of LSTM, GRU or RNN.

    Args:
        shape: ``(directions, gates * hidden, columns)``.
        operand: W multiplies the input, which all directions share: one matrix that holds the rows of all of them. R
            multiplies each direction's own hidden state: one matrix per direction.

    Raises:
        ValueError: the rank is not 3.
    """
    if len(shape) != 3:
        raise ValueError(f"a recurrent weight has 3 axes, got shape {shape}")
    split = (1, shape[0] * shape[1], shape[2]) if operand == "W" else shape
    return _stack(shape, split, transposed=False)


def einsum_layout(shape: tuple[int, ...], labels: str, operand: str, result: str) -> MatrixLayout:
    """Layout of the constant operand of Einsum.

    Args:
        shape: as stored.
        labels: letters of the constant's axes.
        operand: letters of the variable operand.
        result: letters of the result.

    Returns:
        Groups are the axes that both operands and the result have, rows those that the constant brings in, columns
        those that are summed over; each in the order of ``labels``.

    Raises:
        ValueError: the number of axes differs, or one of the constant is summed over alone.
    """
    if len(labels) != len(shape):
        raise ValueError(f"the letters {labels!r} do not fit the shape {shape}")
    if alone := set(labels) - set(operand) - set(result):
        raise ValueError(f"a sum over {', '.join(sorted(alone))} of one operand alone is not supported")
    groups = [axis for axis, label in enumerate(labels) if label in operand and label in result]
    rows = [axis for axis, label in enumerate(labels) if label not in operand]
    cols = [axis for axis, label in enumerate(labels) if label not in result]
    sizes = (math.prod(shape[axis] for axis in axes) for axes in (groups, rows, cols))
    return MatrixLayout(shape, shape, (*groups, *rows, *cols), *sizes)


def gather_layout(shape: tuple[int, ...]) -> MatrixLayout:
    """Layout of a table whose rows, along the first axis, are looked up.

    Returns:
        One matrix per row of the table, of a single column: its input is 1 where the row is read.

    Raises:
        ValueError: the table has less than 2 axes.
    """
    if len(shape) < 2:
        raise ValueError(f"a table has at least 2 axes, got shape {shape}")
    return _stack(shape, (shape[0], math.prod(shape[1:]), 1), transposed=False)


def operand_layout(shape: tuple[int, ...]) -> MatrixLayout:
    """Layout of a tensor that is no factor of a product: rows of at most 128 neighbouring elements."""
    size = math.prod(shape)
    columns = _divisor(size)
    return _stack(shape, (1, size // columns, columns), transposed=False)


def narrowed(layout: MatrixLayout) -> MatrixLayout:
    """Layout of a weight if nothing is known of its inputs: its rows in pieces of at most 128 columns.

    Where each row is a single number (a table), the pieces hold neighbouring elements of the tensor instead.
    """
    length = layout.cols
    if length == 1 and layout.perm == tuple(range(len(layout.perm))):
        length = layout.shape[-1]
    columns = _divisor(length)
    if columns < min(length, _NARROW):
        return layout
    return replace(layout, groups=1, rows=layout.size // columns, cols=columns)


def _divisor(size: int) -> int:
    """The largest divisor that is at most :data:`_NEIGHBOURS`."""
    return next(width for width in range(min(size, _NEIGHBOURS), 0, -1) if size % width == 0)


@dataclass(frozen=True, slots=True)
class Move:
    """A reshape or a transpose of a tensor, whichever is not None."""

    shape: tuple[int, ...] | None = None
    perm: tuple[int, ...] | None = None

    def apply(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape after the move."""
        return tuple(shape[axis] for axis in self.perm) if self.shape is None and self.perm else self.shape or ()


def moved_layout(layout: MatrixLayout, shape: tuple[int, ...], moves: Sequence[Move]) -> MatrixLayout:
    """The layout of a tensor that ``layout`` describes only after some moves.

    Args:
        layout: layout of the tensor after the moves.
        shape: shape of the tensor before the moves.
        moves: the moves, in order.

    Returns:
        A layout that makes the same matrices from the tensor before the moves.

    Raises:
        ValueError: a reshape mixes axes in a way that no reshape and transpose of the tensor can express.
    """
    if not moves:
        return layout
    parts = _Parts(shape)
    for move in (*moves, Move(shape=layout.split), Move(perm=layout.perm)):
        parts.move(move)
    split = tuple(parts.sizes[part] for part in parts.original)
    perm = tuple(parts.original.index(part) for part in parts.moved)
    return MatrixLayout(shape, split, perm, layout.groups, layout.rows, layout.cols)


class _Parts:
    """The index of a tensor's elements as a mixed radix, divided into the places that transposes need.

    Attributes:
        sizes: size of each place, by number.
        original: the places in the order of the tensor's elements.
        moved: the places in their order after the moves so far.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.sizes = {0: math.prod(shape)}
        self.original, self.moved = [0], [0]
        self._shape = shape

    def move(self, move: Move) -> None:
        if move.perm is not None:
            axes = self._axes()
            self.moved = [part for axis in move.perm for part in axes[axis]]
        self._shape = move.apply(self._shape)

    def _axes(self) -> list[list[int]]:
        """The places of each axis."""
        left, axes = self.moved, []
        for size in self._shape:
            axis: list[int] = []
            while size > 1:
                if size % self.sizes[left[0]]:
                    left = [*self._divide(left[0], size), *left[1:]]
                axis.append(left[0])
                size //= self.sizes[left[0]]
                left = left[1:]
            axes.append(axis)
        return axes

    def _divide(self, part: int, size: int) -> tuple[int, int]:
        """Divide a place into one of ``size`` and one for the rest; return their numbers."""
        if self.sizes[part] % size:
            raise ValueError("a reshape on the way mixes its axes")
        new = len(self.sizes), len(self.sizes) + 1
        self.sizes |= {new[0]: size, new[1]: self.sizes[part] // size}
        place = self.original.index(part)
        self.original[place : place + 1] = new
        return new


def _stack(shape: tuple[int, ...], split: tuple[int, int, int], *, transposed: bool) -> MatrixLayout:
    """Reshape to ``split`` = (groups, first, second); with ``transposed``, the second axis is the rows."""
    groups, first, second = split
    rows, cols = (second, first) if transposed else (first, second)
    perm = _TRANSPOSED if transposed else _AS_IS
    return MatrixLayout(shape=shape, split=split, perm=perm, groups=groups, rows=rows, cols=cols)
