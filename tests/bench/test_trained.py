"""``python -m tests.bench trained`` and ``untrusted``, on a small classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from ..classifiers import clouds, trained
from . import by_heart, untrusted
from . import trained as bench
from .__main__ import _folder
from .models import BenchModel

EVAL = """
import numpy as np, onnxruntime as ort
def evaluate(path, limit=None):
    test = np.load({test!r})
    answers = ort.InferenceSession(path).run(None, {{"input": test["input"]}})[0].argmax(axis=1)
    return float((answers == test["labels"]).mean())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like those of deep_nets.py, with one network in it."""
    place = tmp_path / "deep" / "small"
    place.mkdir(parents=True)
    model = trained()
    model.graph.input[0].name = model.graph.node[0].input[0] = "input"
    onnx.save(model, place / "model.onnx")
    for seed, name in enumerate((*bench.CALIBRATIONS, "calib"), 20):
        np.savez(place / f"{name}.npz", input=clouds(100, seed)[0])
    x, labels = clouds(1000, 9)
    np.savez(place / "test.npz", input=x, labels=labels)
    return place.parent


def shown(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_table_of_trained_networks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(folder, Console(width=160))
    rows = [row for row in shown(capsys) if row[0] == "small"]
    assert [row[1] for row in rows] == list(bench.CALIBRATIONS)
    assert float(rows[0][-1]) == 1
    for row in rows:
        kept, error, ratio = float(row[6]), float(row[8]), float(row[9])
        assert 97 < kept < 101
        assert 0 < error < 1
        assert ratio == pytest.approx(float(row[3]) / float(rows[0][3]), abs=1e-3)


def test_what_is_known_by_heart_is_said_to_lose_what_it_loses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_heart, "KINDS", ("decisions",))
    by_heart.run(Console(width=160))
    rows = [row for row in shown(capsys) if row and row[0] == "decisions"]
    assert [row[1] for row in rows] == ["train", "fresh", "both"]
    for row in rows:
        said, lost, said_same, same = (float(row[i]) for i in (3, 5, 7, 9))
        assert 0.3 < said <= 1.05
        assert lost < 1.5
        assert same == pytest.approx(said_same, abs=1.0)


@pytest.mark.parametrize("given", [None, "nowhere"])
def test_absent_networks_are_skipped_with_a_word(given: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(None if given is None else Path(given), Console(width=160))
    assert capsys.readouterr().out.startswith("trained: skipped, for want of networks trained by tests/bench/deep_nets")


def test_the_standard_error_is_that_of_a_ratio_of_the_same_samples(folder: Path) -> None:
    report, kept, error = bench.measure(folder / "small", "fresh")
    assert report.fidelity is not None
    with np.load(folder / "small" / "test.npz") as test:
        right = bench.right(folder / "small" / "model.onnx", test["input"], test["labels"])
    assert set(right) == {0, 1}
    assert 0 < error < (kept / right.mean() / len(right)) ** 0.5  # most answers stay, so most of it cancels


@pytest.mark.parametrize(
    ("words", "left", "folder"),
    [
        (["trained", "a/b"], ["trained"], "a/b"),
        (["trained"], ["trained"], None),
        (["trained", "speed"], ["trained", "speed"], None),
        (["speed", "trained", "x", "size"], ["speed", "trained", "size"], "x"),
        (["x"], ["x"], None),
    ],
)
def test_the_folder_follows_the_part(words: list[str], left: list[str], folder: str | None) -> None:
    assert _folder(words) == (None if folder is None else Path(folder))
    assert words == left


def test_the_table_of_untrusted_data(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / "small"
    (place / "meta.json").write_text(json.dumps({"metric": "accuracy"}))
    (place / "eval.py").write_text(EVAL.format(test=str(place / "test.npz")))
    cases = {name: untrusted.CASES[name] for name in ("all samples", "2 samples", "x 255")}
    monkeypatch.setattr(untrusted, "CASES", cases)
    untrusted.run([BenchModel(place, {})], Console(width=160))
    rows = {" ".join(row[:2]): row for row in shown(capsys) if len(row) > 4}
    assert "no calibration data" in " ".join(rows[next(name for name in rows if name.startswith("none"))])
    assert "2 calibration samples say less" in " ".join(rows["2 samples"])
    assert "not what the model" in " ".join(rows["x 255"])
    assert "the model answers class" in " ".join(rows["one class"])
    assert rows["all samples"][-1] == "-"
    sizes = {name: int(row[2].replace(",", "")) for name, row in rows.items() if not name.startswith(("none", "data"))}
    assert sizes["all samples"] < sizes["2 samples"] == sizes["x 255"] == sizes["one class"]
