"""Exponents of rows: when they pay, what they are, and what a layer makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from cerwu_onnx.container import writer
from cerwu_onnx.container.format import Order
from cerwu_onnx.entropy import exponents
from cerwu_onnx.quantize import changes, priced
from cerwu_onnx.quantize.floats import quantize_floats
from cerwu_onnx.quantize.hessian import inverse_factor
from cerwu_onnx.quantize.row_steps import RELATIVE, exponents_of, relative_costs
from cerwu_onnx.types import Bias, Layer, MatrixLayout, PairStats, QuantizedTensor

CHANNELS, TAPS = 64, 9
DEPTHWISE = MatrixLayout((CHANNELS, 1, 3, 3), (CHANNELS, 1, TAPS), (0, 1, 2), CHANNELS, 1, TAPS)
SCALES = np.exp2(np.linspace(-5, 5, CHANNELS).round())


def stats_of(scales: np.ndarray) -> PairStats:
    """Inputs of channels of these scales, alike otherwise."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(CHANNELS, 200, TAPS)) @ (np.eye(TAPS) + 0.3 * rng.normal(size=(TAPS, TAPS)))
    hessian = x.swapaxes(1, 2) @ x / 200 * scales[:, None, None] ** 2
    mean = np.zeros((CHANNELS, TAPS))
    return PairStats(hessian, mean, 10_000, hessian, mean)


def noise_of(scales: np.ndarray) -> float:
    """What white noise on the weights costs, if outputs of equal size cost as much."""
    return float(np.square(scales).mean())


def weight_of(scales: np.ndarray) -> np.ndarray:
    weight = np.random.default_rng(0).laplace(size=(CHANNELS, 1, 3, 3)) / scales[:, None, None, None]
    return weight.astype(np.float32)


def quantized(scales: np.ndarray, price: float = 1e-3, **options: object) -> tuple[QuantizedTensor, float]:
    cost = priced.Cost(noise_of(scales), price, (np.ones((CHANNELS, 1, 1)),))
    given = {"columns": np.arange(TAPS), "damping": 0.01, "passes": 3, "name": "w", **options}
    return priced.quantize(weight_of(scales), DEPTHWISE, stats_of(scales), cost, **given)  # type: ignore[arg-type]


def bits(tensor: QuantizedTensor) -> float:
    """Of all weights, exponents included."""
    order = Order.ROW_MAJOR if tensor.run else Order.AXIS0_LAST
    return 8.0 * len(writer.encode_tensor(writer.CodedTensor("w", tensor, "adaptive", order)).payload)


def test_inputs_that_differ_by_a_thousand_cost_nothing_but_exponents() -> None:
    """A network may scale an input down and the weights up: then steps follow, and symbols hardly change."""
    alike, _ = quantized(np.ones(CHANNELS))
    apart, variance = quantized(SCALES)
    one, lost = quantized(SCALES, stepped=False)
    assert alike.exponents is None
    assert one.exponents is None
    assert apart.exponents is not None
    assert apart.exponents.shape == (CHANNELS, 1, 1, 1)
    np.testing.assert_allclose(np.diff(np.log2(SCALES)), np.diff(apart.exponents.ravel()), atol=1)
    assert apart.distortion / apart.energy < 1.5 * alike.distortion / alike.energy
    assert bits(apart) < bits(alike) + 6 * CHANNELS
    assert bits(apart) < 0.7 * bits(one)
    assert variance < 2 * lost
    restored = apart.values() * SCALES[:, None, None, None]
    np.testing.assert_allclose(restored, weight_of(np.ones(CHANNELS)), atol=4 * float(alike.steps))


def test_rows_on_uniform_grids_have_steps_too() -> None:
    """As CMSIS-NN reads depthwise weights, no trellis can follow a row."""
    apart, _ = quantized(SCALES, columns=None)
    one, _ = quantized(SCALES, columns=None, stepped=False)
    assert (apart.run, one.run) == (0, 0)
    assert apart.exponents is not None
    assert bits(apart) < 0.7 * bits(one)
    alike, _ = quantized(np.ones(CHANNELS), columns=None)
    assert apart.distortion == pytest.approx(alike.distortion, rel=0.1)


@pytest.mark.parametrize("largest", [127, 7])
def test_steps_follow_the_range_that_a_kernel_allows(largest: int) -> None:
    cost = priced.Cost(noise_of(SCALES), 1e-9, (np.ones((CHANNELS, 1, 1)),), largest)
    errors = []
    for stepped in (True, False):
        options = {"columns": None, "damping": 0.01, "passes": 2, "name": "w", "stepped": stepped}
        found, _ = priced.quantize(weight_of(SCALES), DEPTHWISE, stats_of(SCALES), cost, **options)  # type: ignore[arg-type]
        assert np.abs(found.symbols).max() <= largest
        errors.append(found.distortion)
    assert errors[0] < errors[1] / 10


MATRIX = MatrixLayout((40, 32), (40, 32), (1, 0), 1, 32, 40)
SIZES = np.exp2(np.linspace(-4, 4, 40).round())


def by_columns(sizes: np.ndarray, largest: int = 2047, **options: object) -> QuantizedTensor:
    """A matrix of 32 outputs, whose inputs have these sizes, of two halves of the samples."""
    rng = np.random.default_rng(3)
    weight = (rng.laplace(size=(40, 32)) / sizes[:, None]).astype(np.float32)
    mixed = np.eye(40) + 0.1 * rng.normal(size=(40, 40))
    halves = [rng.normal(size=(300, 40)) @ mixed * sizes for _ in range(2)]
    hessians, mean = [(x.T @ x / 300)[None] for x in halves], np.zeros((1, 40))
    folds = tuple(PairStats(h, mean, 300, h, mean) for h in hessians)
    hessian = (hessians[0] + hessians[1]) / 2
    stats = PairStats(hessian, mean, 600, hessian, mean, folds=folds)
    gradients = rng.normal(size=(200, 32)) @ (np.eye(32) + 0.1 * rng.normal(size=(32, 32)))
    cost = priced.Cost(float(np.square(sizes).mean()), 1e-4, ((gradients.T @ gradients)[None],), largest)
    given = {"columns": np.arange(40), "damping": 0.01, "passes": 3, "name": "w", **options}
    return priced.quantize(weight, MATRIX, stats, cost, **given)[0]  # type: ignore[arg-type]


def test_inputs_of_other_sizes_cost_nothing_but_exponents_of_columns() -> None:
    alike, apart, one = by_columns(np.ones(40), across=True), by_columns(SIZES, across=True), by_columns(SIZES)
    assert not alike.across
    assert not one.across
    assert apart.across
    assert apart.run == 32  # the trellis follows the columns
    assert apart.exponents is not None
    assert apart.exponents.shape == (40, 1)
    np.testing.assert_allclose(apart.exponents.ravel(), np.log2(SIZES / SIZES[0]) - 1, atol=1)  # so does damping
    orders = {alike.across: Order.AXIS0_LAST, apart.across: Order.ROW_MAJOR}
    alike_bits, apart_bits, one_bits = (
        8 * len(writer.encode_tensor(writer.CodedTensor("w", found, "adaptive", orders[found.across])).payload)
        for found in (alike, apart, one)
    )
    assert apart_bits < 1.3 * alike_bits
    assert apart_bits < 0.55 * one_bits
    assert apart.distortion / apart.energy < 1.1 * alike.distortion / alike.energy


def test_columns_have_no_steps_where_those_of_rows_do_as_well() -> None:
    assert not by_columns(np.linspace(1, 1.5, 40), across=True).across
    assert by_columns(np.linspace(1, 30, 40), across=True).across


def test_kernels_that_read_few_bits_have_no_steps_of_columns() -> None:
    assert by_columns(SIZES, across=True, largest=2047).across
    assert not by_columns(SIZES, across=True, largest=127).across


def test_changes_of_columns_with_steps_of_their_own() -> None:
    """They are those of columns with one step, where inputs and weights have the sizes that make it so."""
    rng = np.random.default_rng(5)
    scale = np.exp2(rng.integers(0, 6, 40))
    x = rng.normal(size=(300, 40)) @ (np.eye(40) + 0.2 * rng.normal(size=(40, 40)))
    hessian = (x.T @ x / 300)[None]
    factor, order = inverse_factor(hessian), rng.permutation(40)
    symbols = rng.integers(-3, 4, (40, 32)).astype(np.int32)
    target = MATRIX.to_matrix(0.5 * symbols + rng.normal(size=(40, 32)))
    found = []
    for size in (np.ones(40), scale):  # each input is divided by its size, and its weights multiplied
        exponents = np.log2(scale / size).astype(np.int64)[:, None]
        base = QuantizedTensor(symbols, 0.5, 0.0, 0.0, 0.0, 32, exponents=exponents)
        unit = size[order]
        own = factor * unit
        curvature = np.einsum("gnn->gn", own) ** -2.0
        outside = hessian / (size * size[:, None])
        frame = changes.Frame(MATRIX, target * size / scale, order, outside, own, curvature, None, 2047)
        changed, lost = frame.change(base, 1e-3, 2)
        found.append((changed.symbols, lost))
    np.testing.assert_array_equal(*(symbols for symbols, _ in found))
    assert found[0][1] == pytest.approx(found[1][1])
    assert not np.array_equal(found[0][0], symbols)


def test_exponents_that_do_not_pay() -> None:
    w, even = np.random.default_rng(0).normal(size=(1, 50, 9)), np.ones((1, 50))
    assert exponents_of(w, even, 1000, 1000) == (None, 0)
    assert exponents_of(w, even * np.linspace(1, 1.9, 50), 1000, 1000) == (None, 0)
    few = exponents_of(w[:, :2], np.array([[1.0, 2.2]]), 1000, 1000)  # half a bit each, less than exponents cost
    assert few == (None, 0)


def test_exponents_are_those_of_the_theory() -> None:
    w = 30 * np.random.default_rng(0).normal(size=(1, 50, 40))
    costs = 4.0 ** np.random.default_rng(1).integers(0, 6, (1, 50))
    found, saved = exponents_of(w / np.sqrt(costs)[:, :, None], costs, 10_000, 10_000)
    assert found is not None
    assert saved > np.log2(costs.mean() / np.exp(np.log(costs).mean())) / 2 - 0.2
    np.testing.assert_array_equal(found, np.log2(costs) / 2)


def test_exponents_stay_in_range() -> None:
    w = np.ones((1, 40, 8)) * np.exp2(np.arange(40))[None, :, None]
    found, _ = exponents_of(w, 4.0 ** -np.arange(40.0)[None], 1000, 1000)
    assert found is not None
    assert (found.min(), found.max()) == (0, exponents.MOST)
    spread, _ = exponents_of(w[:, :20], np.ones((1, 20)), 1000, 1000)  # large rows would leave the range of symbols
    assert spread is not None
    assert (np.diff(spread[0]) <= 0).all()


def test_rows_whose_costs_nobody_knows() -> None:
    energy = np.array([1.0, 1.0, 1.0, 1e-6, 0.0])
    costs = relative_costs(energy)
    np.testing.assert_allclose(costs[:3], 1, rtol=0.05)
    assert costs[3] == pytest.approx(RELATIVE / (1 + RELATIVE) * energy.mean() / 1e-6, rel=0.01)
    assert np.isfinite(costs).all()
    np.testing.assert_array_equal(relative_costs(np.zeros(3)), 1)


def test_biases_follow_the_steps_of_their_rows() -> None:
    """Each is off by less than its row's weights make its output err, on however different scales."""
    tensor, _ = quantized(SCALES, price=1e-2)
    layer = Layer("w", DEPTHWISE, (), Bias("b", 1.0))
    bias = np.random.default_rng(2).normal(size=CHANNELS).astype(np.float32)
    error = DEPTHWISE.to_matrix(weight_of(SCALES) - tensor.values()).astype(np.float64)
    for factor in (1.0, SCALES.astype(np.float32)):  # outputs that are alike, and outputs scaled as their inputs are
        stats = stats_of(SCALES * factor)
        own = ((error @ stats.hessian) * error).sum(axis=-1).ravel()
        values = bias * factor
        found = quantize_floats(layer, {"w": weight_of(SCALES), "b": values}, stats, tensor)["b"]
        assert (np.square(found.values() - values) < own).all()
        if found.exponents is not None:
            assert found.run == 1
            assert (found.symbols % 2 == 0).all()
    assert found.exponents is not None
