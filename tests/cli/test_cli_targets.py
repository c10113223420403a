"""``cerwu-onnx compress`` with a target of size or accuracy, and with limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import cerwu_onnx
from cerwu_onnx import Settings, Target, UsageError
from cerwu_onnx.cli.compress import compress as command
from cerwu_onnx.cli.options import parse_share

from .conftest import Run


@pytest.fixture
def labelled(calib: Path, model: Path, tmp_path: Path) -> Path:
    """Inputs, and the classes that the float model sees in them."""
    x = np.random.default_rng(8).normal(size=(200, 2, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    path = tmp_path / "labelled.npz"
    np.savez(path, x=x, labels=session.run(None, {"x": x})[0].argmax(axis=1))
    return path


@pytest.mark.parametrize("extra", [(), ("--method", "cerwu"), ("--effort", "fast"), ("--weights-only",)])
def test_a_size_is_met(run: Run, model: Path, calib: Path, tmp_path: Path, extra: tuple[str, ...]) -> None:
    output = tmp_path / "small.cwb"
    result = run("compress", model, output, "--calib", calib, "--target-size", "2KiB", "--json", *extra)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert 0.95 * 2048 <= output.stat().st_size <= 2048
    assert report["file_bytes"] == output.stat().st_size
    finer = [tried for tried in report["search"] if tried["lambda"] < report["lambda"]]
    assert all(tried["file_bytes"] > 2048 for tried in finer)
    if output.stat().st_size < 0.98 * 2048:  # four layers, whose steps jump: then the next one is just too large
        assert max(tried["lambda"] for tried in finer) > 0.99 * report["lambda"]
    kept = [tried for tried in report["search"] if tried["lambda"] == report["lambda"]]
    assert {tried["file_bytes"] for tried in kept} >= {report["file_bytes"]}
    assert all(tried["score"] is None for tried in report["search"])
    assert cerwu_onnx.open(output).metadata["lambda"] == report["lambda"]


def test_a_size_says_what_is_expected_of_its_file(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    """Whoever needs a size must hear what it costs: by samples that quantising did not see, as for a fidelity."""
    kept = []
    for size in ("2KiB", "1300"):
        words = ("compress", model, tmp_path / "small.cwb", "-f", "--calib", calib, "--target-size", size)
        found = json.loads(run(*words, "--json").out)["fidelity"]
        assert found["asked"] is None
        assert found["headline"] in " ".join(run(*words).out.split())
        kept.append(found["kept"])
    assert 1 > kept[0] > kept[1] + 0.01
    priced = run("compress", model, tmp_path / "small.cwb", "-f", "--calib", calib, "--lambda", "1", "--json")
    assert json.loads(priced.out)["fidelity"] is None
    blind = run("compress", model, tmp_path / "small.cwb", "-f", "--target-size", "2KiB", "--json")
    assert json.loads(blind.out)["fidelity"] is None


def test_without_data_a_size_is_met_too(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    assert run("compress", model, output, "--target-size", "1900", "-q").code == 0
    assert 0.98 * 1900 <= output.stat().st_size <= 1900


def test_a_target_beyond_all_need(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    words = ("compress", model, tmp_path / "small.cwb", "--calib", calib, "--effort", "fast")
    result = run(*words, "--target-size", "1MB", "--json")
    report = json.loads(result.out)
    assert result.code == 0
    assert len(report["search"]) == 1  # larger than the model itself: no need to walk there
    assert report["output_loss"] < 1e-5
    assert report["file_bytes"] < report["model_bytes"] / 2
    assert report["warnings"] == [result.err.removeprefix("warning: ").rstrip()]
    assert "larger than the model needs: with" in result.err
    result = run(*words, "--target-bpw", "30", "-f", "--json")
    assert 1 < len(json.loads(result.out)["search"]) < 6
    assert "larger than the model needs" in result.err


def test_bits_per_weight_are_met(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    report = json.loads(run("compress", model, output, "--calib", calib, "--target-bpw", "2.5", "--json").out)
    assert 2.45 <= report["bits_per_weight"] <= 2.5


def test_a_search_gives_the_same_file_again(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    for name in ("a.cwb", "b.cwb"):
        assert run("compress", model, tmp_path / name, "--calib", calib, "--target-size", "2000", "-q").code == 0
    assert (tmp_path / "a.cwb").read_bytes() == (tmp_path / "b.cwb").read_bytes()


def test_a_size_out_of_reach_writes_nothing_and_says_what_is_possible(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    result = run("compress", model, output, "--method", "cerwu", "--target-size", "200")
    assert (result.code, result.out) == (1, "")
    assert "no file of at most 200 bytes: the smallest found has" in result.err
    assert not output.exists()


def test_more_room_than_needed_is_no_failure(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    assert run("compress", model, output, "--method", "cerwu", "--target-size", "1MiB", "-q").code == 0
    assert output.stat().st_size < model.stat().st_size


def test_the_smallest_file_that_holds(run: Run, model: Path, calib: Path, labelled: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    arguments = ("compress", model, output, "--calib", calib, "--metric", "top1", "--metric-data", labelled)
    result = run(*arguments, "--max-drop", "10%")
    assert result.code == 0, result.err
    assert "tried: lambda" in result.out
    assert sum(line.rstrip().endswith("kept") for line in result.out.splitlines()) == 1
    assert "float model 1: " in result.out
    report = json.loads(run(*arguments, "--max-drop", "10%", "--json", "-f").out)
    scores = report["scores"]
    assert (scores["metric"], scores["float_score"]) == ("top1", 1.0)
    assert scores["score"] >= 0.9
    assert scores["drop"] == pytest.approx(1 - scores["score"])
    assert (scores["confidence"], scores["samples"]) == (0.9, 200)
    assert 0.9 <= scores["low"] < scores["score"]
    assert scores["largest_drop"] == pytest.approx(1 - scores["low"])
    held = [tried["file_bytes"] for tried in report["search"] if tried["low"] >= 0.9]
    assert report["file_bytes"] == min(held) == output.stat().st_size
    assert min(tried["low"] for tried in report["search"]) < 0.9
    assert not report["missed"]
    assert "with 90 % confidence (200 samples)" in result.out


def test_without_a_margin_what_is_measured_counts(
    run: Run, model: Path, calib: Path, labelled: Path, tmp_path: Path
) -> None:
    arguments = ("--calib", calib, "--metric", "top1", "--metric-data", labelled, "--effort", "fast")
    report = json.loads(
        run("compress", model, tmp_path / "a.cwb", *arguments, "--max-drop", "10%", "--confidence", "50%", "--json").out
    )
    assert report["scores"]["low"] == pytest.approx(report["scores"]["score"])
    assert report["scores"]["score"] >= 0.9


def test_samples_that_can_show_nothing(run: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    arguments = ("--metric", "top1", "--metric-data", labelled, "--max-drop", "0.1%")
    result = run("compress", model, tmp_path / "a.cwb", *arguments)
    assert (result.code, result.out) == (3, "")
    assert "metric top1: 200 samples cannot show with 90 % confidence that no more than 0.1 % is lost, " in result.err
    assert "or a lower --confidence" in result.err


def test_weights_only_are_scored_in_their_graph(
    run: Run, model: Path, calib: Path, labelled: Path, tmp_path: Path
) -> None:
    arguments = ("--calib", calib, "--metric", "top1", "--metric-data", labelled, "--json")
    reports = [
        json.loads(run("compress", model, tmp_path / name, *arguments, *extra).out)
        for name, extra in (("a.cwb", ()), ("b.cwb", ("--weights-only",)))
    ]
    assert reports[0]["scores"] == reports[1]["scores"]
    assert not reports[0]["search"]


def test_an_accuracy_nobody_reaches_keeps_the_best(run: Run, model: Path, tmp_path: Path) -> None:
    metric = tmp_path / "mine.py"
    metric.write_text(
        f"import pathlib\nORIGINAL = pathlib.Path({str(model)!r}).read_bytes()\n"
        "def same(path):\n    return float(pathlib.Path(path).read_bytes() == ORIGINAL)\n"
    )
    output = tmp_path / "small.cwb"
    arguments = ("compress", model, output, "--method", "cerwu", "--metric", f"{metric}:same", "--max-drop", "1%")
    result = run(*arguments, "-q")
    assert result.code == 1
    assert "no file found holds the largest drop of 1 %; this is the best: " in result.err
    assert "mine.py:same falls from 1 to 0, by 100 %" in result.err
    assert output.exists()
    again = run(*arguments, "--json", "-f")
    assert again.code == 1
    assert json.loads(again.out)["missed"]


def test_a_limit_of_size(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    result = run("compress", model, output, "--method", "cerwu", "--fail-above", "1KiB")
    assert (result.code, result.out) == (1, "")
    assert "above the limit of 1,024; nothing was written" in result.err
    assert not output.exists()
    assert run("compress", model, output, "--method", "cerwu", "--fail-above", "1MiB", "-q").code == 0


def test_a_limit_of_accuracy(run: Run, model: Path, calib: Path, labelled: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    arguments = ("compress", model, output, "--calib", calib, "--metric", "agreement", "--metric-data", labelled, "-q")
    result = run(*arguments, "--target-size", "900", "--fail-drop", "1%")
    assert result.code == 1
    assert "the limit is 1 %: agreement falls from 1 to 0." in result.err
    assert output.stat().st_size <= 900
    assert run(*arguments, "--lambda", "0.001", "--fail-drop", "20%", "-f").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target-size", "2KiB", "--target-bpw", "2"), "exclude each other"),
        (("--target-size", "2KiB", "--lambda", "0.1"), "exclude each other"),
        (("--target-size", "2KiB", "--method", "rtn"), "has no lambda"),
        (("--target-size", "2KiB", "--method", "optq"), "has no lambda"),
        (("--target-size", "0"), "at least 1 byte"),
        (("--target-size", "small"), "is not understood"),
        (("--target-bpw", "-1"), "out of range"),
        (("--max-drop", "1%"), "needs a metric"),
        (("--fail-drop", "1%"), "needs a metric"),
        (("--max-drop", "100%", "--metric", "error"), "out of range"),
        (("--max-drop", "1%", "--metric", "error"), "needs data"),
        (("--max-drop", "1%", "--metric", "beauty"), "is unknown"),
        (("--metric-data", "x.npz"), "without a metric"),
        (("--confidence", "100%"), "confidence 100 % is out of range"),
        (("--confidence", "40%"), "confidence 40 % is out of range"),
    ],
)
def test_what_makes_no_sense(run: Run, model: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("compress", model, tmp_path / "small.cwb", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (tmp_path / "small.cwb").exists()


def test_errors_about_the_metrics_data_name_its_file(run: Run, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", y=np.zeros((4, 2, 8, 8), np.float32), labels=np.zeros(4, int))
    metric = ("--fail-drop", "1%", "--metric", "top1", "--metric-data", tmp_path / "other.npz")
    result = run("compress", model, tmp_path / "out.cwb", "--method", "rtn", *metric)
    assert result.code == 3
    assert "other.npz misses 'x': it holds 'y'" in result.err


def test_a_metric_that_fails_ends_with_3(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(path):\n    return float('nan')\n")
    result = run("compress", model, tmp_path / "small.cwb", "--metric", f"{tmp_path / 'mine.py'}:score")
    assert result.code == 3
    assert "mine.py:score: returned NaN" in result.err


def test_targets_from_python(model: Path, calib: Path, tmp_path: Path) -> None:
    calls: list[str] = []

    def metric(path: str) -> float:
        calls.append(path)
        return 1.0

    stages: list[str] = []
    report = cerwu_onnx.compress(
        model,
        tmp_path / "small.cwb",
        calib=calib,
        settings=Settings(effort="fast"),
        target=Target(size=2000, metric=metric),
        progress=lambda stage, *_: stages.append(stage),
    )
    assert len(calls) == 2  # the float model, and the file that is kept
    assert report.scores is not None
    assert report.scores.metric == "metric"
    assert stages.count("search") == len(report.search)
    with pytest.raises(UsageError, match="exclude each other"):
        Target(size=1, max_drop=0.1, metric=metric)


def test_every_part_of_a_target_has_a_flag() -> None:
    import inspect
    from dataclasses import fields

    names = {"size": "target_size", "bits_per_weight": "target_bpw"}
    parameters = inspect.signature(command).parameters
    for field in fields(Target):
        default = parameters[names.get(field.name, field.name)].default
        assert (parse_share(default, "") if field.name == "confidence" else default) == field.default
