"""The loss at a model's output, against its definition and where numbers get awkward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from cerwu_onnx.calibration import comparable, final_losses, loss_kind
from cerwu_onnx.errors import CalibrationError

from ..models import normal

f32 = np.float32


def test_kinds_by_value() -> None:
    logits = normal(6, 10)
    probabilities = softmax(logits, axis=-1)
    assert loss_kind([logits, logits[:2]]) == "kl"
    assert loss_kind([probabilities]) == "kl"
    assert loss_kind([softmax(normal(2, 3, 5), axis=-1)]) == "kl"  # rows of probabilities at each time
    assert loss_kind([probabilities.astype(np.float16)]) == "kl"
    assert loss_kind([1 / (1 + np.exp(-logits))]) == "mse"  # independent probabilities
    assert loss_kind([logits / 100]) == loss_kind([1000 + logits / 100]) == "mse"  # as logits all the same to KL
    assert loss_kind([np.where(logits > 1, -np.inf, logits)]) == "kl"
    assert loss_kind([np.where(logits > 1, np.nan, logits)]) == "kl"  # whose loss says what is wrong
    assert loss_kind([normal(6, 1)]) == "mse"
    assert loss_kind([normal(6)]) == "mse"
    assert loss_kind([normal(2, 3, 5)]) == "mse"
    assert loss_kind([np.arange(6).reshape(2, 3)]) == "mse"
    assert loss_kind([probabilities, logits]) == "kl"
    assert loss_kind([np.zeros((0, 3), f32), probabilities]) == "kl"


def test_a_loss_that_is_asked_for() -> None:
    logits = normal(6, 4)
    for array in (logits, logits / 100, normal(2, 3, 5)):
        assert (loss_kind([array], "kl"), loss_kind([array], "mse")) == ("kl", "mse")
    for array in (normal(6, 1), normal(6), np.arange(6).reshape(2, 3)):  # no classes
        assert loss_kind([array], "kl") == "mse"


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
@settings(deadline=None)
def test_kl_is_its_definition(seed: int, samples: int, classes: int) -> None:
    x, y = 3 * normal(samples, classes, seed=seed), 3 * normal(samples, classes, seed=seed + 1)
    p, q = softmax(x.astype(np.float64), axis=1), softmax(y.astype(np.float64), axis=1)
    expected = entropy(p, q, axis=1).mean()
    assert final_losses([x], [y], "kl") == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert final_losses([p.astype(f32)], [q.astype(f32)], "kl") == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert final_losses([x], [x], "kl") == 0
    assert final_losses([x], [(y + 50).astype(f32)], "kl") == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_batches_are_weighted_by_their_samples() -> None:
    x, y = normal(7, 5), normal(7, 5, seed=1)
    for kind in ("kl", "mse"):
        whole = final_losses([x], [y], kind)
        assert final_losses([x[:1], x[1:1], x[1:]], [y[:1], y[1:1], y[1:]], kind) == pytest.approx(whole, rel=1e-12)


def test_small_divergences_are_not_lost() -> None:
    """To second order, KL = sum p (d - mean d)^2 / 2 for a small change d of the logits."""
    x = normal(4, 10).astype(np.float64)
    d = 1e-5 * normal(4, 10, seed=1).astype(np.float64)
    p = softmax(x, axis=1)
    expected = ((p * d**2).sum(axis=1) - (p * d).sum(axis=1) ** 2).mean() / 2
    assert final_losses([x], [x + d], "kl") == pytest.approx(expected, rel=1e-3)


def test_certain_predictions() -> None:
    one, other = np.array([[1, 0, 0]], f32), np.array([[0, 1, 0]], f32)
    assert final_losses([one], [one], "kl") == pytest.approx(0, abs=1e-30)
    assert final_losses([one], [other], "kl") == pytest.approx(-np.log(np.finfo(f32).tiny))
    huge = np.array([[1e30, 0, -1e30]], f32)
    assert final_losses([huge], [huge], "kl") == 0
    assert final_losses([huge], [huge[:, ::-1].copy()], "kl") == pytest.approx(2e30)
    masked = np.array([[0, 1, -np.inf]], f32)
    assert final_losses([masked], [masked], "kl") == 0
    assert final_losses([np.array([[0, 1, -30]], f32)], [masked], "kl") == np.inf


def test_probabilities_of_little_precision() -> None:
    """Rows that sum to 1 only roughly cannot make the divergence negative."""
    p = softmax(normal(50, 20), axis=-1).astype(np.float16)
    assert 0 <= final_losses([p], [p.astype(f32) * f32(1.0002)], "kl") < 1e-12


def test_squared_error() -> None:
    x, y = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    expected = ((x - y).astype(np.float64) ** 2).sum() / (x.astype(np.float64) ** 2).sum()
    assert final_losses([x], [y], "mse") == pytest.approx(expected, rel=1e-6)
    assert final_losses([x * f32(1e25)], [y * f32(1e25)], "mse") == pytest.approx(expected, rel=1e-5)
    zero = np.zeros(3, f32)
    assert final_losses([zero], [zero], "mse") == 0
    assert final_losses([zero], [zero + 1], "mse") == np.inf
    assert final_losses([np.float32(2)], [np.float32(1)], "mse") == 0.25


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_values_that_are_no_numbers(bad: float, kind: str) -> None:
    good, broken = normal(4, 3), normal(4, 3)
    broken[2, 1] = bad
    assert final_losses([good], [broken], kind) == np.inf
    rows = softmax(good, axis=1)
    assert final_losses([rows], [np.where(np.isfinite(broken), rows, bad).astype(f32)], kind) == np.inf
    with pytest.raises(CalibrationError, match="holds NaN or infinity"):
        final_losses([broken], [good], kind)
    with pytest.raises(CalibrationError, match="holds NaN or infinity"):
        final_losses([np.full((1, 3), -np.inf, f32)], [good[:1]], kind)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(CalibrationError, match=r"shape \(2, 3\), once quantised \(2, 4\)"):
        final_losses([normal(2, 3)], [normal(2, 4)], "kl")
    with pytest.raises(CalibrationError, match="no values"):
        final_losses([np.zeros((0, 3), f32)], [np.zeros((0, 3), f32)], "mse")
    with pytest.raises(CalibrationError, match="as many batches"):
        final_losses([normal(2, 3)], [], "mse")


def test_what_can_be_compared() -> None:
    """Scores where there are scores, else labels; never text or sequences."""
    scores, labels = [np.ones((2, 3), np.float32)], [np.array([1, 2])]
    text, maps = [np.array(["a", "b"], object)], [[{"a": 0.5}]]
    assert comparable({"label": labels, "half": [np.ones(1, np.float16)], "scores": scores, "maps": maps}) == [
        "half",
        "scores",
    ]
    assert comparable({"text": text, "label": labels, "flag": [np.array([True])]}) == ["label", "flag"]
    with pytest.raises(CalibrationError, match="no output of the model holds numbers"):
        comparable({"text": text, "maps": maps})
