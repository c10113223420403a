"""Sessions of onnxruntime in C++, from the header as users build it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx.config import Settings

from ..compression.test_deltas import LAMBDA, moved, network
from . import demo
from .toolchain import DECODER, ROOT, Missing, cmake, onnxruntime_folder, project

MODELS = ROOT / "sample_models"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which the commands of docs/cpp.md ran, and the last ones' lines.

    The library of the Python wheel takes the place of a release.
    """
    folder = tmp_path_factory.mktemp("cpp")
    try:
        cmake()
        release = onnxruntime_folder(folder)
    except Missing as missing:
        pytest.skip(f"{missing}: no program in C++ is tested")
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/cpp.md").read_text(), re.DOTALL)
    (folder / "decoder_c").symlink_to(DECODER)
    cerwu_onnx.compress(demo.MODEL / "model.onnx", folder / "model.cwb", calib=demo.MODEL / "calib.npz")
    demo.images(folder / "images.f32")
    script = "set -e\n" + block.replace("/opt/onnxruntime", str(release))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


@pytest.fixture(scope="module")
def probe(page: tuple[Path, list[str]]) -> Path:
    folder, _ = page
    for command in project(folder, ROOT / "tests/cpp/probe", folder / "build/prefix"):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder / "probe/probe"


def test_the_commands_of_the_page(page: tuple[Path, list[str]]) -> None:
    folder, lines = page
    labels = demo.images(folder / "images.f32")
    assert (np.array(lines[-len(labels) :], int) == labels).mean() > 0.9


def run(probe: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([probe, *map(str, words)], capture_output=True)


def first_output(probe: Path, model: Path, values: np.ndarray, folder: Path, base: Path | None = None) -> bytes:
    values.astype(np.float32).tofile(folder / "input.f32")
    done = run(probe, "run", model, base or "-", folder / "input.f32", *values.shape)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("name", ["fashion_cnn", "fashion_dscnn"])
def test_the_answers_are_those_of_the_rebuilt_model(probe: Path, name: str, tmp_path: Path) -> None:
    with np.load(MODELS / name / "test.npz") as test:
        values = test["inputs"][:64, None].astype(np.float32) / np.float32(255)
    cerwu_onnx.compress(MODELS / name / "model.onnx", tmp_path / "model.cwb")
    cerwu_onnx.decompress(tmp_path / "model.cwb", tmp_path / "rebuilt.onnx")
    ours = first_output(probe, tmp_path / "model.cwb", values, tmp_path)
    assert len(ours) == 4 * 64 * 10
    assert ours == first_output(probe, tmp_path / "rebuilt.onnx", values, tmp_path)


def test_tensors_that_are_handed_over(probe: Path, tmp_path: Path) -> None:
    """Large ones of several types, one that nothing reads, one that is an output."""
    rng = np.random.default_rng(3)
    large = {name: rng.normal(size=(200, 200)).astype(np.float32) for name in ("w", "unread")}
    half = rng.normal(size=(200, 200)).astype(np.float16)
    table = rng.integers(-60, 60, (70000,)).astype(np.int8)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"]),
        onnx.helper.make_node("Cast", ["a"], ["b"], to=10),
        onnx.helper.make_node("MatMul", ["b", "half"], ["c"]),
        onnx.helper.make_node("Cast", ["c"], ["d"], to=1),
        onnx.helper.make_node("Cast", ["table"], ["t"], to=1),
        onnx.helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        onnx.helper.make_node("Add", ["d", "s"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    outputs = [value("y", 1, [3, 200]), value("out", 1, [200, 200])]
    arrays = {**large, "half": half, "table": table, "out": large["w"] + 1}
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, [3, 200])], outputs, [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    cerwu_onnx.compress(tmp_path / "model.onnx", tmp_path / "model.cwb", settings=Settings(lambda_=0.01))
    cerwu_onnx.decompress(tmp_path / "model.cwb", tmp_path / "rebuilt.onnx")
    x = rng.normal(size=(3, 200))
    assert first_output(probe, tmp_path / "model.cwb", x, tmp_path) == first_output(
        probe, tmp_path / "rebuilt.onnx", x, tmp_path
    )


def test_deltas(probe: Path, tmp_path: Path) -> None:
    for name, model in (("base", network()), ("later", moved(network(), v=0.02))):
        onnx.save(model, tmp_path / f"{name}.onnx")
    base, later = tmp_path / "base.cwb", tmp_path / "later.cwb"
    cerwu_onnx.compress(tmp_path / "base.onnx", base, settings=LAMBDA)
    cerwu_onnx.compress(tmp_path / "later.onnx", later, base=base, settings=LAMBDA)
    cerwu_onnx.decompress(later, tmp_path / "rebuilt.onnx", base=base)
    x = np.random.default_rng(1).normal(size=(5, 40))
    ours = first_output(probe, later, x, tmp_path, base)
    assert ours == first_output(probe, tmp_path / "rebuilt.onnx", x, tmp_path)
    done = run(probe, "run", later, "-", tmp_path / "input.f32", 5, 40)
    assert (done.returncode, b"delta" in done.stderr) == (4, True)


def test_files_that_are_no_model(probe: Path, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    cerwu_onnx.compress(tmp_path / "model.onnx", tmp_path / "weights.cwb", settings=Settings(weights_only=True))
    cerwu_onnx.compress(tmp_path / "model.onnx", tmp_path / "model.cwb")
    data = bytearray((tmp_path / "model.cwb").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.cwb").write_bytes(data)
    (tmp_path / "short.cwb").write_bytes(data[:30])
    expected = {
        "weights": (4, "no graph"),
        "damaged": (4, "damaged"),
        "short": (4, "shorter"),
        "none": (2, "cannot read"),
    }
    for name, (code, words) in expected.items():
        done = run(probe, "memory", tmp_path / f"{name}.cwb")
        assert done.returncode == code
        assert re.fullmatch(rf"\S*{name}\.cwb: .*{words}.*\n", done.stderr.decode())
