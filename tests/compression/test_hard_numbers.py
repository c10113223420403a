"""Numbers that are hard on the quantiser, through the whole of it: what comes back is close, and always finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx import CerwuError, ModelError, Settings
from cerwu_onnx.model.graph import Graph

from ..models import build, value

Arrays = dict[str, np.ndarray]
ROWS, COLUMNS = 24, 96


def weights(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=(ROWS, COLUMNS)).astype(np.float32)


def samples(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, COLUMNS)).astype(np.float32)


def one_outlier() -> np.ndarray:
    found = weights()
    found[3, 5] = 1e30
    return found


def rank_one() -> np.ndarray:
    return np.outer(samples(64)[:, 0], np.ones(COLUMNS)).astype(np.float32)


def ill_conditioned() -> np.ndarray:
    return (samples(400) * np.logspace(-6, 6, COLUMNS)).astype(np.float32)


def mostly_dead() -> np.ndarray:
    found = samples()
    found[:, 1:] = 0
    return found


CASES: dict[str, tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]] = {
    "an input of rank one": (weights, rank_one),
    "an input of twelve decades": (weights, ill_conditioned),
    "inputs of 1e-20": (weights, lambda: samples() * np.float32(1e-20)),
    "inputs of 1e15": (weights, lambda: samples() * np.float32(1e15)),
    "inputs that are always zero": (weights, lambda: samples() * 0),
    "one input that is not": (weights, mostly_dead),
    "the same sample 64 times": (weights, lambda: np.repeat(samples(1), 64, axis=0)),
    "one sample": (weights, lambda: samples(1)),
    "more columns than samples": (weights, lambda: samples(8)),
    "weights that are all zero": (lambda: weights() * 0, samples),
    "weights of a single value": (lambda: np.full((ROWS, COLUMNS), 0.37, np.float32), samples),
    "weights of 1e-38": (lambda: weights() * np.float32(1e-38), samples),
    "weights of the smallest floats": (lambda: np.sign(weights()) * np.float32(1e-45), samples),
    "weights of 1e30": (lambda: weights() * np.float32(1e30), samples),
    "weights up to 3e38": (
        lambda: np.clip(weights(), -3, 3) * np.float32(1e38),
        lambda: samples() * np.float32(1e-20),
    ),
    "a single weight of 1e30": (one_outlier, samples),
}

EXACT = {"weights of the smallest floats", "weights of 1e-38"}
"""No step is smaller than the smallest normal float, 1.2e-38: these weights stay what they are."""


def saved(folder: Path, weight: np.ndarray, data: np.ndarray) -> tuple[Path, Path]:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    model = build(nodes, [value("x", ["N", COLUMNS])], [value("y", ["N", ROWS])], {"w": np.ascontiguousarray(weight.T)})
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "c.npz", x=data)
    return folder / "m.onnx", folder / "c.npz"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["trellis", "cerwu"])
@pytest.mark.parametrize("name", CASES)
def test_what_comes_back_is_finite_and_close(name: str, method: str, tmp_path: Path) -> None:
    weight, data = (make() for make in CASES[name])
    model, calib = saved(tmp_path, weight, data)
    out = tmp_path / "m.cwb"
    settings = Settings(method=method, lambda_=1e-6, levels=256)
    cerwu_onnx.compress(model, out, calib=calib, settings=settings)
    cerwu_onnx.open(out).verify()
    back = Graph(cerwu_onnx.decompress(out), (), ()).array("w").astype(np.float64).T
    assert np.isfinite(back).all()
    energy = np.sqrt(np.square(weight, dtype=np.float64).sum())
    assert np.sqrt(np.square(back - weight).sum()) <= (0 if name in EXACT else 0.1 * energy)


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize(("kind", "scale"), [(np.float32, 1e-40), (np.float64, 1e-50), (np.float16, 1e-7)])
def test_weights_below_the_smallest_step_stay_exact_at_the_default(
    calibrated: bool, kind: type, scale: float, tmp_path: Path
) -> None:
    """Subnormal floats of 16 bits are none of them: float32 steps are fine enough for these."""
    weight = (weights().astype(np.float64) * scale).T.astype(kind)
    assert weight.any()
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    ends = [value("x", ["N", COLUMNS], element)], [value("y", ["N", ROWS], element)]
    onnx.save(build(nodes, *ends, {"w": np.ascontiguousarray(weight)}), tmp_path / "m.onnx")
    calib = {"x": samples().astype(kind)} if calibrated else None
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=calib)
    back = onnx.numpy_helper.to_array(cerwu_onnx.decompress(tmp_path / "m.cwb").graph.initializer[0])
    if kind is np.float16:
        assert report.layers
    else:
        assert np.array_equal(back, weight)
        assert report.kept[0].reason == "its values are too small for the format's steps"


@pytest.mark.parametrize("data", [True, False])
def test_strict_refuses_weights_with_nan(data: bool, tmp_path: Path) -> None:
    weight = weights()
    weight[2, 2] = np.nan
    model, calib = saved(tmp_path, weight, samples())
    with pytest.raises(CerwuError) as caught:
        cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=calib if data else None, settings=Settings(strict=True))
    assert caught.value.exit_code == 3
    assert "strict, so nothing was written: weight 'w' holds NaN" in str(caught.value)
    assert not (tmp_path / "m.cwb").exists()


def test_strict_names_each_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calib = saved(tmp_path, weights(), samples())
    strict = Settings(strict=True)
    with pytest.raises(ModelError, match="strict, so nothing was written: no calibration data"):
        cerwu_onnx.compress(model, tmp_path / "m.cwb", settings=strict)
    singular = np.linalg.LinAlgError("not positive definite")

    def fails(*_: object) -> None:
        raise singular

    monkeypatch.setattr("cerwu_onnx.quantize.hessian.inverse_factor", fails)
    with pytest.raises(ModelError, match=r"strict.*layer w: the Hessian does not factorise with damping"):
        cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=calib, settings=Settings(strict=True, method="optq"))
    monkeypatch.undo()
    cerwu_onnx.compress(model, tmp_path / "m.cwb", calib=calib, settings=strict)
    assert (tmp_path / "m.cwb").exists()
