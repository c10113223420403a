"""Scores of models: the four metrics that need no code, and functions of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from cerwu_onnx import CalibrationError, Target, UsageError
from cerwu_onnx.evaluate.metrics import Scorer, auc, open_scorer

from ..models import build, normal, value

X = normal(70, 6, seed=1)
W = normal(6, 4, seed=2)


def save(path: Path, weight: np.ndarray, batch: int | str = "N") -> Path:
    """``y = x W`` as a file."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    columns = weight.shape[1]
    onnx.save(build(nodes, [value("x", [batch, 6])], [value("y", [batch, columns])], {"w": weight}), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model.onnx", W)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model with the first two classes exchanged."""
    return save(tmp_path / "other.onnx", W[:, [1, 0, 2, 3]])


def classes() -> np.ndarray:
    return (X @ W).argmax(axis=1)


def test_top1(model: Path, other: Path, tmp_path: Path) -> None:
    labels = np.where(np.arange(70) < 63, classes(), (classes() + 1) % 4)
    np.savez(tmp_path / "data.npz", x=X, labels=labels)
    scorer = open_scorer(Target(metric="top1", metric_data=tmp_path / "data.npz"), model)
    assert scorer.name == "top1"
    assert scorer(model) == pytest.approx(0.9)
    exchanged = np.array([1, 0, 2, 3])[classes()]
    assert scorer(other) == pytest.approx(float((exchanged == labels).mean()))


def test_labels_under_another_name(model: Path) -> None:
    target = Target(metric="top1", metric_data={"x": X, "truth": classes().astype(np.float32)}, metric_labels="truth")
    assert open_scorer(target, model)(model) == 1.0


def test_agreement_needs_no_labels_and_minds_none(model: Path, other: Path, tmp_path: Path) -> None:
    same = float((np.array([1, 0, 2, 3])[classes()] == classes()).mean())
    for data in ({"x": X}, {"x": X, "labels": classes()}):
        scorer = open_scorer(Target(metric="agreement", metric_data=data), model)
        assert (scorer(model), scorer(other)) == (1.0, pytest.approx(same))
    np.save(tmp_path / "data.npy", X)
    scorer = open_scorer(Target(metric="agreement", metric_data=tmp_path / "data.npy"), model)
    assert scorer(other) == pytest.approx(same)


@pytest.mark.parametrize("metric", ["top1", "agreement"])
def test_a_row_with_nan_answers_nothing(metric: str, model: Path, tmp_path: Path) -> None:
    """Not even the class whose value is NaN, which numpy takes for the largest."""
    scorer = open_scorer(Target(metric=metric, metric_data={"x": X, "labels": classes()}), model)
    broken = W.copy()
    broken[:, 2] = np.nan
    assert scorer(model) == 1.0
    assert scorer(save(tmp_path / "nan.onnx", broken)) == 0.0


def test_error_is_relative(model: Path, tmp_path: Path) -> None:
    scorer = open_scorer(Target(metric="error", metric_data={"x": X}), model)
    assert scorer(model) == 1.0
    assert scorer(save(tmp_path / "half.onnx", W * np.float32(0.75))) == pytest.approx(0.75)
    assert scorer(save(tmp_path / "nan.onnx", W * np.float32(np.nan))) == -np.inf


@pytest.mark.parametrize("columns", [1, 2])
def test_auc(tmp_path: Path, columns: int) -> None:
    weight = W[:, :columns]
    model = save(tmp_path / "model.onnx", weight)
    scores = (X @ weight)[:, -1]
    labels = (scores > np.median(scores)).astype(np.int64)
    scorer = open_scorer(Target(metric="auc", metric_data={"x": X, "labels": labels}), model)
    assert scorer(model) == 1.0
    assert scorer(save(tmp_path / "minus.onnx", -weight)) == 0.0


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float64)
    labels = np.array([label for _, label in rows], np.int64)
    labels[:2] = 0, 1
    positive, negative = scores[labels == 1], scores[labels == 0]
    difference = positive[:, None] - negative
    assert auc(scores, labels) == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


def test_nan_scores_lowest() -> None:
    assert auc(np.array([np.nan, 0.0, 1.0]), np.array([1, 0, 0])) == 0.0


def test_a_fixed_batch_leaves_samples_and_their_labels_out(tmp_path: Path) -> None:
    model = save(tmp_path / "model.onnx", W, batch=32)
    labels = np.where(np.arange(70) < 64, classes(), 9)
    assert open_scorer(Target(metric="top1", metric_data={"x": X, "labels": labels}), model)(model) == 1.0


def test_functions_are_called_with_the_path(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from pathlib import Path\ndef size(path):\n    return Path(path).stat().st_size\n")
    scorer = open_scorer(Target(metric=f"{file}:size"), model)
    assert scorer.name == f"{file}:size"
    assert scorer(model) == model.stat().st_size
    assert open_scorer(Target(metric="os.path:getsize"), model)(model) == model.stat().st_size
    assert open_scorer(Target(metric=lambda path: len(path)), model)(model) == len(str(model))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return float('nan')", "returned NaN"),
        ("return None", "returned None; it must return a number"),
        ("return 'high'", "returned 'high'; it must return a number"),
        ("raise KeyError('no labels')", "failed with KeyError: 'no labels'"),
    ],
)
def test_a_metric_that_fails_is_named(model: Path, tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def score(path):\n    {body}\n")
    with pytest.raises(CalibrationError, match=rf"mine\.py:score: {message}"):
        open_scorer(Target(metric=f"{file}:score"), model)(model)


def test_a_module_that_fails_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("1 / 0")
    with pytest.raises(CalibrationError, match=r"importing .*mine\.py failed: ZeroDivisionError"):
        open_scorer(Target(metric=f"{tmp_path / 'mine.py'}:score"), model)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("top5", "unknown: top1, agreement, auc, error"),
        ("no_such_module_here:f", "no module"),
        ("nowhere.py:f", "no Python file"),
        ("os.path:nothing", "no function 'nothing'"),
        ("agreement", "needs data"),
        (None, "no metric"),
    ],
)
def test_metrics_that_do_not_exist(model: Path, metric: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_scorer(Target(metric=metric), model)


def test_functions_bring_their_own_data(model: Path) -> None:
    with pytest.raises(UsageError, match="brings its data"):
        open_scorer(Target(metric="os.path:getsize", metric_data={"x": X}), model)


@pytest.mark.parametrize(
    ("metric", "data", "message"),
    [
        ("top1", {"x": X}, "no array 'labels'"),
        ("top1", {"x": X, "labels": np.arange(5)}, r"labels of shape \(5,\) for 70 samples"),
        ("top1", {"x": X, "labels": np.full((70, 2), 1)}, "140 labels for 70 rows"),
        ("top1", {"x": X, "labels": np.full(70, 0.5)}, "must be numbers of classes"),
        ("top1", {"x": X, "labels": np.array(["a"] * 70)}, "must be numbers of classes"),
        ("top1", {"x": X, "labels": np.arange(70) % 5}, "label 4, but output 'y' has 4 classes, 0 to 3"),
        ("auc", {"x": X, "labels": np.arange(70) % 2}, "more than two classes"),
        ("auc", {"x": X, "labels": np.zeros(70)}, "0 and 1, and both"),
        ("agreement", {"y": X}, "unknown key 'y'|misses 'x'"),
    ],
)
def test_data_that_does_not_fit(model: Path, metric: str, data: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        open_scorer(Target(metric=metric, metric_data=data), model)


def test_files_of_labels_that_cannot_be_read(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file"):
        open_scorer(Target(metric="top1", metric_data=tmp_path / "data.npz"), model)
    (tmp_path / "data.npz").write_bytes(b"PK junk")
    with pytest.raises(CalibrationError, match=r"not a readable \.npz"):
        open_scorer(Target(metric="top1", metric_data=tmp_path / "data.npz"), model)
    with pytest.raises(CalibrationError, match=r"its data is a \.npz"):
        open_scorer(Target(metric="top1", metric_data=tmp_path), model)


def test_one_class_is_no_class(tmp_path: Path) -> None:
    model = save(tmp_path / "model.onnx", W[:, :1])
    with pytest.raises(CalibrationError, match="no classes"):
        open_scorer(Target(metric="agreement", metric_data={"x": X}), model)


def test_a_scorer_returns_python_floats(model: Path) -> None:
    score = Scorer("s", lambda _: np.float32(0.5))(model)
    assert type(score) is float
