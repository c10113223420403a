"""A run that was interrupted goes on where it was, and writes the file that it would have written."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import Settings, Target
from cerwu_onnx.compression import layer_walk

from ..calibration.test_sequential import residual_net
from ..cli.conftest import Run, run
from ..models import normal
from .test_walk_quantizer import dense_net, rows

__all__ = ["run"]

LAYERS = 4
FAST = Settings(effort="fast", lambda_=0.05)
SEARCHED = Settings(effort="fast")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(dense_net(24, 48, 32, 16, 10), tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", **rows(200, 24))
    return tmp_path / "m.onnx"


@pytest.fixture
def quantized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the layers that are quantised from here on."""
    seen: list[str] = []
    quantize = layer_walk.priced.quantize

    def noted(*arguments: Any, **keywords: Any) -> Any:
        seen.append(keywords["name"])
        return quantize(*arguments, **keywords)

    monkeypatch.setattr(layer_walk.priced, "quantize", noted)
    return seen


def compress(model: Path, name: str, calib: object = None, **options: Any) -> bytes:
    output = model.parent / name
    data = calib or str(model.parent / "calib.npz")
    cerwu_onnx.compress(model, output, calib=data, force=True, **({"settings": FAST} | options))  # type: ignore[arg-type]
    return output.read_bytes()


def stopped(model: Path, seen: list[str], after: int, calib: object = None, **options: Any) -> None:
    """A run that is interrupted when so many layers are done."""
    quantize, left = layer_walk.priced.quantize, [after]

    def counted(*arguments: Any, **keywords: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return quantize(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_walk.priced, "quantize", counted)
        with pytest.raises(KeyboardInterrupt):
            compress(model, "out.cwb", calib, resume=True, **options)
    assert not (model.parent / "out.cwb").exists()
    seen.clear()


KILLED = """
import os, signal, sys
from cerwu_onnx.compression import layer_walk
from cerwu_onnx.cli.app import run
quantize, left = layer_walk.priced.quantize, [2]
def until(*arguments, **keywords):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return quantize(*arguments, **keywords)
layer_walk.priced.quantize = until
run(sys.argv[1:])
"""
"""Compresses, and is killed when two layers are done."""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_killed(model: Path, run: Run) -> None:
    whole = compress(model, "whole.cwb")
    out, folder = model.parent / "out.cwb", model.parent / "out.cwb.resume"
    words = ["compress", model, out, "--calib", model.parent / "calib.npz", "--effort", "fast"]
    words += ["--lambda", "0.05", "--resume"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(folder.glob("*.entry"))) == 3  # sensitivities and two layers
    result = run(*words, "-v")
    assert result.code == 0
    assert f"2 of {LAYERS} layers were quantised by an earlier run" in result.err
    assert out.read_bytes() == whole
    assert not folder.exists()


def of_residuals() -> tuple[onnx.ModelProto, dict[str, Any]]:
    return residual_net(), {"x": normal(40, 3, 8, 8) + normal(40, 1, 1, 1, seed=1)}


@pytest.mark.parametrize(
    ("after", "options"),
    [
        pytest.param(0, {}, id="nothing done"),
        pytest.param(3, {}, id="almost done"),
        pytest.param(5, {"settings": SEARCHED, "target": Target(bits_per_weight=2.5)}, id="search"),
        pytest.param(5, {"settings": Settings(effort="max", lambda_=0.05)}, id="second walk"),
    ],
)
def test_goes_on_after(after: int, options: dict[str, Any], model: Path, quantized: list[str]) -> None:
    whole = compress(model, "whole.cwb", **options)
    needed = len(quantized)
    stopped(model, quantized, after, **options)
    assert compress(model, "out.cwb", resume=True, **options) == whole
    assert len(quantized) == needed - after
    assert not (model.parent / "out.cwb.resume").exists()


@pytest.mark.parametrize(("left", "again"), [(LAYERS + 2, 2 * LAYERS), (2, 2)], ids=["judging", "the file itself"])
def test_a_search_for_fidelity_goes_on(left: int, again: int, model: Path, quantized: list[str]) -> None:
    """Models that were judged are not quantised again; half a model that was to be judged is."""
    whole = compress(model, "whole.cwb", settings=SEARCHED)
    needed = len(quantized)
    assert needed >= 3 * LAYERS  # two judgements at least, then the file
    stopped(model, quantized, needed - left, settings=SEARCHED)
    assert compress(model, "out.cwb", resume=True, settings=SEARCHED) == whole
    assert len(quantized) == again
    assert not (model.parent / "out.cwb.resume").exists()


def test_convolutions_with_normalisation(model: Path, quantized: list[str]) -> None:
    network, data = of_residuals()
    onnx.save(network, model)
    whole = compress(model, "whole.cwb", data)
    needed = len(quantized)
    stopped(model, quantized, 2, data)
    assert compress(model, "out.cwb", data, resume=True) == whole
    assert len(quantized) == needed - 2


def test_damaged_layers_are_quantised_again(
    model: Path, quantized: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = compress(model, "whole.cwb")
    stopped(model, quantized, 3)
    for path in (model.parent / "out.cwb.resume").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    assert compress(model, "out.cwb", resume=True) == whole
    assert len(quantized) == LAYERS
    assert "is damaged: it is computed again" in caplog.text


@pytest.mark.parametrize("what", ["settings", "price", "data", "model"])
def test_layers_of_other_runs_are_not_taken(what: str, model: Path, quantized: list[str]) -> None:
    stopped(model, quantized, 3)
    options: dict[str, dict[str, Any]] = {
        "settings": {"settings": Settings(effort="fast", lambda_=0.05, damping=0.02)},
        "price": {"settings": Settings(effort="fast", lambda_=0.3)},
        "data": {"calib": rows(200, 24, seed=3)},
    }
    if what == "model":
        onnx.save(dense_net(24, 48, 32, 17, 10), model)
    fresh = compress(model, "fresh.cwb", **options.get(what, {}))
    quantized.clear()
    assert compress(model, "out.cwb", resume=True, **options.get(what, {})) == fresh
    assert len(quantized) == LAYERS


def test_what_else_is_in_the_folder_stays(model: Path) -> None:
    folder = model.parent / "out.cwb.resume"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    compress(model, "out.cwb", resume=True)
    assert [path.name for path in folder.iterdir()] == ["notes"]


def test_with_a_cache_everything_stays_there(model: Path, quantized: list[str]) -> None:
    cache = model.parent / "cache"
    whole = compress(model, "whole.cwb")
    quantized.clear()
    compress(model, "out.cwb", resume=True, cache=cache)
    assert not (model.parent / "out.cwb.resume").exists()
    assert len(quantized) == LAYERS
    assert compress(model, "again.cwb", cache=cache) == whole
    assert len(quantized) == LAYERS


def test_layers_that_warned_are_quantised_again(
    model: Path, quantized: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    noted: Callable[..., Any] = layer_walk.priced.quantize

    def warning(*arguments: Any, **keywords: Any) -> Any:
        if keywords["name"] == "w1":
            logging.getLogger("cerwu_onnx.quantize").warning("hm")
        return noted(*arguments, **keywords)

    monkeypatch.setattr(layer_walk.priced, "quantize", warning)
    stopped(model, quantized, 3)
    caplog.clear()
    compress(model, "out.cwb", resume=True)
    assert quantized == ["w1", "w3"]
    assert re.findall("hm", caplog.text) == ["hm"]
