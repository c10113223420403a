"""A mapping of quantised tensors that keeps symbols in temporary files beyond a budget of memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration.spill import Held, Spill
from cerwu_onnx.types import QuantizedTensor

_WIDTHS = (np.int8, np.int16, np.int32)


class SpilledTensors(Mapping[str, QuantizedTensor]):
    """Quantised tensors by name; symbols are kept in the smallest integer type that holds them.

    Args:
        memory: bytes of symbols that stay in memory. The others are in temporary files while this object lives.
    """

    def __init__(self, memory: int) -> None:
        self._spill = Spill(memory)
        self._tensors: dict[str, tuple[QuantizedTensor, Held]] = {}
        weakref.finalize(self, self._spill.close)

    def put(self, name: str, tensor: QuantizedTensor) -> None:
        """Add a tensor."""
        self._tensors[name] = replace(tensor, symbols=np.empty(0, np.int32)), self._spill.put(narrow(tensor.symbols))

    def arrange(self, names: Iterable[str]) -> None:
        """Order the tensors as in ``names``; names of other tensors are ignored."""
        self._tensors = {name: self._tensors[name] for name in names if name in self._tensors}

    def __getitem__(self, name: str) -> QuantizedTensor:
        """A tensor, equal to the one that was put."""
        tensor, held = self._tensors[name]
        return replace(tensor, symbols=self._spill.get(held).astype(np.int32))

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of this name; no file is read."""
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        """Names in the order in which they were put, or arranged."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._tensors)


def narrow(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.integer[Any]]:
    """Symbols in the smallest integer type that holds them."""
    largest = int(np.abs(symbols).max(initial=0))
    return symbols.astype(next(dtype for dtype in _WIDTHS if largest <= np.iinfo(dtype).max))
