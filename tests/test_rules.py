"""What is asked of single layers: skipped tensors come back bit for bit, prices move bits between layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cerwu_onnx
from cerwu_onnx import LayerRule, Settings, UsageError
from cerwu_onnx.pipeline import prepare

from .cli.conftest import small_model
from .models import conv_net

DATA = {"x": np.random.default_rng(6).normal(size=(40, 2, 8, 8)).astype(np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(small_model(batch_norm=True), path)
    return path


def layers(model: Path, *rules: LayerRule, **settings: object) -> dict[str, float]:
    """Prices by weight."""
    graph, _, _ = prepare(model, Settings(rules=rules, **settings))  # type: ignore[arg-type]
    return {layer.weight: layer.price for layer in graph.layers}


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_what_is_skipped_comes_back_bit_for_bit(model: Path, tmp_path: Path, method: str) -> None:
    settings = Settings(
        method=method, effort="fast", rules=(LayerRule("conv.*", skip=True), LayerRule("fc.bias", True))
    )
    report = cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=DATA, settings=settings)
    cerwu_onnx.decompress(tmp_path / "m.cwb", tmp_path / "back.onnx")
    before, after = tensors(model), tensors(tmp_path / "back.onnx")
    assert [layer.name for layer in report.layers] == ["fc.weight"]
    assert not report.folded
    for name in ("conv.weight", "conv.bias", "fc.bias", "bn.scale", "bn.var"):
        assert after[name].tobytes() == before[name].tobytes()
    assert after["fc.weight"].tobytes() != before["fc.weight"].tobytes()
    reasons = {tensor.name: tensor.reason for tensor in report.kept}
    assert reasons["conv.weight"] == "skipped by the rule for 'conv.*'"
    assert reasons["fc.bias"] == "skipped by the rule for 'fc.bias'"


def test_without_data_too(model: Path, tmp_path: Path) -> None:
    settings = Settings(rules=(LayerRule("fc.weight", skip=True),))
    report = cerwu_onnx.compress(model, tmp_path / "m.cwb", settings=settings)
    assert [layer.name for layer in report.layers] == ["conv.weight"]


def test_everything_may_be_skipped(model: Path, tmp_path: Path) -> None:
    settings = Settings(rules=(LayerRule("*", skip=True),))
    report = cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=DATA, settings=settings)
    assert not report.layers
    assert not report.parameters


@pytest.mark.parametrize("calib", [DATA, None])
@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_a_lower_price_buys_bits(model: Path, tmp_path: Path, method: str, calib: dict[str, np.ndarray] | None) -> None:
    rates = []
    for price in (1.0, 0.1):
        settings = Settings(method, "fast", 0.05, rules=(LayerRule("fc.weight", price=price),))
        report = cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=calib, settings=settings, force=True)
        rates.append({layer.name: layer.bits_per_weight for layer in report.layers}["fc.weight"])
    assert rates[1] > rates[0] + 0.1


def test_the_last_rule_that_matches_counts(model: Path) -> None:
    every, back, half = LayerRule("*", skip=True), LayerRule("fc.*"), LayerRule("*.weight", price=0.5)
    assert layers(model, every, back) == {"fc.weight": 1.0}
    assert layers(model, back, every) == {}
    assert layers(model, half) == {"conv.weight": 0.5, "fc.weight": 0.5}
    assert layers(model, half, LayerRule("fc.weight", price=2)) == {"conv.weight": 0.5, "fc.weight": 2.0}


def test_parameters_of_a_normalisation_stay_together(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "model.onnx")
    settings = Settings(fold_bn=False, rules=(LayerRule("bn.m", skip=True),))
    graph, _, _ = prepare(tmp_path / "model.onnx", settings)
    (conv,) = (layer for layer in graph.layers if layer.weight == "conv.w")
    assert conv.norm is None
    assert conv.bias is not None


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (LayerRule("fc.wieght", skip=True), r"the rule for 'fc\.wieght' matches no tensor .* 'fc\.weight'\?"),
        (LayerRule("nothing*"), "matches no tensor of the model; `cerwu-onnx inspect` lists them"),
        (LayerRule("fc.bias", price=0.5), r"'fc\.bias': a price is for weights that are quantised"),
    ],
)
def test_rules_that_match_nothing(model: Path, rule: LayerRule, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(model, Settings(rules=(rule,)))


@pytest.mark.parametrize(
    ("price", "skip", "message"),
    [(0.0, False, "out of range"), (float("inf"), False, "out of range"), (0.5, True, "has no price")],
)
def test_rules_that_mean_nothing(price: float, skip: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LayerRule("*", skip, price)


def test_methods_without_lambda_have_no_prices() -> None:
    with pytest.raises(UsageError, match="method rtn has no lambda"):
        Settings(method="rtn", rules=(LayerRule("*", price=2),))
    assert Settings(method="rtn", rules=(LayerRule("*", skip=True),)).rules
