"""Data types shared by all stages: layouts, sites, layers, statistics and quantised tensors. No heavy imports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class MatrixLayout:
    """The layout of an initializer's elements as a stack of matrices (groups G, rows M, columns N).

    Rows are outputs, columns are inputs (x kernel taps). ``split`` is a reshape of the initializer, ``perm`` a
    transpose of that, and the result is reshaped to ``(G, M, N)``.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    perm: tuple[int, ...]
    groups: int
    rows: int
    cols: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def to_matrix(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn a tensor of ``shape`` into a stack ``(G, M, N)`` of the same dtype."""
        stacked = tensor.reshape(self.split).transpose(self.perm)
        return np.ascontiguousarray(stacked.reshape(self.groups, self.rows, self.cols))

    def to_tensor(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of :meth:`to_matrix`."""
        permuted = [self.split[axis] for axis in self.perm]
        tensor = matrix.reshape(permuted).transpose(np.argsort(self.perm)).reshape(self.shape)
        return np.ascontiguousarray(tensor)

    @property
    def transposed(self) -> MatrixLayout | None:
        """That of the transposed matrices, ``(G, N, M)``; None where rows and columns share an axis of the split."""
        sizes = [self.split[axis] for axis in self.perm]
        ends = [math.prod(sizes[:end]) for end in range(len(sizes) + 1)]
        if not {self.groups, self.groups * self.rows} <= {*ends}:
            return None
        first, second = ends.index(self.groups), ends.index(self.groups * self.rows)
        perm = self.perm[:first] + self.perm[second:] + self.perm[first:second]
        return replace(self, perm=perm, rows=self.cols, cols=self.rows)

    def of_rows(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn numbers of rows ``(G, M)`` into an array to which a tensor of ``shape`` broadcasts."""

        def rows(elements: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
            places = np.unravel_index(elements, self.split)
            moved = tuple(places[axis] for axis in self.perm), tuple(self.split[axis] for axis in self.perm)
            return np.ravel_multi_index(*moved) // self.cols

        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        lines = [np.arange(length) * stride for length, stride in zip(self.shape, strides, strict=True)]
        lines = [line if np.ptp(rows(line)) else line[:1] for line in lines]
        elements: npt.NDArray[np.intp] = sum(np.ix_(*lines), np.intp(0))
        found: npt.NDArray[Any] = values.ravel()[rows(elements)]
        return found


@dataclass(frozen=True, slots=True)
class ConvPatch:
    """How a convolution's input becomes columns: im2col.

    ``kernel``, ``strides``, ``dilations`` have one entry per spatial axis; ``pads`` has the begins, then the ends (ONNX
    order) and is ignored unless ``auto_pad`` is NOTSET.
    """

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: Literal["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"] = "NOTSET"


@dataclass(frozen=True, slots=True)
class MatMulPatch:
    """How the variable operand of a matrix product becomes columns.

    ``axis`` is the axis of that operand that is summed over: -1 (the constant stands on the right) or -2 (on the left).
    A one-dimensional operand is a single column in both cases. ``batch`` is the batch shape of the constant; the
    operand is broadcast against it.
    """

    axis: Literal[-1, -2]
    batch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HiddenPatch(MatMulPatch):
    """How a recurrent operator's own hidden states become columns: a matrix product with one matrix per direction.

    The operand is either the state before the first step, ``(D, B, H)``, which is read as it is, or the states after
    each of T steps, ``(T, D, B, H)``; a direction reads all of these but its own last one. They are multiplied as
    ``(D, steps, B, H)``, so ``batch`` is ``(D, 1)``.

    Attributes:
        reverse: for each direction, whether step t reads the state of t + 1 rather than that of t - 1.
        batch_first: the operand is ``(B, D, H)`` or ``(B, T, D, H)`` (the attribute ``layout`` is 1).
    """

    reverse: tuple[bool, ...] = (False,)
    batch_first: bool = False


@dataclass(frozen=True, slots=True)
class EinsumPatch(MatMulPatch):
    """How the variable operand of Einsum becomes columns: a matrix product once its axes are in order.

    It is multiplied as ``(G, positions, N)``, so ``batch`` is ``(G,)``. Axes are counted from the end if an
    ellipsis stands before them.

    Attributes:
        groups: axes that the result and the constant have, too.
        columns: axes that are summed over, in the order of the constant's columns.
    """

    groups: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GatherPatch(MatMulPatch):
    """How the indices of Gather become columns: a product with one matrix of a single column per row of the table.

    The operand holds P indices, of any shape. For a table of V rows it becomes a single position ``(V, 1, 1)``. Its
    square is the number of times that each row is read, plus P / V: rows that calibration reads rarely or never must
    still count. ``(V,)``.
    """


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a weight multiplies an activation: the node, the activation's name, and how it becomes columns."""

    node: str
    op: str
    activation: str
    patch: ConvPatch | MatMulPatch


@dataclass(frozen=True, slots=True)
class Reader:
    """A node that reads a weight in a way for which no statistics are collected.

    Attributes:
        node: its name.
        op: its operator.
        inside: label of the node whose body holds it; None in the main graph.
    """

    node: str
    op: str
    inside: str | None = None


@dataclass(frozen=True, slots=True)
class Bias:
    """A constant that is added, times ``factor``, to the outputs of one layer and to nothing else."""

    name: str
    factor: float


@dataclass(frozen=True, slots=True)
class Norm:
    """BatchNormalization of a layer's outputs u: ``scale * (u - mean) / sqrt(variance + epsilon) + shift``.

    All but ``epsilon`` are names of constants, one value per output, that nothing else reads.
    """

    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float


@dataclass(frozen=True, slots=True)
class Residual:
    """A value that is added to a layer's outputs, bias included, by their only reader.

    ``patch`` turns it into columns of one entry per row of the layer, at the positions of the layer's input.
    """

    stream: str
    patch: ConvPatch | MatMulPatch


@dataclass(frozen=True, slots=True)
class Layer:
    """A quantisable weight.

    Attributes:
        weight: its tensor's name (unique).
        layout: how it forms matrices.
        sites: the places where it is multiplied as these matrices.
        bias: the bias that is added to its outputs, if the weight has one site.
        norm: the BatchNormalization of its outputs (bias included), if the weight has one site.
        residual: what is added to its outputs, if the weight has one site and no BatchNormalization follows.
        readers: all other nodes that read it. They have no statistics, and count only for what noise on the weight
            costs.
        price: factor on the price of its bits (:class:`~cerwu_onnx.config.LayerRule`).
        bits: bits that each of its symbols must fit (:class:`~cerwu_onnx.config.LayerRule`).
        blocks: B, number of blocks in which its Hessians are kept (:class:`LayerStats`); divides the columns.
    """

    weight: str
    layout: MatrixLayout
    sites: tuple[Site, ...]
    bias: Bias | None = None
    norm: Norm | None = None
    residual: Residual | None = None
    readers: tuple[Reader, ...] = ()
    price: float = 1.0
    bits: int = 12
    blocks: int = 1

    @property
    def largest(self) -> int:
        """Largest magnitude that a symbol may have."""
        return (1 << self.bits - 1) - 1

    @property
    def op(self) -> str:
        """The operator that reads the weight; the first one if there are several."""
        return self.sites[0].op if self.sites else self.readers[0].op

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that read the weight, each once."""
        return tuple(dict.fromkeys((*(site.node for site in self.sites), *(reader.node for reader in self.readers))))

    def position(self, nodes: Mapping[str, int]) -> int:
        """The first place in the graph where the weight is read, from the places of nodes by name."""
        return min((nodes[name] for name in self.nodes if name in nodes), default=len(nodes))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the float constants that belong to the weight's layer."""
        norm = self.norm
        names = () if self.bias is None else (self.bias.name,)
        return names if norm is None else (*names, norm.scale, norm.shift, norm.mean, norm.variance)


@dataclass(frozen=True, slots=True)
class Kept:
    """An initializer that stays exactly as it is, and the reason."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class LayerStats:
    """Input statistics of one layer.

    If N is too large, a Hessian is kept in B blocks of n columns: ``(G * B, n, n)``, the blocks of a group one after
    another. Entries of ``x x^T`` between the blocks count as zero.

    Attributes:
        hessian: ``(G, N, N)`` float64, mean of ``x x^T`` over positions, less ``taken`` times ``mean mean^T``.
        mean: ``(G, N)`` float64, mean of ``x``.
        positions: number of columns ``x`` seen per group; 0 means no data (the Hessian is the identity).
        taken: share of the mean's square that is taken out of the Hessian, below 1.
    """

    hessian: Float64Array
    mean: Float64Array
    positions: int
    taken: float = field(default=0.0, kw_only=True)

    @property
    def blocks(self) -> int:
        """B; 1 for whole Hessians."""
        return len(self.hessian) // len(self.mean)

    @property
    def left(self) -> float:
        """The trace of the Hessian, relative to that before the mean's square was taken out of it."""
        trace, square = float(np.einsum("gnn->", self.hessian)), self.taken * float(np.square(self.mean).sum())
        return trace / (trace + square) if trace > 0 else 1.0


@dataclass(frozen=True, slots=True)
class PairStats(LayerStats):
    """Input statistics of one layer in two models: x in the float model, x~ in the one quantised so far.

    ``hessian`` and ``mean`` are those of x~, so code for :class:`LayerStats` takes this as well. While the
    models agree, ``cross`` is the array ``hessian``, and ``float_mean`` is ``mean``. So they are where all that the
    layer's outputs miss is in ``missing``, which takes less room and time if there are few rows.

    Attributes:
        cross: ``(G, N, N)`` float64, mean of ``x x~^T``, less ``taken`` times the product of the means. Rows belong to
            x, columns to x~.
        float_mean: ``(G, N)`` float64, mean of ``x``.
        missing: ``(G, M, N)`` float64, mean of ``e x~^T``, less ``taken`` times the product of the means. e is what
            is missing: ``s - s~``, where s is added to the layer's outputs (:class:`Residual`), or
            ``W (x - x~) + s - s~``. None if nothing is, or if the models agree on it.
        missing_mean: ``(G, M)`` float64, mean of ``e``; None like ``missing``.
        folds: the same statistics over disjoint parts of the samples, for cross-validation; empty unless asked for.
    """

    cross: Float64Array
    float_mean: Float64Array
    missing: Float64Array | None = None
    missing_mean: Float64Array | None = None
    folds: tuple[PairStats, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A weight on a uniform grid, or rows on grids: ``float32(step) * 2^-exponents * symbols``.

    Attributes:
        symbols: int32, in the shape of the ONNX tensor; with a trellis, its values on the union of both grids.
        step: the grid's step, exactly representable in float32; with exponents, that of a row of exponent 0.
        distortion: ``tr((W - Q) H (W - Q)^T)`` summed over groups, undamped ``H``, units of the squared output.
        energy: ``tr(W H W^T)``, in the same way.
        damping: relative damping that was used (0 when the method needs none).
        run: elements, in the stored order, between two restarts of the trellis (docs/format.md); 0 without trellis.
        alone: bytes that the tensor would take in a file without a base; None where there is no base.
        across: whether a row as stored is a column of the weight's matrices (:attr:`MatrixLayout.transposed`).
        exponents: integers 0 ... 31 of the rows as stored, broadcastable to ``symbols``; None if all rows have one
            step.
    """

    symbols: npt.NDArray[np.int32]
    step: float
    distortion: float
    energy: float
    damping: float
    run: int = 0
    alone: int | None = None
    across: bool = False
    exponents: IntArray | None = None

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """The step of each element, float32, broadcastable to ``symbols``."""
        step = np.asarray(self.step, np.float32)
        return step if self.exponents is None else np.ldexp(step, -self.exponents.astype(np.int32))

    def row_steps(self, layout: MatrixLayout) -> Float64Array:
        """``(G, M)`` the steps of the rows of a weight; where columns have steps of their own, that of the first."""
        steps: Float64Array = layout.to_matrix(np.broadcast_to(self.steps.astype(np.float64), layout.shape))[:, :, 0]
        return steps

    def values(self) -> npt.NDArray[np.float32]:
        """The reconstructed weights, float32, as every decoder computes them."""
        values: npt.NDArray[np.float32] = self.steps * self.symbols.astype(np.float32)
        return values
