"""What a convolution of one or two axes reads at some of its positions, copied by C.

Nothing is padded, and only what is wanted is read: of an image, that is often one position of a dozen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.types import ConvPatch, FloatArray

MOST_AXES = 2
"""Convolutions of more spatial axes are left to numpy."""


def copies(patch: ConvPatch, pads: Sequence[int]) -> bool:
    """Whether C copies the columns of a convolution with these numbers of zeros around its input."""
    return native.available() and len(patch.kernel) <= MOST_AXES and min(pads, default=0) >= 0


@dataclass(frozen=True, slots=True)
class Windows:
    """The columns of an activation at some positions.

    Attributes:
        x: ``(B, C, spatial...)`` the activation, which :attr:`patch` fits.
        patch: how the convolution reads it; one that C :func:`copies`.
        begins: zeros before each spatial axis.
        parts: positions, part by part: all combinations of samples and of outputs along each axis.
    """

    x: npt.NDArray[np.generic]
    patch: ConvPatch
    begins: tuple[int, ...]
    parts: tuple[tuple[range, ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of the axes of the positions; there must be one part."""
        (part,) = self.parts
        return tuple(map(len, part))

    @property
    def size(self) -> int:
        """How many numbers :meth:`copy` copies."""
        rows = int(self.x.shape[1]) * math.prod(self.patch.kernel)
        return rows * sum(math.prod(map(len, part)) for part in self.parts)

    def some(self, strides: Sequence[int], starts: npt.NDArray[np.intp]) -> Windows:
        """Choose positions.

        Args:
            strides: along each axis of the positions.
            starts: ``(parts, axes)``, where to begin along each axis, for each of some parts of the samples.
        """
        (((samples, *outputs)),) = self.parts
        chosen = []
        for own, start in zip(np.array_split(np.arange(len(samples)), len(starts)), starts.tolist(), strict=True):
            axes = (samples[own[0] : own[-1] + 1], *outputs)
            chosen.append(tuple(axis[at::step] for axis, at, step in zip(axes, start, strides, strict=True)))
        return replace(self, parts=tuple(chosen))

    def halves(self, axis: int, at: int) -> tuple[Windows, Windows]:
        """Cut an axis of the positions."""
        (part,) = self.parts
        before, after = ((*part[:axis], own, *part[axis + 1 :]) for own in (part[axis][:at], part[axis][at:]))
        return replace(self, parts=(before,)), replace(self, parts=(after,))

    def copy(self) -> FloatArray:
        """The columns as an array ``(G, P, N)``, float32, which lies as ``(G, N, P)``."""
        patch, x = self.patch, np.ascontiguousarray(self.x, np.float32)
        ones = (1,) * (MOST_AXES - len(patch.kernel))
        begins = (0,) * len(ones) + self.begins
        axes = [(*ones, *of) for of in (x.shape[2:], patch.kernel, patch.strides, patch.dilations)]
        windows = np.array([*axes, begins], np.uintp)
        parts = np.array(
            [
                [(axis.start, axis.step, len(axis)) for axis in (samples, *(range(1) for _ in ones), *outputs)]
                for samples, *outputs in self.parts
            ],
            np.uintp,
        )
        columns = x.shape[1] // patch.groups * math.prod(patch.kernel)
        found = np.empty((patch.groups, columns, self.size // (patch.groups * columns)), np.float32)
        native.loaded_library().cwb_host_columns(
            x.ctypes.data, x.shape[1], windows.ctypes.data, parts.ctypes.data, len(parts), found.ctypes.data
        )
        return np.swapaxes(found, 1, 2)
