"""The step of a layer's target down the slope of the loss at the model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import Settings
from cerwu_onnx.calibration import OutputLoss, model_inputs, open_source, row_fishers, walk
from cerwu_onnx.calibration.descent import Descent, View
from cerwu_onnx.compression import layer_walk
from cerwu_onnx.compression.target_step import stepped
from cerwu_onnx.compression.walk_quantizer import WalkQuantizer
from cerwu_onnx.config import EFFORTS
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.jobs.progress import silent
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.quantize.crossval import feedback_damping
from cerwu_onnx.types import Float64Array, FloatArray

from ..classifiers import clouds, trained

SAMPLE = Path(__file__).resolve().parents[2] / "sample_models" / "fashion_cnn"
DAMPING = 0.3


def coarse(weight: FloatArray) -> FloatArray:
    """Rounded to a step of one and a half standard deviations."""
    width = np.float32(1.5 * weight.std())
    return width * np.rint(weight / width)


@dataclass(frozen=True)
class Case:
    """A model, data to calibrate it with, fresh data, the layers that are rounded and the one behind them."""

    model: onnx.ModelProto
    calib: dict[str, np.ndarray]
    fresh: dict[str, np.ndarray]
    rounded: tuple[str, ...]
    weight: str

    def step(self, change: Callable[[View], View] = lambda view: view) -> tuple[FloatArray, FloatArray]:
        """The weight before and after."""
        graph = analyse(self.model)
        source = open_source(self.calib, model_inputs(self.model))
        view, weight = self.view(self.calib), graph.array(self.weight)
        for step in walk(graph, source, folds=2):
            if self.weight in step.stats:
                stats = step.stats[self.weight]
                break
            step.commit({layer.weight: coarse(graph.array(layer.weight)) for layer in step.layers})
        damping = feedback_damping(stats.folds)[0] or DAMPING
        fishers, layout = row_fishers(graph, OutputLoss(graph, source))[self.weight].fishers, view.layer.layout
        target = layout.to_matrix(weight.astype(np.float64))
        found = stepped(change(view), stats, fishers, lambda _: {}, target, damping)
        return weight, layout.to_tensor(found).astype(np.float32)

    def view(self, data: Mapping[str, np.ndarray]) -> View:
        graph = analyse(self.model)
        descent = Descent(graph, open_source(data, model_inputs(self.model)))
        descent.commit({name: coarse(graph.array(name)) for name in self.rounded})
        layer = next(layer for layer in graph.layers if layer.weight == self.weight)
        view = descent.at(layer, [self.weight])
        assert view is not None
        return view


@cache
def classifier() -> Case:
    return Case(trained(), {"x": clouds(200, 2)[0]}, {"x": clouds(2000, 3)[0]}, ("first",), "last")


def sample_model() -> Case:
    with np.load(SAMPLE / "calib.npz") as arrays:
        images = arrays["input"]
    calib, fresh = {"input": images[:96]}, {"input": images[96:]}
    return Case(onnx.load(SAMPLE / "model.onnx"), calib, fresh, ("conv1.weight", "conv2.weight"), "conv3.weight")


@pytest.mark.parametrize("case", [classifier, sample_model])
def test_lowers_the_loss_on_fresh_samples(case: Callable[[], Case]) -> None:
    made = case()
    view = made.view(made.fresh)
    before, after = (sum(view.loss({made.weight: weight}, half) for half in (0, 1)) for weight in made.step())
    assert after < 0.95 * before


@dataclass(frozen=True)
class Odd:
    """A view whose halves contradict each other, or that fails."""

    view: View
    error: Exception | None = None
    nothing: bool = False

    @property
    def layer(self) -> object:
        return self.view.layer

    def loss(self, values: Mapping[str, FloatArray], half: int) -> float:
        return 0.0 if self.nothing else self.view.loss(values, 0)

    def slope(
        self, values: Mapping[str, FloatArray], half: int, mean: Float64Array | None
    ) -> tuple[float, Float64Array]:
        if self.error is not None:
            raise self.error
        return self.loss(values, half), (1 - 2 * half) * self.view.slope(values, 0, mean)[1]


@pytest.mark.parametrize(
    "odd",
    [lambda view: Odd(view), lambda view: Odd(view, CalibrationError("no")), lambda view: Odd(view, nothing=True)],
    ids=["contradiction", "failure", "no loss"],
)
def test_stays_where_nothing_helps(odd: Callable[[View], View]) -> None:
    before, after = classifier().step(odd)
    np.testing.assert_array_equal(before, after)


class Used(Exception):
    """A gradient was asked for."""


def compressed(folder: Path, effort: str, price: float = 0.02) -> bytes:
    """The bytes of a file."""
    made, settings = classifier(), Settings(effort=effort, lambda_=price)
    onnx.save(made.model, folder / "o.onnx")
    cerwu_onnx.compress(folder / "o.onnx", folder / "o.cwb", calib=made.calib, settings=settings, force=True)
    return (folder / "o.cwb").read_bytes()


def test_only_the_largest_effort_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(*_: object) -> None:
        raise Used

    prices = (0.005, 0.02, 0.2)  # there need not be a step that helps at each of them
    most = [compressed(tmp_path, "max", price) for price in prices]
    assert most == [compressed(tmp_path, "max", price) for price in prices]
    monkeypatch.setitem(EFFORTS, "max", replace(EFFORTS["max"], steps=False))
    assert most != [compressed(tmp_path, "max", price) for price in prices]
    monkeypatch.undo()
    monkeypatch.setattr(layer_walk, "Descent", use)
    for effort in ("fast", "default"):
        assert compressed(tmp_path, effort)
    with pytest.raises(Used):
        compressed(tmp_path, "max")


def test_the_cache_tells_it_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = classifier()
    source = open_source(made.calib, model_inputs(made.model))
    states = []
    for steps in (False, True):
        monkeypatch.setitem(EFFORTS, "max", replace(EFFORTS["max"], steps=steps))
        quantizer = WalkQuantizer(analyse(made.model), source, Settings(effort="max"), silent)
        quantizer.settle(0.1)
        states.append({**quantizer._state(0.1), "noise": None})
    assert states[0] != states[1]
