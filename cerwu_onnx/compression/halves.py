"""Judge models quantised with one half of the samples on the other half.

docs/fidelity.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cerwu_onnx.calibration import Answer, Source, answers_of, walk
from cerwu_onnx.calibration.answers import Batches
from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.calibration.held_out import Half, Noisy
from cerwu_onnx.calibration.sensitivity import BATCH, affordable
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.compression.fidelity import Judgement, blended, judgement, moved, tempered, worst
from cerwu_onnx.config import Settings
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.tensors import with_tensors
from cerwu_onnx.types import FloatArray

JUDGED = 256
"""At most so many samples of a half judge a model."""


@dataclass(frozen=True)
class View:
    """Samples that judge, as they are or moved by noise.

    Attributes:
        halves: of the samples.
        reference: outputs of the float model, by name, of each half.
        answers: what is judged, by name.
    """

    halves: list[Source]
    reference: list[dict[str, Batches]]
    answers: dict[str, Answer]


class Halves:
    """Both halves of the samples, and what the float model answers to them: it is found once for all judgements.

    Args:
        graph: the analysed model.
        source: all samples.
        settings: kinds of outputs, and how much memory may be taken.
        whole: whether the model is held at once; otherwise segments run one after the other.

    Attributes:
        answers: what the outputs answer to fresh data, by name.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: there is no second half, or no output can be compared.
    """

    def __init__(self, graph: Graph, source: Source, settings: Settings, *, whole: bool = True) -> None:
        self._graph, self._source, self._settings = graph, source, settings
        plain: list[Source] = [Half(source, second=second, most=JUDGED) for second in (False, True)]
        for half in plain:
            half.first()
        fits = affordable(graph, source, 1)[1] if whole else 0
        self._batch = min(settings.batch_size or BATCH, fits)
        reference = self._both(plain)
        found = answers_of(_joined(reference), graph.model, settings.output_loss)
        self.answers, self._views = found, []
        far: list[Source] = [Noisy(half, natural=True) for half in plain]
        halfway = self._both(far)
        if any(answer.weighs for answer in found.values()):
            white = self._both([Noisy(half, natural=False) for half in plain])
            self.answers = tempered(found, _joined(reference), [_joined(white), _joined(halfway)])
        if not all(answer.weighs for answer in found.values()) and (judged := moved(found, _joined(halfway))):
            self._views.append(View(far, halfway, judged))
        self._views.append(View(plain, reference, self.answers))

    def judge(self, price: float, quantize: Callable[[Source], Mapping[str, FloatArray]], *, second: bool) -> Judgement:
        """Quantise with one half, and judge on the other and on itself what all samples together will give.

        Args:
            price: lambda at which ``quantize`` quantises.
            quantize: samples -> new values of weights and parameters, by name.
            second: quantise with the second half; otherwise with the first.

        Raises:
            CalibrationError: onnxruntime fails.
        """
        values, judged = quantize(Half(self._source, second=second)), []
        for view in self._views:
            others, own = (self._seen(price, view, values, second=half) for half in (not second, second))
            judged += [blended(others[name], own[name]) for name in others]
        return worst(judged)

    def _seen(
        self, price: float, view: View, values: Mapping[str, FloatArray], *, second: bool
    ) -> dict[str, Judgement]:
        """What one half of the samples says of new values of weights and parameters, by name of the output."""
        half, reference = view.halves[second], view.reference[second]
        found = self._outputs(half, values)
        samples = sum(half.count(feed) for feed in half.batches(BATCH)) if half.samples is None else half.samples
        return {
            name: judgement(price, name, answer, reference[name], found[name], samples)
            for name, answer in view.answers.items()
        }

    def _both(self, halves: list[Source]) -> list[dict[str, Batches]]:
        """What the float model answers to both halves."""
        return [self._outputs(half, {}) for half in halves]

    def _outputs(self, source: Source, values: Mapping[str, FloatArray]) -> dict[str, Batches]:
        """What is compared, by name, of a model with some other values."""
        if self._batch:
            names = compared_values(self._graph.model)
            session = open_session(with_tensors(self._graph.model, values) if values else self._graph.model, names)
            runs = [run_session(session, names, feed) for feed in source.batches(self._batch)]
            return {name: [run[name] for run in runs] for name in names}
        found: dict[str, Batches] = {}
        memory, batch = memory_budget.activations(self._settings.memory), self._settings.batch_size
        for step in walk(self._graph, source, batch_size=batch, memory=memory, known=lambda _: True):
            for layer in step.layers:
                step.commit({name: values[name] for name in (layer.weight, *layer.parameters) if name in values})
            found |= {name: list(quantized) for name, (_, quantized) in step.outputs.items()}
        return found


def _joined(halves: list[dict[str, Batches]]) -> dict[str, Batches]:
    """The batches of both halves, by name."""
    first, second = halves
    return {name: [*batches, *second[name]] for name, batches in first.items()}
