"""The quantiser against hand-computable answers and brute force."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx.config import Settings
from cerwu_onnx.entropy import ans, tables
from cerwu_onnx.errors import UsageError
from cerwu_onnx.quantize import hessian as hs
from cerwu_onnx.quantize import methods
from cerwu_onnx.quantize import obs as kernel
from cerwu_onnx.types import LayerStats, MatrixLayout

from ..reference import textbook_optq

seeds = st.integers(0, 2**32 - 1)
NAMES = sorted(methods.METHODS)


def random_hessian(rng: np.random.Generator, groups: int, columns: int) -> np.ndarray:
    """Correlated, well-conditioned ``(G, N, N)``."""
    x = rng.normal(size=(groups, 4 * columns, columns)) @ rng.normal(size=(columns, columns)) + rng.normal()
    return x.transpose(0, 2, 1) @ x / (4 * columns) + 0.05 * np.eye(columns)


def plain_layout(groups: int, rows: int, columns: int) -> MatrixLayout:
    shape = (groups, rows, columns)
    return MatrixLayout(shape, shape, (0, 1, 2), groups, rows, columns)


def run(matrix: np.ndarray, hessian: np.ndarray, **changes: object) -> tuple[np.ndarray, float]:
    """Symbols and step of a method on a plain stack."""
    stats = LayerStats(hessian, np.zeros(hessian.shape[:2]), 100)
    out = methods.quantize(matrix, plain_layout(*matrix.shape), stats, Settings(**changes), "layer")  # type: ignore[arg-type]
    return out.symbols, out.step


@given(seeds, st.integers(1, 3), st.integers(1, 9))
def test_inverse_factor(seed: int, groups: int, columns: int) -> None:
    hessian = random_hessian(np.random.default_rng(seed), groups, columns)
    factor = hs.inverse_factor(hessian)
    assert np.array_equal(factor, np.triu(factor))
    assert np.allclose(factor.transpose(0, 2, 1) @ factor @ hessian, np.eye(columns), atol=1e-6)


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 9))
def test_optq_is_the_textbook_update(seed: int, groups: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(groups, rows, columns)) * 3
    hessian = random_hessian(rng, groups, columns)
    symbols = kernel.obs(w, hs.inverse_factor(hessian), np.ones((groups, columns)), None)
    for group, row in itertools.product(range(groups), range(rows)):
        assert np.array_equal(symbols[group, row], textbook_optq(w[group, row], hessian[group]))


@given(seeds)
def test_blocks_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, hessian = rng.normal(size=(2, 3, 11)) * 4, random_hessian(rng, 2, 11)
    factor, weight = hs.inverse_factor(hessian), np.ones((2, 11))
    whole = kernel.obs(w, factor, weight, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "BLOCK", 4)
        assert np.array_equal(kernel.obs(w, factor, weight, None), whole)


@given(seeds)
def test_predicted_loss_is_the_brute_force_minimum_on_three_weights(seed: int) -> None:
    """Fixing q_0 costs (w_0 - q_0)^2 / U_00^2 when the other two move freely."""
    rng = np.random.default_rng(seed)
    hessian = random_hessian(rng, 1, 3)
    factor = hs.inverse_factor(hessian)[0]
    error = rng.normal()
    rest = -np.linalg.solve(hessian[0, 1:, 1:], hessian[0, 1:, 0] * error)
    move = np.concatenate([[error], rest])
    assert move @ hessian[0] @ move == pytest.approx(error**2 / factor[0, 0] ** 2)


@given(seeds)
def test_losses_of_the_columns_add_up_to_the_distortion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, hessian = rng.normal(size=(2, 3, 7)) * 3, random_hessian(rng, 2, 7)
    factor = hs.inverse_factor(hessian)
    q = kernel.obs(w, factor, np.ones((2, 7)), None)
    columns = np.linalg.solve(factor.transpose(0, 2, 1), (w - q).transpose(0, 2, 1))
    assert methods.distortion(w - q, hessian) == pytest.approx(float((columns**2).sum()))


@given(seeds, st.sampled_from(["cerwu-gamma0", "optq-rd"]))
def test_a_diagonal_hessian_makes_feedback_useless(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.laplace(size=(1, 5, 6))
    scale = rng.uniform(0.5, 2, 6) if method == "cerwu-gamma0" else np.full(6, 1.3)
    hessian = np.diag(scale)[None]
    with_feedback, _ = run(matrix, hessian, method=method, lambda_=0.1)
    without, _ = run(matrix, hessian, method="rd-rtn", lambda_=0.1)
    assert np.array_equal(with_feedback, without)


@given(seeds, st.sampled_from(["cerwu", "cerwu-gamma0", "optq-rd"]))
def test_lambda_zero_is_optq(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    matrix, hessian = rng.laplace(size=(1, 4, 6)), random_hessian(rng, 1, 6)
    assert np.array_equal(run(matrix, hessian, method=method, lambda_=0.0)[0], run(matrix, hessian, method="optq")[0])


@given(seeds)
def test_rtn_rounds_to_nearest(seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(2, 3, 4))
    symbols, step = run(matrix, np.stack([np.eye(4)] * 2), method="rtn", levels=16)
    assert step == np.float32(np.abs(matrix).max() / 8)
    assert np.abs(matrix - step * symbols).max() <= step / 2 * 1.0001
    assert np.abs(symbols).max() == 8


@given(seeds, st.floats(0.0, 3.0))
def test_decisions_are_the_best_of_all_integers(seed: int, price: float) -> None:
    """With code lengths that grow away from zero the candidates hold the optimum unless it is over two steps inside."""
    rng = np.random.default_rng(seed)
    w, weight = rng.normal(size=(3, 5)) * 3, rng.uniform(0.8, 2, size=(3, 1))
    bits = np.abs(np.arange(-30, 31)) * rng.uniform(0.1, 1) + 0.5
    rate = kernel.Rate(price, bits)
    grid = np.arange(-20, 21, dtype=float)
    cost = weight[..., None] * (w[..., None] - grid) ** 2 + rate.cost(grid)
    best = cost.min(axis=-1)
    chosen = kernel.decide(w, weight, rate)
    assert np.allclose(weight * (w - chosen) ** 2 + rate.cost(chosen), best)


@given(seeds, st.floats(0.01, 5), st.floats(0.1, 3))
def test_the_quadratic_rate_is_a_shifted_target(seed: int, price: float, gamma: float) -> None:
    """(w-q) H (w-q)^T + price gamma/2 |q|^2 = (w'-q) H' (w'-q)^T + const (CERWU)."""
    rng = np.random.default_rng(seed)
    w, hessian = rng.normal(size=(1, 2, 4)), random_hessian(rng, 1, 4)
    ridge = price * gamma / 2
    factor = hs.inverse_factor(hessian + ridge * np.eye(4))
    shifted = w - ridge * (w @ factor.transpose(0, 2, 1) @ factor)
    q = rng.integers(-3, 4, size=(2, 1, 2, 4)).astype(float)
    left = [methods.distortion(w - one, hessian) + ridge * (one**2).sum() for one in q]
    right = [methods.distortion(shifted - one, hessian + ridge * np.eye(4)) for one in q]
    assert left[0] - left[1] == pytest.approx(right[0] - right[1])


@pytest.mark.parametrize("method", ["rd-rtn", "optq-rd", "cerwu-gamma0", "cerwu"])
def test_a_higher_lambda_buys_fewer_bits(method: str) -> None:
    rng = np.random.default_rng(5)
    matrix, hessian = rng.laplace(size=(1, 64, 48)), random_hessian(rng, 1, 48)
    rates = [tables.entropy(run(matrix, hessian, method=method, lambda_=lam)[0]) for lam in (0.0, 0.003, 0.03, 0.3)]
    assert rates[1] < 1.005 * rates[0]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] < 0.8 * rates[0]


def test_the_methods_rank_as_the_theory_says() -> None:
    """At one lambda, D + lambda R: CERWU <= OPTQ <= RTN, on correlated inputs."""
    rng = np.random.default_rng(6)
    matrix, hessian = rng.laplace(size=(1, 96, 64)), random_hessian(rng, 1, 64)
    lam, objective = 0.01, {}
    for name in ("rtn", "optq", "cerwu-gamma0", "cerwu"):
        symbols, step = run(matrix, hessian, method=name, lambda_=lam)
        loss = methods.distortion(matrix - step * symbols, hessian) / methods.distortion(matrix, hessian)
        objective[name] = loss + lam * tables.entropy(symbols)
    assert objective["cerwu"] < objective["optq"] < objective["rtn"]
    assert objective["cerwu-gamma0"] < objective["optq"]


def test_estimated_rate_is_within_one_percent_of_the_written_bytes() -> None:
    rng = np.random.default_rng(7)
    matrix, hessian = rng.laplace(size=(1, 256, 128)), random_hessian(rng, 1, 128)
    symbols, _ = run(matrix, hessian, method="cerwu", lambda_=0.01)
    lengths = methods.code_lengths(symbols.astype(float))
    estimate = float(lengths[symbols + len(lengths) // 2].sum())
    table = tables.fit(symbols)
    written = 8 * len(table.to_bytes() + ans.encode(symbols, table))
    assert written == pytest.approx(estimate, rel=0.01)


def test_groups_are_independent() -> None:
    rng = np.random.default_rng(8)
    w, hessian = rng.normal(size=(3, 2, 5)) * 3, random_hessian(rng, 3, 5)
    factor, weight = hs.inverse_factor(hessian), np.ones((3, 5))
    together = kernel.obs(w, factor, weight, None)
    for g in range(3):
        assert np.array_equal(together[g : g + 1], kernel.obs(w[g : g + 1], factor[g : g + 1], weight[g : g + 1], None))


@settings(max_examples=20)
@given(seeds, st.sampled_from(NAMES))
def test_symbols_keep_the_tensors_shape_whatever_its_layout(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    tensor = rng.normal(size=(6, 4))
    layout = MatrixLayout((6, 4), (1, 6, 4), (0, 2, 1), 1, 4, 6)
    stats = LayerStats(random_hessian(rng, 1, 6), np.zeros((1, 6)), 10)
    out = methods.quantize(tensor, layout, stats, Settings(method=method, levels=64, lambda_=1e-5), "x")
    assert out.symbols.shape == tensor.shape
    assert np.abs(out.values() - tensor).max() < 6 * out.step
    matrix, q = layout.to_matrix(tensor), layout.to_matrix(out.values().astype(float))
    assert out.distortion == pytest.approx(methods.distortion(matrix - q, stats.hessian), rel=1e-5)
    assert out.energy == pytest.approx(methods.distortion(matrix, stats.hessian))


def test_dead_inputs_get_the_mean_diagonal() -> None:
    hessian = np.diag([4.0, 0.0, 2.0])[None]
    assert np.allclose(np.diag(hs.damped(hessian, 0.01)[0]), [4.02, 2.02, 2.02])
    assert np.allclose(np.diag(hs.damped(np.zeros((1, 2, 2)), 0.01)[0]), [1.01, 1.01])


def test_damping_escalates_and_names_the_layer(caplog: pytest.LogCaptureFixture) -> None:
    hessian = np.array([[[1.0, 1.1], [1.1, 1.0]]])
    with caplog.at_level(logging.WARNING, "cerwu_onnx"):
        parts = hs.factorise(hessian, 0.01, 0.0, "conv7")
    assert parts is not None
    assert parts[1] == pytest.approx(1.0)
    assert [record.getMessage().count("layer conv7") for record in caplog.records] == [1, 1]


def test_a_hopeless_hessian_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    hessian = np.array([[[1.0, 1e6], [1e6, 1.0]]])
    matrix = np.random.default_rng(0).normal(size=(1, 3, 2))
    with caplog.at_level(logging.WARNING, "cerwu_onnx"):
        symbols, _ = run(matrix, hessian, method="optq")
    assert np.array_equal(symbols, run(matrix, hessian, method="rtn")[0])
    assert "layer layer: the Hessian never factorised" in caplog.text


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-38, 1e30])
def test_constant_tensors(method: str, value: float) -> None:
    symbols, step = run(np.full((1, 4, 3), value), np.eye(3)[None], method=method)
    assert np.isfinite(step)
    assert np.abs(symbols * np.float64(step) - value).max() <= step


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"method": "magic"}, "unknown: choose one of"),
        ({"lambda_": -1.0}, "lambda"),
        ({"lambda_": float("nan")}, "lambda"),
        ({"levels": 1}, "levels"),
        ({"levels": 5000}, "levels"),
        ({"damping": 0.0}, "damping"),
        ({"passes": 0}, "passes"),
        ({"batch_size": 0}, "batch size"),
        ({"memory": 10}, "memory"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**bad)  # type: ignore[arg-type]


def test_the_cost_of_a_symbol_leaves_out_what_the_hessian_holds() -> None:
    """``lambda (bits - gamma / 2 q^2)``; beyond the table's ends bits are those of the ends."""
    rate = kernel.Rate(2.0, np.array([5.0, 1.0, 4.0]), gamma=0.5)
    assert rate.cost(np.array([-3.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [5.5, 9.5, 2.0, 7.5, 6.0]
