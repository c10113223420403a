"""Small models and data, and the command line run in this process."""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.cli import lines
from cerwu_onnx.cli.app import run as run_app


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("compress", path, ...)``; stdout and stderr are what reached the file descriptors."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(lines, "EVERY", math.inf)  # on a slow machine, too
    logger = logging.getLogger("cerwu_onnx")
    for target, name in (
        (logger, "handlers"),
        (logger, "level"),
        (logger, "propagate"),
        (warnings, "showwarning"),
    ):
        value = getattr(target, name)
        monkeypatch.setattr(target, name, list(value) if isinstance(value, list) else value)

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run_app([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def command(*arguments: object) -> list[str]:
    """The same as a command of the shell."""
    return [sys.executable, "-m", "cerwu_onnx.cli", *map(str, arguments)]


def run_process(*arguments: object, **environment: str) -> Result:
    """Run the command line as a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, env=os.environ | environment, encoding="utf-8", check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def small_model(*, batch_norm: bool = False, suffix: str = "") -> onnx.ModelProto:
    """Conv (BatchNormalization) Relu Flatten Gemm on inputs of shape ``(N, 2, 8, 8)``."""
    random = np.random.default_rng(5)
    weights = {
        f"conv.weight{suffix}": random.normal(size=(12, 2, 3, 3)),
        "conv.bias": random.normal(size=12),
        "fc.weight": random.normal(size=(10, 432)) / 20,
        "fc.bias": random.normal(size=10),
    }
    conv = "folded" if batch_norm else "conv"
    nodes = [
        helper.make_node("Conv", ["x", f"conv.weight{suffix}", "conv.bias"], [conv], name="conv"),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    if batch_norm:
        names = ["bn.scale", "bn.shift", "bn.mean", "bn.var"]
        weights |= {name: random.uniform(0.5, 1.5, size=12) for name in names[:2]}
        weights["bn.mean"] = weights["conv.bias"]  # what training saw, if pixels are normally distributed
        weights["bn.var"] = np.square(weights[f"conv.weight{suffix}"]).sum(axis=(1, 2, 3))
        nodes.insert(1, helper.make_node("BatchNormalization", ["folded", *names], ["conv"], name="bn"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small ONNX file."""
    path = tmp_path / "model.onnx"
    onnx.save(small_model(), path)
    return path


@pytest.fixture(scope="session")
def _calib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calib") / "calib.npz"
    np.savez(path, x=np.random.default_rng(6).normal(size=(40, 2, 8, 8)).astype(np.float32))
    return path


@pytest.fixture
def calib(_calib: Path, tmp_path: Path) -> Path:
    """Calibration data for it."""
    return Path(shutil.copy(_calib, tmp_path / "calib.npz"))


@pytest.fixture(scope="session")
def _cwb(tmp_path_factory: pytest.TempPathFactory, _calib: Path) -> Path:
    from cerwu_onnx.compression.pipeline import compress

    folder = tmp_path_factory.mktemp("cwb")
    onnx.save(small_model(), folder / "model.onnx")
    compress(folder / "model.onnx", folder / "model.cwb", calib=_calib)
    return folder / "model.cwb"


@pytest.fixture
def cwb(_cwb: Path, tmp_path: Path) -> Path:
    """The small model, compressed."""
    return Path(shutil.copy(_cwb, tmp_path / "model.cwb"))
