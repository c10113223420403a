"""Turn an operator's input into the columns ``x`` that its weight multiplies.

:func:`columns` gives an array ``(G, P, N)`` of groups, positions and columns of the canonical matrix, such that
``W[g] @ x[g, p]`` is one position of the operator's output. In memory it lies as ``(G, N, P)``, which copies
fastest and suits ``x x^T`` as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from cerwu_onnx.calibration.windows import Windows, copies
from cerwu_onnx.types import ConvPatch, EinsumPatch, GatherPatch, HiddenPatch, MatMulPatch

Float32Array = npt.NDArray[np.float32]

PARTS = 8
"""So many parts of the samples of a batch have positions of their own, where not all are taken."""


@dataclass(frozen=True, slots=True)
class _View:
    """A view of an activation whose axes are groups, then columns, then positions, with the number of axes of each."""

    array: npt.NDArray[Any]
    group_axes: int
    column_axes: int

    @property
    def first_position(self) -> int:
        return self.group_axes + self.column_axes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes of the positions."""
        return self.array.shape[self.first_position :]

    @property
    def size(self) -> int:
        return self.array.size

    def some(self, strides: Sequence[int], starts: npt.NDArray[np.intp]) -> _View:
        """Choose positions; they become one axis.

        Args:
            strides: along each axis of the positions.
            starts: ``(parts, axes)``, where to begin along each axis, for each of some parts of the first one.
        """
        parts = np.array_split(self.array, len(starts), axis=self.first_position)
        kept, chosen = self.array.shape[: self.first_position], []
        for part, start in zip(parts, starts, strict=True):
            steps = (slice(at, None, step) for at, step in zip(start, strides, strict=True))
            where: tuple[Any, ...] = (Ellipsis, *steps)
            chosen.append(part[where])
        flat = [part.reshape(*kept, -1) for part in chosen]
        return _View(np.concatenate(flat, axis=-1), self.group_axes, self.column_axes)

    def halves(self, axis: int, at: int) -> tuple[_View, _View]:
        """Cut an axis of the positions."""
        first, second = np.split(self.array, [at], axis=self.first_position + axis)
        return _View(first, self.group_axes, self.column_axes), _View(second, self.group_axes, self.column_axes)

    def copy(self) -> Float32Array:
        """The view as an array ``(G, P, N)``, float32."""
        shape = self.array.shape
        groups = math.prod(shape[: self.group_axes])
        cols = math.prod(shape[self.group_axes : self.first_position])
        dense: Float32Array = np.ascontiguousarray(self.array, dtype=np.float32)
        stacked: Float32Array = dense.reshape(groups, cols, math.prod(self.sizes))
        return np.swapaxes(stacked, 1, 2)


def columns(patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any]) -> Float32Array:
    """All columns of one activation.

    Args:
        patch: how the operator reads its input.
        x: the activation: ``(B, C, spatial...)`` for a convolution, any rank from 1 for a matrix product, one or all
            of its states for a recurrence, the variable operand of an Einsum, the indices of a Gather.

    Returns:
        ``(G, P, N)`` float32.

    Raises:
        ValueError: the shape of ``x`` does not fit the patch.
    """
    return _view(patch, x).copy()


def positions(patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any]) -> int:
    """How many positions P an activation has; arguments and errors as for :func:`columns`."""
    return math.prod(_shape(patch, x)[1])


def iter_columns(
    patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any], max_bytes: int = 16 << 20, one_in: int = 1, seed: int = 0
) -> Iterator[Float32Array]:
    """The columns of one activation in pieces.

    Args:
        patch: how the operator reads its input.
        x: the activation, as in :func:`columns`.
        max_bytes: no piece is larger, unless it is a single position.
        one_in: take about one of so many positions, or more: every second one, say, along some axes, from a start that
            is drawn anew for each few samples. They are the same ones in activations of the same shape.
        seed: of these draws.

    Yields:
        ``(G, P_i, N)`` float32; every position, or every chosen one, is in exactly one piece, in no particular order.

    Raises:
        ValueError: the shape of ``x`` does not fit the patch.
    """
    for (cols,) in iter_together([(patch, x)], max_bytes, one_in, seed):
        yield cols


def iter_together(
    sources: Sequence[tuple[ConvPatch | MatMulPatch, npt.NDArray[Any]]],
    max_bytes: int = 16 << 20,
    one_in: int = 1,
    seed: int = 0,
) -> Iterator[tuple[Float32Array, ...]]:
    """The columns of several activations at the same positions, in pieces.

    Args:
        sources: activations, each with how an operator reads it; the first one bounds the size of a piece.
        max_bytes: as for :func:`iter_columns`, like the following ones.
        one_in: one of so many positions.
        seed: of the draws.

    Yields:
        ``(G, P_i, N)`` float32 for each activation.

    Raises:
        ValueError: the shape of an activation does not fit its patch, or they have different positions.
    """
    views = [_view(*source) for source in sources]
    shapes = {view.sizes for view in views}
    if len(shapes) > 1:
        raise ValueError(f"positions of shapes {sorted(shapes)} are not the same")
    pending = [views]
    pieces = 0
    while pending:
        views = pending.pop()
        first = views[0]
        if first.size == 0:
            continue
        sizes = first.sizes
        if first.size * 4 <= max_bytes * one_in or max(sizes, default=1) == 1:
            if one_in > 1 and sizes:
                strides, starts = _choice(sizes, one_in, (seed, pieces))
                views = [view.some(strides, starts) for view in views]
            yield tuple(view.copy() for view in views)
            pieces += 1
            continue
        axis = int(np.argmax(sizes))
        halves = zip(*(view.halves(axis, sizes[axis] // 2) for view in views), strict=True)
        pending += [list(half) for half in halves][::-1]


def _choice(sizes: Sequence[int], one_in: int, seed: tuple[int, int]) -> tuple[list[int], npt.NDArray[np.intp]]:
    """Strides along the axes of the positions, and where to begin, for :meth:`_View.some`.

    The first axis is that of samples, if there are others: all are looked at while that does not take too many
    positions. Every position has the same chance.
    """
    strides, left = [1] * len(sizes), float(one_in)
    inner = sorted(range(1, len(sizes)), key=lambda axis: sizes[axis])
    for done, axis in enumerate(inner):
        share = left ** (1 / (len(inner) - done))
        strides[axis] = min(sizes[axis], round(share) if done < len(inner) - 1 else int(share))
        left /= strides[axis]
    strides[0] = min(sizes[0], max(1, int(left)))
    parts = 1 if strides[0] > 1 else min(sizes[0], PARTS)
    starts = np.random.default_rng(seed).integers(0, strides, (parts, len(strides)))
    return strides, starts


def column_shape(patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any]) -> tuple[int, tuple[int, ...], int] | None:
    """Groups, shape of the positions, and columns of an activation; None if its shape does not fit the patch."""
    try:
        return _shape(patch, x)
    except ValueError:
        return None


def _shape(patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any]) -> tuple[int, tuple[int, ...], int]:
    """As :func:`column_shape`; raises ValueError if the shape does not fit. No convolution is padded for it."""
    if isinstance(patch, ConvPatch):
        outputs = _outputs(patch, x, *_padding(patch, x))
        return patch.groups, (len(x), *outputs), x.shape[1] // patch.groups * math.prod(patch.kernel)
    view = _operand_view(patch, x)
    groups, columns = view.array.shape[: view.group_axes], view.array.shape[view.group_axes : view.first_position]
    return math.prod(groups), view.sizes, math.prod(columns)


def _outputs(
    patch: ConvPatch, x: npt.NDArray[Any], begins: Sequence[int], ends: Sequence[int], extent: Sequence[int]
) -> list[int]:
    """Lengths of the spatial axes of a convolution's output."""
    spans = zip(begins, x.shape[2:], ends, extent, patch.strides, strict=True)
    return [(begin + size + end - need) // stride + 1 for begin, size, end, need, stride in spans]


def _view(patch: ConvPatch | MatMulPatch, x: npt.NDArray[Any]) -> _View | Windows:
    if not isinstance(patch, ConvPatch):
        return _operand_view(patch, x)
    begins, ends, extent = _padding(patch, x)
    if not copies(patch, (*begins, *ends)):
        return _conv_view(patch, x)
    outputs = _outputs(patch, x, begins, ends, extent)
    return Windows(x, patch, begins, ((range(len(x)), *map(range, outputs)),))


def _operand_view(patch: MatMulPatch, x: npt.NDArray[Any]) -> _View:
    if isinstance(patch, HiddenPatch):
        x = _read_states(patch, x)
    elif isinstance(patch, EinsumPatch):
        x = _in_order(patch, x)
    elif isinstance(patch, GatherPatch):
        x = _counts(patch, x)
    return _matmul_view(patch, x)


def _conv_view(patch: ConvPatch, x: npt.NDArray[Any]) -> _View:
    """``(g, C/g, k..., B, out...)``: channels and taps are columns; samples and outputs are positions."""
    begins, ends, extent = _padding(patch, x)
    if any(begins) or any(ends):
        x = np.pad(x, [(0, 0), (0, 0), *zip(begins, ends, strict=True)])
    rank = len(patch.kernel)
    spatial = tuple(range(2, 2 + rank))
    windows = sliding_window_view(x, extent, axis=spatial)
    steps = (1, 1, *patch.strides, *patch.dilations)
    windows = windows[tuple(slice(None, None, step) for step in steps)]
    shape = windows.shape
    grouped = windows.reshape(shape[0], patch.groups, shape[1] // patch.groups, *shape[2:])
    outputs = tuple(range(3, 3 + rank))
    taps = tuple(range(3 + rank, 3 + 2 * rank))
    return _View(grouped.transpose(1, 2, *taps, 0, *outputs), group_axes=1, column_axes=1 + rank)


def _padding(patch: ConvPatch, x: npt.NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Numbers of zeros before and after each spatial axis, and the extent of the kernel.

    SAME pads to ``ceil(size / stride)`` outputs.

    Raises:
        ValueError: the shape does not fit.
    """
    rank, sizes = len(patch.kernel), x.shape[2:]
    if x.ndim != rank + 2:
        raise ValueError(f"a {rank}-D convolution reads {rank + 2} axes, got shape {x.shape}")
    if x.shape[1] % patch.groups:
        raise ValueError(f"{x.shape[1]} channels cannot be split in {patch.groups} groups")
    extent = tuple((k - 1) * d + 1 for k, d in zip(patch.kernel, patch.dilations, strict=True))
    begins, ends = patch.pads[:rank], patch.pads[rank:]
    if patch.auto_pad == "VALID":
        begins = ends = (0,) * rank
    elif patch.auto_pad != "NOTSET":
        totals = [
            max((-(-size // stride) - 1) * stride + span - size, 0)
            for size, stride, span in zip(sizes, patch.strides, extent, strict=True)
        ]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begins, ends = (less, more) if patch.auto_pad == "SAME_UPPER" else (more, less)
    padded = (begin + size + end for begin, size, end in zip(begins, sizes, ends, strict=True))
    if any(size < need for size, need in zip(padded, extent, strict=True)):
        raise ValueError(f"the kernel {extent} is larger than the padded input {x.shape[2:]}")
    return begins, ends, extent


def _matmul_view(patch: MatMulPatch, x: npt.NDArray[Any]) -> _View:
    """``(constant's batch..., N, operand's own batch..., rows)``.

    A batch axis of the constant longer than 1 is a group axis: there the operand is split, or repeated if it
    has length 1. All other batch axes of the operand are positions.
    """
    if x.ndim == 0:
        raise ValueError("an operand of MatMul has at least 1 axis")
    if x.ndim == 1:
        x = x[None, :]
    elif patch.axis == -2:
        x = x.swapaxes(-1, -2)
    own = x.shape[:-2]
    rank = max(len(own), len(patch.batch))
    constant = (1,) * (rank - len(patch.batch)) + patch.batch
    own = (1,) * (rank - len(own)) + own
    if any(c > 1 and o not in (1, c) for o, c in zip(own, constant, strict=True)):
        raise ValueError(f"batch axes {own} do not fit the constant's {patch.batch}")
    repeated = tuple(c if c > 1 else o for o, c in zip(own, constant, strict=True))
    x = np.broadcast_to(x.reshape(*own, *x.shape[-2:]), (*repeated, *x.shape[-2:]))
    group_axes = [axis for axis in range(rank) if constant[axis] > 1]
    position_axes = [axis for axis in range(rank) if constant[axis] <= 1]
    view = x.transpose(*group_axes, rank + 1, *position_axes, rank)
    return _View(view, group_axes=len(group_axes), column_axes=1)


def _read_states(patch: HiddenPatch, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(D, steps, B, H)``: the states that some step multiplies; empty if there is only one step."""
    if x.ndim not in (3, 4):
        raise ValueError(f"hidden states have 3 or 4 axes, got shape {x.shape}")
    if patch.batch_first:
        x = np.moveaxis(x, 0, -2)
    if x.ndim == 3:
        return x[:, None]
    if x.shape[1] != len(patch.reverse):
        raise ValueError(f"hidden states of {x.shape[1]} directions, the weight has {len(patch.reverse)}")
    return np.stack([x[1:, d] if reverse else x[:-1, d] for d, reverse in enumerate(patch.reverse)])


def _in_order(patch: EinsumPatch, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(G, positions, N)``: the axes that are neither groups nor columns are positions."""
    if any(not -x.ndim <= axis < x.ndim for axis in (*patch.groups, *patch.columns)):
        raise ValueError(f"an operand of Einsum of too few axes, shape {x.shape}")
    groups, columns = ([axis % x.ndim for axis in axes] for axes in (patch.groups, patch.columns))
    positions = [axis for axis in range(x.ndim) if axis not in (*groups, *columns)]
    sizes = (math.prod(x.shape[axis] for axis in axes) for axes in (groups, positions, columns))
    ordered: npt.NDArray[Any] = x.transpose(*groups, *positions, *columns).reshape(*sizes)
    return ordered


def _counts(patch: GatherPatch, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Roots of the (smoothed) counts of each index, ``(V, 1, 1)``; ``(V, 0, 1)`` without indices.

    Negative indices count from the end.
    """
    (rows,) = patch.batch
    if x.size and (x.min() < -rows or x.max() >= rows):
        raise ValueError(f"an index is out of range for {rows} rows")
    counts = np.bincount(x.ravel() % rows, minlength=rows) + x.size / rows
    return np.sqrt(counts)[:, None, None] if x.size else np.zeros((rows, 0, 1))
