"""The result of a walk over all layers, whole and layer by layer, and the cache entries from which a walk resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cerwu_onnx.compression.spilled_tensors import SpilledTensors, narrow
from cerwu_onnx.jobs.cache import Cache, Entry
from cerwu_onnx.types import FloatArray, Layer, QuantizedTensor


@dataclass(frozen=True, slots=True)
class WalkedLayer:
    """The result of quantising one layer.

    Attributes:
        quantized: its weight and float parameters on their grids, by name. A weight that coding would not make smaller
            is here, but does not change; a weight whose error would cost more than its bits is missing.
        changed: names of the tensors that differ from the float model's.
        moved: new values, as float32, of the changed tensors that are on no grid.
        variance: variance of white noise on the weight that would cause its distortion.
        bound: bits per weight by the Gaussian rate-distortion function at that distortion; None if it was not computed.
        loss: loss at the model's outputs that its distortion alone would cause, by its sensitivity; None if it stays
            exact.
    """

    quantized: dict[str, QuantizedTensor] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    moved: dict[str, FloatArray] = field(default_factory=dict)
    variance: float = 0.0
    bound: float | None = None
    loss: float | None = None

    @property
    def values(self) -> dict[str, FloatArray]:
        """New values of the tensors that change, as float32, which evaluations round to the tensor's type."""
        return _values(self.changed, self.moved, self.quantized)

    def pack(self) -> Entry:
        """The layer in the form that the cache keeps."""
        quantized = {
            name: (one.step, one.distortion, one.energy, one.damping, one.run, one.alone, one.across)
            for name, one in self.quantized.items()
        }
        symbols = [narrow(tensor.symbols) for tensor in self.quantized.values()]
        exponents = {name: tensor.exponents for name, tensor in self.quantized.items() if tensor.exponents is not None}
        about = (quantized, self.changed, list(exponents), list(self.moved), (self.variance, self.bound, self.loss))
        return about, [*symbols, *exponents.values(), *self.moved.values()]

    @classmethod
    def unpack(cls, entry: Entry) -> WalkedLayer:
        """The inverse of :meth:`pack`."""
        (described, changed, stepped, moved, numbers), arrays = entry
        left = iter(arrays)
        quantized = {name: QuantizedTensor(next(left).astype(np.int32), *about) for name, about in described.items()}
        quantized |= {name: replace(quantized[name], exponents=next(left)) for name in stepped}
        return cls(quantized, tuple(changed), dict(zip(moved, left, strict=True)), *numbers)


class WalkResult:
    """A model that a walk has quantised.

    Args:
        memory: bytes of symbols that stay in memory; others are in files.

    Attributes:
        quantized: weights and float parameters on their grids, by name.
        variance: ``variance`` of each :class:`WalkedLayer`, by weight.
        bounds: ``bound`` of each quantised weight, by weight.
        losses: ``loss`` of each quantised weight, by weight.
        moved: new values of tensors that change and are on no grid, by name.
        loss: loss at the model's outputs, on the calibration data; None if they cannot be compared.
        samples: number of calibration samples.
    """

    def __init__(self, memory: int) -> None:
        self.quantized = SpilledTensors(memory)
        self.variance: dict[str, float] = {}
        self.bounds: dict[str, float] = {}
        self.losses: dict[str, float] = {}
        self.moved: dict[str, FloatArray] = {}
        self.loss: float | None = None
        self.samples = 0
        self._changed: list[str] = []

    def add(self, weight: str, layer: WalkedLayer) -> None:
        """Add a layer."""
        for name, tensor in layer.quantized.items():
            self.quantized.put(name, tensor)
        self._changed += layer.changed
        self.moved |= layer.moved
        self.variance[weight] = layer.variance
        if layer.bound is not None:
            self.bounds[weight] = layer.bound
        if layer.loss is not None:
            self.losses[weight] = layer.loss

    @property
    def values(self) -> dict[str, FloatArray]:
        """All tensors that differ from the float model's, as float32; all are loaded into memory."""
        return _values(self._changed, self.moved, self.quantized)


def _values(
    names: Iterable[str], moved: Mapping[str, FloatArray], quantized: Mapping[str, QuantizedTensor]
) -> dict[str, FloatArray]:
    """New values of the named tensors: those that moved, or else those of the grid."""
    return {name: moved[name] if name in moved else quantized[name].values() for name in names}


class Checkpoints:
    """The cache entries of one walk: a walk that was interrupted finds its finished layers there.

    Args:
        cache: the cache.
        depends: JSON-ready; everything that the walk depends on.

    Attributes:
        used: number of layers that were taken from the cache.
    """

    def __init__(self, cache: Cache, depends: object) -> None:
        self._cache, self._depends = cache, depends
        self._found: dict[str, WalkedLayer] = {}
        self.used = 0

    def have(self, layers: Iterable[Layer]) -> bool:
        """Whether the cache has all of these layers; :meth:`layer` then returns them."""
        for layer in layers:
            entry = self._cache.find("layer", self._key(layer.weight))
            if entry is None:
                return False
            self._found[layer.weight] = WalkedLayer.unpack(entry)
        return True

    def layer(self, layer: Layer, compute: Callable[[], WalkedLayer], *, keep: bool) -> WalkedLayer:
        """Get a layer; it is computed unless :meth:`have` has found it. A result with warnings is not kept.

        Args:
            layer: the layer.
            compute: quantises it.
            keep: whether the cache may keep it at all.
        """
        found = self._found.pop(layer.weight, None)
        if found is not None:
            self.used += 1
            return found
        if not keep:
            return compute()
        return WalkedLayer.unpack(self._cache.get("layer", self._key(layer.weight), lambda: compute().pack()))

    def whole(self, memory: int) -> WalkResult | None:
        """The whole result, if the walk was finished and the cache has all its layers; else None."""
        summary = self._cache.find("quantize", self._depends)
        if summary is None:
            return None
        found = WalkResult(memory)
        (weights, found.loss, found.samples), _ = summary
        for weight in weights:
            entry = self._cache.find("layer", self._key(weight))
            if entry is None:
                return None
            found.add(weight, WalkedLayer.unpack(entry))
        return found

    def finish(self, found: WalkResult) -> None:
        """Note in the cache that the walk is finished; call it only if there was no warning."""
        self._cache.keep("quantize", self._depends, ((list(found.variance), found.loss, found.samples), []))

    def _key(self, weight: str) -> object:
        return [self._depends, weight]
