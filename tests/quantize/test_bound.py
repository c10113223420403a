"""The rate-distortion bound against closed forms and a slow search for the water level."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import cerwu_onnx
from cerwu_onnx import Settings
from cerwu_onnx.cli.render import draw_report
from cerwu_onnx.compression import layer_walk
from cerwu_onnx.quantize.bound import gaussian_rate
from cerwu_onnx.report import LayerReport, Report

seeds = st.integers(0, 2**32 - 1)
shares = st.floats(1e-9, 0.999)


def layer(seed: int, groups: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights whose rows differ in scale, and a correlated Hessian that may lack full rank."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, rng.integers(1, 2 * columns + 1), columns)) @ rng.normal(size=(columns, columns))
    matrix = rng.normal(size=(groups, rows, columns)) * rng.lognormal(sigma=1.5, size=(groups, rows, 1))
    return matrix, x.transpose(0, 2, 1) @ x / x.shape[1]


def components(matrix: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Every ``lambda_k sigma_i^2``, one by one."""
    return np.array(
        [
            max(eigenvalue, 0.0) * float(row @ row) / len(row)
            for rows, metric in zip(matrix, hessian, strict=True)
            for row in rows
            for eigenvalue in np.linalg.eigvalsh(metric)
        ]
    )


def searched_rate(variances: np.ndarray, distortion: float) -> float:
    """Bits per component, the water level found by bisection of its logarithm."""
    low, high = -1000.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        if np.minimum(2.0**middle, variances).sum() < distortion:
            low = middle
        else:
            high = middle
    positive = variances[variances > 0]
    return float(np.maximum(np.log2(positive) - low, 0).sum()) / 2 / len(variances)


@given(seeds, st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), shares)
def test_equals_the_searched_water_level(seed: int, groups: int, rows: int, columns: int, share: float) -> None:
    matrix, hessian = layer(seed, groups, rows, columns)
    variances = components(matrix, hessian)
    distortion = share * float(variances.sum())
    rate = gaussian_rate(matrix, hessian, distortion)
    assert rate == pytest.approx(searched_rate(variances, distortion), rel=1e-6, abs=1e-9)


@given(seeds, shares, shares)
def test_falls_and_is_convex(seed: int, one: float, other: float) -> None:
    matrix, hessian = layer(seed, 2, 3, 4)
    energy = float(components(matrix, hessian).sum())
    ends = [gaussian_rate(matrix, hessian, share * energy) for share in (one, other)]
    middle = gaussian_rate(matrix, hessian, (one + other) / 2 * energy)
    assert (ends[0] - ends[1]) * (other - one) >= -1e-9
    assert middle <= sum(ends) / 2 + 1e-9


def test_white_input_is_the_textbook_formula() -> None:
    """Equal rows and H = I: 1/2 log2(variance / error per weight)."""
    matrix = np.full((1, 4, 5), 3.0)
    assert gaussian_rate(matrix, np.eye(5)[None], 20 * 9 / 64) == pytest.approx(3.0)


def test_one_eigenvalue_carries_everything() -> None:
    """An input that lies on a line: one component per row counts, the other columns cost nothing."""
    direction = np.array([3.0, 0.0, 4.0]) / 5
    hessian = 7 * np.outer(direction, direction)[None]
    matrix = np.array([[[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]])
    assert gaussian_rate(matrix, hessian, 2 * 7 / 16) == pytest.approx(2 * 2 / 6)


def test_a_weak_row_drowns() -> None:
    """Variances 16 and 1 at D = 3: the level is 2, the weak row costs nothing."""
    matrix = np.array([[[4.0], [1.0]]])
    assert gaussian_rate(matrix, np.ones((1, 1, 1)), 3.0) == pytest.approx(0.5 * math.log2(16 / 2) / 2)


def test_groups_share_one_water_level() -> None:
    """A depthwise layer is the same source as its components in one group with a diagonal Hessian."""
    matrix = np.array([[[2.0]], [[2.0]], [[2.0]]])
    hessian = np.array([1.0, 4.0, 64.0]).reshape(3, 1, 1)
    together = gaussian_rate(np.full((1, 1, 3), 2.0), np.diag(hessian.ravel())[None], 30.0)
    assert gaussian_rate(matrix, hessian, 30.0) == pytest.approx(together)


@given(seeds, st.floats(0.1, 10), st.floats(0.1, 10), shares)
def test_units_do_not_matter(seed: int, weight: float, metric: float, share: float) -> None:
    matrix, hessian = layer(seed, 1, 3, 4)
    distortion = share * float(components(matrix, hessian).sum())
    scaled = gaussian_rate(weight * matrix, metric * hessian, weight**2 * metric * distortion)
    assert scaled == pytest.approx(gaussian_rate(matrix, hessian, distortion), rel=1e-6, abs=1e-9)


def test_a_gaussian_source_is_coded_no_better_than_the_bound() -> None:
    """Rounding white Gaussian weights costs the 0.254 bit above R(D) that scalar quantisation pays at high rate."""
    matrix = np.random.default_rng(7).normal(size=(1, 64, 512))
    step = 0.05
    symbols = np.rint(matrix / step)
    _, counts = np.unique(symbols, return_counts=True)
    entropy = float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())
    bound = gaussian_rate(matrix, np.eye(512)[None], float(((matrix - step * symbols) ** 2).sum()))
    assert entropy - bound == pytest.approx(0.5 * math.log2(math.pi * math.e / 6), abs=0.01)


def test_ends() -> None:
    matrix, hessian = layer(3, 2, 3, 4)
    energy = float(components(matrix, hessian).sum())
    assert gaussian_rate(matrix, hessian, 1.000001 * energy) == 0
    assert gaussian_rate(matrix, hessian, math.inf) == 0
    with np.errstate(all="raise"):
        assert gaussian_rate(matrix, hessian, 0.0) == math.inf
    assert gaussian_rate(np.zeros((1, 2, 3)), np.eye(3)[None], 0.0) == 0
    assert gaussian_rate(np.ones((1, 2, 3)), np.zeros((1, 3, 3)), 0.0) == 0
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="out of range"):
            gaussian_rate(matrix, hessian, wrong)


def test_compress_reports_it_for_every_layer(tmp_path: Path) -> None:
    """Depthwise and dense ones: half a bit or so above, whatever the groups."""
    folder = Path(__file__).parents[2] / "sample_models" / "fashion_dscnn"
    found = cerwu_onnx.compress(
        folder / "model.onnx", tmp_path / "o.cwb", calib=str(folder / "calib.npz"), settings=Settings(lambda_=0.05)
    )
    assert len(found.layers) == 10
    for layer in found.layers:
        assert layer.above_bound is not None
        assert 0 < layer.above_bound < layer.bits_per_weight


def test_the_widest_layers_have_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layer_walk, "WIDEST", 500)
    folder = Path(__file__).parents[2] / "sample_models" / "fashion_cnn"
    found = cerwu_onnx.compress(
        folder / "model.onnx", tmp_path / "o.cwb", calib=str(folder / "calib.npz"), settings=Settings(lambda_=0.05)
    )
    columns = {layer.name: math.prod(layer.shape[1:]) for layer in found.layers}
    assert {name for name, count in columns.items() if count > 500} == {
        layer.name for layer in found.layers if layer.above_bound is None
    }
    assert 0 < sum(layer.above_bound is None for layer in found.layers) < len(found.layers)


def report(*above_bound: float | None) -> Report:
    """A compression of layers that differ in their distance from the bound."""
    layers = tuple(
        LayerReport(f"w{index}", "Gemm", (8, 8), 64, "ans", 20, 2.5, 2.4, 0.1, 5, 0.01, 0.01, above)
        for index, above in enumerate(above_bound)
    )
    return Report(999, 99, "cerwu", 1e-3, 32, "data", 9, None, (), layers, (), (), {}, (), {})


@pytest.mark.parametrize(
    ("above_bound", "width", "shown"),
    [((0.354, -0.127), 80, True), ((0.354, -0.127), 45, False), ((None, None), 80, False)],
)
def test_the_table_of_compress(above_bound: tuple[float | None, ...], width: int, shown: bool) -> None:
    stream = io.StringIO()
    drawn = draw_report(report(*above_bound), Path("m.onnx"), Path("m.cwb"), width)
    Console(file=stream, width=width).print(drawn)
    lines = stream.getvalue().splitlines()
    assert any("+0.35" in line for line in lines) == shown
    assert any("-0.13" in line for line in lines) == shown
    assert any("rate-distortion" in line for line in lines) == shown
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("width", "weights", "left_out"),
    [
        (100, 2_359_296, ""),
        (79, 64, ""),
        (80, 2_359_296, "above bound"),
        (50, 2_359_296, "above bound, shape, share of loss"),
    ],
)
def test_shares_of_the_loss_are_the_last_to_go(width: int, weights: int, left_out: str) -> None:
    layer = replace(report(0.354).layers[0], name="layer.name", shape=(512, 512, 3, 3), weights=weights)
    layers = tuple(replace(layer, coded_bytes=10 * weights, loss_share=share) for share in (0.75, 0.25))
    stream = io.StringIO()
    drawn = draw_report(replace(report(), layers=layers), Path("m.onnx"), Path("m.cwb"), width)
    Console(file=stream, width=width).print(drawn)
    shown = "share" not in left_out
    assert ("75.0%" in stream.getvalue()) == ("Share of loss:" in stream.getvalue()) == shown
    assert (f"Left out in {width} columns: {left_out} (" in " ".join(stream.getvalue().split())) == bool(left_out)
    assert max(map(len, stream.getvalue().splitlines())) <= width


def test_layers_without_error_have_an_empty_cell() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(draw_report(report(0.354, -math.inf, None), Path("m"), Path("o"), 80))
    assert "inf" not in stream.getvalue()
    assert report(0.5).to_dict()["layers"][0]["above_bound"] == 0.5


def test_no_distortion_takes_infinitely_many_bits_even_where_some_inputs_are_dead() -> None:
    assert gaussian_rate(np.ones((1, 2, 3)), np.diag([1.0, 0.0, 0.0])[None], 0.0) == math.inf
