"""What ``compress`` does when nothing says how small the file has to be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from .conftest import Run, small_model

STREAM = """
import numpy
def feeds():
    yield from numpy.load({path!r})["x"].reshape(5, 8, 2, 8, 8)
"""


def report(run: Run, *arguments: object) -> dict[str, Any]:
    """The JSON of a compression that says nothing else."""
    result = run("compress", *arguments, "--json", "-f")
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


@pytest.fixture
def samples(calib: Path) -> np.ndarray:
    """Forty samples, as the small model wants them."""
    with np.load(calib) as arrays:
        found: np.ndarray = arrays["x"]
    return found


ERROR = r"expected error +([\d.]+) % of the output's standard deviation, on 20 held-out samples"
SCORE = r"expected score +([\d.]+) % of the float model's \(same answer on ([\d.]+) %, by 20 held-out samples\)"


@pytest.mark.parametrize(("kind", "line"), [("mse", ERROR), ("kl", SCORE)], ids=["error", "score"])
def test_the_default_keeps_99_percent_and_says_so_first(
    run: Run, model: Path, calib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, line: str
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    what = (model, tmp_path / "m.cwb", "--calib", calib, "--output-loss", kind)
    result = run("compress", *what)
    assert (result.code, result.err) == (0, "")
    first = result.out.split("\n\n")[1].splitlines()[0]
    told = re.fullmatch(line, first)
    assert told, first
    found = report(run, *what)
    fidelity = found["fidelity"]
    assert fidelity["asked"] == 0.99
    assert 0.99 < fidelity["kept"] < 0.998
    assert (fidelity["kind"], fidelity["output"]) == (kind, "y")
    if kind == "kl":
        assert float(told[1]) == pytest.approx(100 * fidelity["kept"], abs=0.051)
        assert float(told[2]) == pytest.approx(100 * fidelity["same"], abs=0.051)
    else:
        assert float(told[1]) == pytest.approx(100 * (1 - fidelity["kept"]) ** 0.5, rel=0.06)
        assert fidelity["same"] is None
    assert found["search"] == []
    assert found == report(run, *what, "--fidelity", "99%") | {"seconds": found["seconds"]}
    named = report(run, *what[:-1], f"y={kind}")
    assert named == found | {"seconds": named["seconds"]}


def test_what_is_asked_for_decides_the_size(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    found = [
        report(run, model, tmp_path / "m.cwb", "--calib", calib, "--output-loss", "mse", "--fidelity", share)
        for share in ("99.9%", "0.97", "80%")
    ]
    assert [one["fidelity"]["asked"] for one in found] == pytest.approx([0.999, 0.97, 0.8])
    for one in found:
        assert one["fidelity"]["asked"] < one["fidelity"]["kept"] < 1 - (1 - one["fidelity"]["asked"]) / 4
    assert [one["lambda"] for one in found] == sorted(one["lambda"] for one in found)
    assert found[0]["file_bytes"] > 1.2 * found[1]["file_bytes"] > 1.44 * found[2]["file_bytes"]


@pytest.mark.parametrize(
    "price", [["--lambda", "0.05"], ["--target-size", "2KiB"], ["--method", "cerwu"], ["--target-bpw", "2"]]
)
def test_a_price_or_a_target_replaces_it(run: Run, model: Path, calib: Path, tmp_path: Path, price: list[str]) -> None:
    found = report(run, model, tmp_path / "m.cwb", "--calib", calib, *price)
    said = found["fidelity"]  # of a size: what its file is expected to keep, although nothing was asked for
    assert said["asked"] is None if price[0].startswith("--target") else said is None
    if price[0] == "--lambda":
        assert found["lambda"] == 0.05
    result = run("compress", model, tmp_path / "n.cwb", "--calib", calib, *price, "--fidelity", "99%")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "n.cwb").exists()


@pytest.mark.parametrize(
    ("share", "message"),
    [("100%", "out of range"), ("40%", "out of range"), ("99", "write 99%"), ("most", "--fidelity")],
)
def test_shares_that_nothing_can_keep(
    run: Run, model: Path, calib: Path, tmp_path: Path, share: str, message: str
) -> None:
    result = run("compress", model, tmp_path / "m.cwb", "--calib", calib, "--fidelity", share)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (tmp_path / "m.cwb").exists()


def test_without_data_there_is_nothing_to_judge_by(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("compress", model, tmp_path / "m.cwb", "--fidelity", "99%")
    assert (result.code, result.err) == (
        2,
        "error: a fidelity is judged on calibration data, by the method trellis: give --calib\n",
    )


def test_a_file_of_options_may_ask_for_it(
    run: Run, model: Path, calib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cerwu.toml").write_text("fidelity = '95%'\neffort = 'fast'\n")
    assert report(run, model, "m.cwb", "--calib", calib)["fidelity"]["asked"] == 0.95
    assert report(run, model, "m.cwb", "--calib", calib, "--fidelity", "98%")["fidelity"]["asked"] == 0.98
    assert report(run, model, "m.cwb", "--calib", calib, "--lambda", "0.1")["fidelity"] is None


def test_a_short_stream_is_divided_too(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(STREAM.format(path=str(calib)))
    found = report(run, model, tmp_path / "m.cwb", "--calib", f"{tmp_path / 'user.py'}:feeds", "--output-loss", "mse")
    assert found["fidelity"]["samples"] in (16, 24)
    assert 0.99 < found["fidelity"]["kept"] < 0.998


USELESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one sample": lambda x: x[:1],
    "seven samples": lambda x: x[:7],
    "copies": lambda x: np.repeat(x[:3], 20, axis=0),
    "zeros": lambda x: np.zeros_like(x),
    "another scale": lambda x: 20 * x,
    "shifted": lambda x: x + 2,
}


@pytest.mark.parametrize("case", USELESS)
def test_data_that_says_less_than_none_is_not_used(case: str, run: Run, samples: np.ndarray, tmp_path: Path) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "data.npz"
    onnx.save(small_model(batch_norm=True), model)
    np.savez(data, x=USELESS[case](samples))
    result = run("compress", model, tmp_path / "m.cwb", "--calib", data, "--json")
    assert result.code == 0
    first = result.err.splitlines()[0]
    told = "is not what the model was trained on" if case in ("another scale", "shifted") else "less than none"
    assert first.startswith("warning: ")
    assert told in first
    assert "quantised as without data; give at least 32 different inputs" in first
    found = json.loads(result.out)
    assert (found["calibration"], found["calibration_samples"], found["fidelity"]) == ("none", 0, None)
    assert run("compress", model, tmp_path / "plain.cwb").code == 0
    assert (tmp_path / "m.cwb").read_bytes() == (tmp_path / "plain.cwb").read_bytes()
    strict = run("compress", model, tmp_path / "strict.cwb", "--calib", data, "--strict")
    assert (strict.code, strict.out) == (3, "")
    assert strict.err.splitlines()[-1].startswith("error: strict, so nothing was written: ")
    assert told in strict.err.splitlines()[-1]
    assert not (tmp_path / "strict.cwb").exists()


@pytest.mark.parametrize(("count", "warned"), [(8, True), (31, True), (32, False)])
def test_few_samples_are_used_with_a_warning(
    run: Run, model: Path, samples: np.ndarray, tmp_path: Path, count: int, warned: bool
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, x=np.concatenate([samples[:count], samples[:3]]))  # three of them twice
    options = ("--calib", data, "--output-loss", "mse")
    result = run("compress", model, tmp_path / "m.cwb", *options, "--json")
    line = f"warning: only {count} different calibration samples: give a hundred or more\n"
    assert (result.code, result.err) == (0, line if warned else "")
    found = json.loads(result.out)
    assert found["calibration_samples"] == count + 3
    assert found["fidelity"]["kept"] > 0.99
    strict = run("compress", model, tmp_path / "s.cwb", *options, "--strict")
    assert strict.code == (3 if warned else 0)
    assert (tmp_path / "s.cwb").exists() is not warned
