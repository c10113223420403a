"""What is asked of single layers: skipped tensors come back bit for bit, prices move bits between layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import LayerRule, Settings, UsageError
from cerwu_onnx.compression.prepare import prepare

from ..cli.conftest import small_model
from ..models import build, conv_net, normal, value

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


CORRELATED = {"x": normal(60, 1, seed=6) + 0.1 * normal(60, 24, seed=7)}
"""Inputs whose Hessian moves weights far from where they were."""


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    tensors = {"w": normal(24, 30, seed=1), "v": normal(30, 8, seed=2)}
    onnx.save(build(nodes, [value("x", ["N", 24])], [value("y", ["N", 8])], tensors), tmp_path / "dense.onnx")
    return tmp_path / "dense.onnx"


@pytest.mark.parametrize("calib", [CORRELATED, None])
@pytest.mark.parametrize("method", ["trellis", "cerwu", "optq", "rtn"])
def test_symbols_fit_the_bits(dense: Path, tmp_path: Path, method: str, calib: dict[str, np.ndarray] | None) -> None:
    errors = []
    for bits in (2, 3, 4, 8):
        rules = (LayerRule("[vw]", bits=bits),)
        settings = Settings(method, "fast", None if method in ("optq", "rtn") else 1e-4, levels=256, rules=rules)
        report = cerwu_onnx.compress(dense, tmp_path / "m.cwb", calib=calib, settings=settings, force=True)
        values = cerwu_onnx.open(tmp_path / "m.cwb")
        reach = [np.rint(np.abs(values[layer.name]).max() / layer.step) for layer in report.layers]
        assert len(reach) == 2  # none stays exact because its grid is coarse: that is what was asked for
        assert max(reach) <= 2 ** (bits - 1) - 1
        assert max(reach) > 2 ** (bits - 1) / 2.5  # and the range is used
        errors.append(sum(layer.relative_error for layer in report.layers))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_bits_that_suffice_change_nothing(dense: Path, tmp_path: Path) -> None:
    """But for steps of columns, which a kernel that limits bits does not know."""
    for name, bits in (("a", 11), ("b", 8)):
        settings = Settings(effort="fast", lambda_=0.1, rules=(LayerRule("*", bits=bits),))
        report = cerwu_onnx.compress(dense, tmp_path / name, calib=CORRELATED, settings=settings)
        assert all(layer.symbols < 100 for layer in report.layers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


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
        (LayerRule("fc.bias", price=0.5), r"'fc\.bias': price and bits are only for quantised weights"),
        (LayerRule("fc.bias", bits=8), r"'fc\.bias': price and bits are only for quantised weights"),
    ],
)
def test_rules_that_match_nothing(model: Path, rule: LayerRule, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(model, Settings(rules=(rule,)))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"price": 0.0}, "price 0.0 is out of range"),
        ({"price": float("inf")}, "price inf is out of range"),
        ({"bits": 1}, "bits 1 is out of range: give 2 to 12"),
        ({"bits": 13}, "bits 13 is out of range"),
        ({"price": 0.5, "skip": True}, "neither price nor bits"),
        ({"bits": 8, "skip": True}, "neither price nor bits"),
    ],
)
def test_rules_that_mean_nothing(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LayerRule("*", **wanted)


def test_methods_without_lambda_have_no_prices() -> None:
    with pytest.raises(UsageError, match="method rtn has no lambda"):
        Settings(method="rtn", rules=(LayerRule("*", price=2),))
    assert Settings(method="rtn", rules=(LayerRule("*", skip=True),)).rules
