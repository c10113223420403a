"""Changes of a tensor that is on its grid already: the base of a delta (docs/deltas.md).

What a fine-tune has done to a weight is less than a step for most of its elements. So a few symbols change: those whose
error, with what OBS has moved there, costs more than the bits. The symbols of the base are where they are for free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cerwu_onnx.quantize.blocks import cut, joined
from cerwu_onnx.quantize.methods import code_lengths, distortion
from cerwu_onnx.quantize.obs import Rate, obs
from cerwu_onnx.quantize.rows import Rows
from cerwu_onnx.types import Float64Array, MatrixLayout, QuantizedTensor

PRESSURES = (0.25, 0.5, 1.0, 2.0, np.inf)
"""Factors on the price of a bit in the choice of each change; the last one changes nothing. The cheapest result counts.

A low price takes more of the changes that are small but many, and mends the base's own rounding, too."""


@dataclass(frozen=True, slots=True)
class Base:
    """A tensor of the base.

    Attributes:
        tensor: on its grid.
        code: bytes that a tensor on the same grid takes in the file, by its difference from this one; None if the
            format does not hold it.
        code_alone: bytes that any tensor takes in a file that has no base.
    """

    tensor: QuantizedTensor
    code: Callable[[QuantizedTensor], int | None]
    code_alone: Callable[[QuantizedTensor], int]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the kernel needs of a weight.

    Attributes:
        layout: how the tensor forms ``(G, M, N)``.
        target: ``(G, M, N)`` the aim.
        order: ``(N,)`` the columns in the order in which they are quantised.
        hessian: of the inputs, in blocks.
        factor: of the damped Hessian of the columns in that order, as :func:`~cerwu_onnx.quantize.obs.obs` takes it.
        curvature: of each of these columns, in blocks.
        rows: the weights of rows; None if all count alike.
        largest: magnitude that no symbol may exceed.
    """

    layout: MatrixLayout
    target: Float64Array
    order: npt.NDArray[np.intp]
    hessian: Float64Array
    factor: Float64Array
    curvature: Float64Array
    rows: Rows | None
    largest: int

    def change(self, base: QuantizedTensor, price: float, passes: int) -> tuple[QuantizedTensor, float]:
        """Change symbols of ``base``; an infinite price changes none.

        Args:
            base: in the shape of the tensor.
            price: of a bit in the choice of each change, in units of the distortion.
            passes: how often code lengths are estimated again.

        Returns:
            The tensor, on the base's grid but on no trellis, and its distortion, weighted by rows.
        """
        before = self.layout.to_matrix(base.symbols.astype(np.float64))
        after, steps = before, self.layout.to_matrix(np.broadcast_to(base.steps.astype(np.float64), self.layout.shape))
        if np.isfinite(price):
            blocks = len(self.factor) // len(before)
            w = cut((self.target / steps - before)[:, :, self.order], blocks)
            costs = self._row_costs() * (steps[:, :, 0] / base.step) ** 2
            own = cut((steps[:, :1] / steps[:, :1, :1])[:, :, self.order], blocks)  # of columns: 1 if rows have steps
            weight = (self.curvature * own[:, 0] ** 2)[:, :, None] * np.repeat(costs, blocks, axis=0)[:, None]
            price /= base.step**2
            changes = np.rint(w)
            for _ in range(passes):
                changes = obs(w, self.factor / own, weight, Rate(price, code_lengths(changes)))
            after = before.copy()
            after[:, :, self.order] += joined(changes, blocks)
            after = np.clip(after, -self.largest, self.largest)
        error = self.target - steps * after
        found = replace(
            base,
            symbols=self.layout.to_tensor(after).astype(np.int32),
            distortion=distortion(cut(error, len(self.hessian) // len(error)), self.hessian),
            run=0,
        )
        return found, found.distortion if self.rows is None else self.rows.distortion(error, self.hessian)

    def _row_costs(self) -> Float64Array:
        """``(G, M)`` what an error of each row costs, 1 on average."""
        if self.rows is None:
            return np.ones(self.target.shape[:2])
        costs: Float64Array = np.einsum("gmm->gm", self.rows.fisher)
        return costs


def cheapest(
    alone: tuple[QuantizedTensor, float],
    base: Base,
    frame: Frame,
    passes: int,
    sensitivity: float,
    price: float,
) -> tuple[QuantizedTensor, float]:
    """The cheapest of a tensor that was quantised without a base, and of changes of the base's.

    Args:
        alone: the tensor, and its distortion.
        base: the base's tensor.
        frame: the weight.
        passes: how often code lengths are estimated again.
        sensitivity: loss at the model's outputs per unit of distortion.
        price: loss that one more bit must save.

    Returns:
        A tensor, with the bytes of ``alone`` in ``alone``, and its distortion.
    """

    def cost(distortion: float, size: int) -> float:
        return sensitivity * distortion + 8 * price * size

    size = base.code_alone(alone[0])
    found = [(cost(alone[1], size), alone)]
    for pressure in PRESSURES if sensitivity > 0 else (np.inf,):
        changed = frame.change(base.tensor, pressure * price / sensitivity if sensitivity > 0 else np.inf, passes)
        changed_size = base.code(changed[0])
        if changed_size is not None:
            found.append((cost(changed[1], changed_size), changed))
    _, (tensor, error) = min(found, key=lambda candidate: candidate[0])
    return replace(tensor, energy=alone[0].energy, damping=alone[0].damping, alone=size), error
