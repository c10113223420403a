"""Walk over the layers in topological order, with each one's input in the float model and in the one quantised so far.

The model runs in segments. Between two layers only the activations that later nodes read are kept, for all samples. A
segment computes the next layer's input from them, once for each of the two models, or once for both while they agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.collect import batch_that_fits, collect, open_session, run_session
from cerwu_onnx.calibration.segments import Nodes, value_type
from cerwu_onnx.calibration.shares import by_batch
from cerwu_onnx.calibration.source import Source
from cerwu_onnx.calibration.spill import Batches, Held, Spill
from cerwu_onnx.calibration.sums import ENOUGH, Key, Sums, identity_stats, key, pair_stats
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.jobs.threads import takes_one
from cerwu_onnx.model.elements import FLOATS, float_tensor, raw_bytes
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.types import FloatArray, HiddenPatch, Layer, PairStats, Residual

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], None]

SHARES = 2
"""Into so many shares batches are divided where there are no folds."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a walk: layers whose inputs are known now, or, at the end, the model's outputs.

    Attributes:
        layers: layers that read the same activations in the same way; none in the last step.
        stats: their statistics by weight, one object for all; empty for layers whose new values are known. Treat the
            arrays as read-only.
        outputs: in the last step, the values of each output of the model, or of what replaces it
            (:mod:`calibration.compared`), in the float and in the quantised model, one per batch. They are valid until
            the walk is resumed or closed, and one object twice where the models agree. Empty in other steps.
        commit: give constants (weights, biases, normalisation parameters) of the quantised model new float32 values, by
            name, before the walk goes on; they are rounded to the constants' own type. Raises UsageError for an unknown
            name, another shape or type, or a constant that nodes before this step have read.
    """

    layers: tuple[Layer, ...]
    stats: Mapping[str, PairStats]
    outputs: Mapping[str, tuple[Batches, Batches]]
    samples: int
    commit: Callable[[Mapping[str, npt.NDArray[Any]]], None]


def walk(
    graph: Graph,
    source: Source,
    *,
    batch_size: int | None = None,
    memory: int = 512 << 20,
    folds: int = 1,
    enough: int = ENOUGH,
    progress: Progress | None = None,
    known: Callable[[tuple[Layer, ...]], bool] = lambda _: False,
    taken: Callable[[Layer], float] = lambda _: 0.0,
) -> Iterator[Step]:
    """Visit the layers in topological order, with statistics of their inputs in both models.

    Every node runs at most once per batch for the float model and once for the quantised one; nodes on which the models
    agree run once. Each feed of the source is one batch throughout, and the source is read once. A recurrent node runs
    twice: first, with its recurrence weight not yet changed, for the hidden states which that weight multiplies. So do
    nodes with weights not yet visited that lead to what is added to a layer's outputs.

    A weight with several sites gets the statistics of those sites that can be computed when the first of them is
    reached; inputs that depend on the weight itself, or on weights not yet visited, are left out. If nothing remains
    (an embedding that is multiplied at the end again), the float model runs once more for all of them. A layer that
    reads a constant or saw no position gets the identity and a warning.

    Args:
        graph: the analysed model. Its layers are all visited, each once.
        source: where the feeds come from.
        batch_size: samples per run; None runs one sample through the whole model and stays within ``memory``.
        memory: bound in bytes on the activations of all samples kept in memory between segments; others go to a
            temporary folder, which is removed when the iterator is exhausted, closed or deleted. The current batch and
            the sums take memory in addition.
        folds: with more than one, fill :attr:`~cerwu_onnx.types.PairStats.folds`: batch number i belongs to fold
            ``i % folds``. A fold without positions is left out.
        enough: positions for each column that suffice for statistics.
        progress: called with the layers done and the number of layers, each time more are done.
        known: tells whether the caller knows the new values of a step's layers. Such steps have no statistics.
        taken: :attr:`~cerwu_onnx.types.LayerStats.taken` that suits a layer; where several share statistics, the least.

    Yields:
        Steps with layers, then one without.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit, an activation holds NaN or infinity, its shape depends on whether the
            model is quantised, or the temporary folder is full.
    """
    with Spill(memory) as spill:
        state = _Walk(graph, source, spill, enough)
        if batch_size is None:
            batch_size = _choose_batch(graph, source, memory)
            if folds > 1 and source.samples is not None:  # at least two batches each, if there are so many samples
                batch_size = min(batch_size, max(1, source.samples // (2 * folds)))
        state.read(source.batches(batch_size), batch_size)
        while state.unvisited:
            if progress is not None:
                progress(len(graph.layers) - len(state.unvisited), len(graph.layers))
            layers, stats = state.visit(folds, known, taken)
            found = {} if stats is None else {layer.weight: stats for layer in layers}
            yield Step(layers, found, {}, state.samples, state.commit)
        if progress is not None:
            progress(len(graph.layers), len(graph.layers))
        yield Step((), {}, state.finish(), state.samples, state.commit)


def _choose_batch(graph: Graph, source: Source, memory: int) -> int:
    """Choose the batch size from one sample that visits the layers, so that the whole model is never loaded."""
    with Spill(memory) as spill:
        state = _Walk(graph, source, spill)
        feed = source.first()
        state.read([feed], 1)
        return batch_that_fits(state.measure() + sum(int(value.nbytes) for value in feed.values()), memory)


@dataclass(slots=True)
class _Size:
    """Measures the bytes of an activation, in place of sums over it."""

    activation: str
    bytes: int = 0
    columns: int = 0

    @property
    def names(self) -> list[str]:
        """As of :class:`~cerwu_onnx.calibration.sums.Sums`."""
        return [self.activation]

    def add(self, x: npt.NDArray[Any], _: npt.NDArray[Any]) -> None:
        """Add the bytes of a value."""
        self.bytes = int(x.nbytes)


def _is_recurrent(layer: Layer) -> bool:
    """Whether the weight multiplies a value that its own node computes."""
    return any(isinstance(site.patch, HiddenPatch) for site in layer.sites)


class _Stream(Enum):
    """The model that a value belongs to: both models while they agree, or one of them."""

    BOTH = "both"
    FLOAT = "float"
    QUANTIZED = "quantized"


_Values: TypeAlias = "dict[_Stream, dict[str, Any]]"


@dataclass(slots=True)
class _Run:
    """A part of a segment that is ready to run."""

    stream: _Stream
    session: ort.InferenceSession
    inputs: list[str]
    outputs: list[str]


class _Walk:
    """The state of a walk: the nodes that have run, the values kept, and the differences of the quantised model."""

    def __init__(self, graph: Graph, source: Source, spill: Spill, enough: int = ENOUGH) -> None:
        self._graph, self._source, self._enough = graph, source, enough
        self.nodes = nodes = Nodes(graph.observed)
        self.samples = self._batch_size = 0
        first = {layer.weight: len(nodes) for layer in graph.layers}
        copies = {weight: nodes.reached([weight], nodes.fixed) for weight in first}  # for example transposed ones
        for index in sorted(set(range(len(nodes))) - nodes.fixed, reverse=True):
            first.update((weight, index) for weight in first if not copies[weight].isdisjoint(nodes.reads[index]))
        self.unvisited = sorted(graph.layers, key=lambda layer: (first[layer.weight], _is_recurrent(layer)))
        self._spill = spill
        self._batches = 0
        self._done: set[int] = set()
        needed = {*nodes.outputs, *self._activations()}
        self._pending = set(nodes.ancestors(needed, set(range(len(nodes))) - nodes.fixed))
        self._tensors: dict[_Stream, Mapping[str, onnx.TensorProto]] = dict.fromkeys(_Stream, nodes.tensors)
        self._changed: set[str] = set()
        self._committed: set[str] = set()
        self._types = dict(nodes.inputs)
        self._kept: dict[_Stream, dict[str, list[Held]]] = {stream: {} for stream in _Stream}

    def read(self, feeds: Iterable[dict[str, Any]], batch_size: int) -> None:
        """Read all feeds of the source, and keep them."""
        self._batch_size = batch_size
        kept = self._kept[_Stream.BOTH]
        live = self._live()
        for feed in feeds:
            for name in live & feed.keys():
                kept.setdefault(name, []).append(self._spill.put(np.array(feed[name])))  # a caller may reuse its own
            self._batches += 1
            self.samples += self._source.count(feed)
        if not self.samples:
            raise CalibrationError("the calibration data holds no sample")

    def measure(self) -> int:
        """Run to the last layer; return the bytes of all activations that layers read, without the model's inputs."""
        sizes: dict[str, _Size] = {}
        fed = set(self._kept[_Stream.BOTH])
        while self.unvisited:
            layer = self.unvisited.pop(0)
            names = {name for name, _ in self._keys(layer)} - fed - sizes.keys()
            sizes |= {name: _Size(name) for name in names}
            self._advance(names, [[sizes[name] for name in names]])
        return sum(size.bytes for size in sizes.values())

    def visit(
        self,
        folds: int,
        known: Callable[[tuple[Layer, ...]], bool],
        taken: Callable[[Layer], float],
    ) -> tuple[tuple[Layer, ...], PairStats | None]:
        """Run up to the next layer. Return all layers that read the same, and the statistics of what they read."""
        layer, *later = self.unvisited
        among = self._pending | self.nodes.fixed
        behind = self.nodes.reached((other.weight for other in later), among)
        own = self.nodes.reached([layer.weight], among)
        blocked = behind if _is_recurrent(layer) else behind | own
        keys = [site for site in self._keys(layer) if site[0] not in blocked]
        layers = tuple(other for other in self.unvisited if other is layer or self._alike(other, layer, keys))
        self.unvisited = [other for other in self.unvisited if other not in layers]
        for weight, site in ((layer.weight, site) for layer in layers for site in layer.sites):
            if site.activation in self.nodes.tensors:
                log.warning("layer %r reads the constant %r: no statistics", weight, site.activation)
        skipped = known(layers)
        if not keys and self._keys(layer):
            return layers, None if skipped else self._alone(layer)
        if skipped:
            self._advance([name for name, _ in keys], unfinished=own)
            return layers, None
        shape = (layer.layout.groups, layer.layout.cols)
        residual = layer.residual
        if residual is not None and residual.stream not in self._live() - own:
            residual = None
        about = (
            layer.weight,
            shape,
            layer.blocks,
            self._batches,
            self._enough,
            residual,
            layer.layout.rows,
            self._few_rows(layers, keys, residual),
        )
        sums = [[Sums(name, patch, *about) for name, patch in keys] for _ in range(folds)]
        self._advance([name for job in sums[0] for name in job.names], sums, unfinished=own | behind)
        return layers, self._stats(layers, sums, min(map(taken, layers)))

    def _few_rows(self, layers: tuple[Layer, ...], keys: list[Key], residual: Residual | None) -> FloatArray | None:
        """The matrix of a layer with so few rows that what its outputs miss takes fewer products than inputs do."""
        layer, layout = layers[0], layers[0].layout
        products = layout.rows if residual is not None else 2 * layout.rows
        if len(layers) > 1 or len(keys) > 1 or layer.blocks > 1 or products >= layout.cols:
            return None
        return layout.to_matrix(self._graph.array(layer.weight).astype(np.float32))

    def _alone(self, layer: Layer) -> PairStats:
        """Statistics of all inputs of a layer in the float model, for weights on which their own input depends."""
        graph = replace(self._graph, layers=(layer,))
        stats = collect(graph, self._source, batch_size=self._batch_size)[0][layer.weight]
        return PairStats(stats.hessian, stats.mean, stats.positions, stats.hessian, stats.mean)

    def finish(self) -> dict[str, tuple[Batches, Batches]]:
        """Run the nodes that are left; return the values to compare, in both models."""
        outputs = self.nodes.outputs
        self._advance(outputs, keep=outputs)
        found = {}
        for name in outputs:
            streams = (_Stream.BOTH, _Stream.BOTH) if name in self._kept[_Stream.BOTH] else _SINGLE
            batches = {stream: Batches(self._spill, self._kept[stream][name]) for stream in streams}
            found[name] = (batches[streams[0]], batches[streams[1]])
        return found

    def commit(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """See :class:`Step`."""
        current = self._tensors[_Stream.QUANTIZED]
        fresh = {}
        for name, value in values.items():
            if name not in current:
                raise UsageError(f"the model has no constant tensor {name!r}")
            shape, kind = tuple(current[name].dims), current[name].data_type
            if value.shape != shape or value.dtype != np.float32 or kind not in FLOATS:
                raise UsageError(
                    f"tensor {name!r} of shape {shape} cannot become {value.dtype} {value.shape}: only float tensors "
                    "take new values, float32 of their own shape"
                )
            rounded = float_tensor(value, kind, name)
            if rounded.raw_data != raw_bytes(current[name]):
                fresh[name] = rounded
        reached = self.nodes.reached(fresh, self.nodes.fixed)
        if any(not reached.isdisjoint(self.nodes.reads[index]) for index in self._done):
            raise UsageError(f"nodes that read {', '.join(map(repr, fresh))} have already run with the earlier values")
        self._tensors[_Stream.QUANTIZED] = {**current, **fresh}
        self._changed |= fresh.keys()
        self._committed |= fresh.keys()

    def _activations(self) -> set[str]:
        return {site.activation for layer in self.unvisited for site in layer.sites}

    def _keys(self, layer: Layer) -> list[Key]:
        """The activations that a layer reads, with their patches; constants are left out."""
        return list(dict.fromkeys(key(site) for site in layer.sites if site.activation not in self.nodes.tensors))

    def _alike(self, other: Layer, layer: Layer, keys: list[Key]) -> bool:
        """Whether a layer has the same statistics as another one of these keys."""
        return bool(keys) and self._keys(other) == keys and other.residual == layer.residual

    def _live(self) -> set[str]:
        """Names of the values that are read later. Fixed ones are not kept."""
        live = {*self.nodes.outputs, *self._activations(), *self.nodes.read_by(self._pending)}
        return live - self.nodes.fixed_names

    def _stats(self, layers: tuple[Layer, ...], folds: Sequence[Sequence[Sums]], taken: float) -> PairStats:
        seen = [[job for job in sums if job.positions] for sums in folds]
        for layer in layers:
            if layer.sites and not any(seen):
                log.warning("layer %r saw no calibration data: it is quantised without statistics", layer.weight)
        if any(seen):
            return pair_stats([sums for sums in seen if sums], apart=len(folds) > 1, taken=taken)
        none = identity_stats(layers[0])
        return PairStats(none.hessian, none.mean, 0, none.hessian, none.mean)

    def _advance(
        self,
        targets: Iterable[str],
        sums: Sequence[Sequence[Sums | _Size]] = (),
        keep: Iterable[str] = (),
        unfinished: Collection[str] = (),
    ) -> None:
        """Run the segment that computes some values, and sum over some activations, batch by batch.

        Args:
            targets: names of the values.
            sums: the sums to add to, for each fold of the batches; their activations are targets.
            keep: names of targets to keep, in addition to what is read later.
            unfinished: nodes that read these names run for their targets only, and will run again.
        """
        nodes = self.nodes
        missing = set(targets).difference(*self._kept.values())
        needed = nodes.ancestors(missing, self._pending)
        preview = [index for index in needed if not nodes.reads[index].isdisjoint(unfinished)]
        segment = [index for index in needed if index not in preview]
        self._pending.difference_update(segment)
        self._done.update(segment)
        self._changed = nodes.reached(self._changed, {*segment, *nodes.fixed})
        live = self._live().union(keep)
        dead = {stream: kept.keys() - live for stream, kept in self._kept.items()}
        handed = nodes.read_by(preview) - nodes.fixed_names
        runs = self._runs(segment, live | (missing - nodes.written_by(preview)) | handed, self._changed)
        changed = nodes.reached(self._changed, preview)
        previews = self._runs(preview, missing & nodes.written_by(preview), changed)
        kept = [(run.stream, name) for run in runs for name in live.intersection(run.outputs)]

        def advance(batch: int) -> list[Held]:
            hand: _Values = {stream: {} for stream in _Stream}
            for run in runs + previews:
                feed = {name: self._value(run.stream, name, batch, hand) for name in run.inputs}
                hand[run.stream].update(run_session(run.session, run.outputs, feed))
            for job in sums[batch % len(sums)] if sums else ():
                job.add(*(self._value(stream, name, batch, hand) for name in job.names for stream in _SINGLE))
            for stream, names in dead.items():
                for name in names:
                    self._spill.drop(self._kept[stream][name][batch])
            return [self._spill.put(hand[stream][name]) for stream, name in kept]

        small = takes_one(max((job.columns for fold in sums for job in fold), default=0))
        held = by_batch(advance, self._batches, (len(sums) or SHARES) if small else 1)
        for (stream, name), batches in zip(kept, zip(*held, strict=True), strict=bool(held)):
            self._kept[stream][name] = list(batches)
        for stream, names in dead.items():
            for name in names:
                del self._kept[stream][name]
        self._release()

    def _release(self) -> None:
        """Drop new values of constants that no later node reads: all together they are as large as the model."""
        read = self.nodes.read_by(self._pending).union(self.nodes.outputs)
        for name in list(self._committed):
            if self.nodes.reached([name], self.nodes.fixed).isdisjoint(read):
                self._committed.remove(name)
                self._tensors[_Stream.QUANTIZED] = {
                    **self._tensors[_Stream.QUANTIZED],
                    name: self.nodes.tensors[name],
                }

    def _runs(self, segment: Iterable[int], wanted: Collection[str], changed: Collection[str]) -> list[_Run]:
        """Prepare the runs of a segment: first the nodes on which the models agree, then the others for each model."""
        nodes = self.nodes
        parts: tuple[list[int], list[int]] = ([], [])
        for index in segment:
            parts[not nodes.reads[index].isdisjoint(changed)].append(index)
        common, apart = parts
        fixed = nodes.fixed_names.intersection(wanted)
        shared = nodes.written_by(common).intersection(nodes.read_by(apart).union(wanted)) | fixed.difference(changed)
        single = nodes.written_by(apart).intersection(wanted) | fixed.intersection(changed)
        runs = [self._run(_Stream.BOTH, common, shared)] if shared else []
        return runs + ([self._run(stream, apart, single) for stream in _SINGLE] if single else [])

    def _run(self, stream: _Stream, segment: list[int], names: Collection[str]) -> _Run:
        outputs = sorted(names)
        session = open_session(self.nodes.submodel(segment, outputs, self._tensors[stream], self._types))
        read = self.nodes.read_names
        self._types |= {out.name: value_type(out.name, out.type) for out in session.get_outputs() if out.name in read}
        return _Run(stream, session, [info.name for info in session.get_inputs()], outputs)

    def _value(self, stream: _Stream, name: str, batch: int, hand: _Values) -> Any:
        """A value of one model, on one batch; each file is read once."""
        where = stream if name in hand[stream] or name in self._kept[stream] else _Stream.BOTH
        if name not in hand[where]:
            hand[where][name] = self._spill.get(self._kept[where][name][batch])
        return hand[where][name]


_SINGLE = (_Stream.FLOAT, _Stream.QUANTIZED)
