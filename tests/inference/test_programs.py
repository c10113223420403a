"""``export-c --inference``: the C program gives what onnxruntime gives, in every form of file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("emx_onnx_cgen", reason="no C generator: pip install -e '.[inference]'")

from cerwu_onnx.container import reader
from cerwu_onnx.inference import split
from cerwu_onnx.opened import CompressedModel

from ..models import conv_net, normal
from .programs import compile_program, compiler, compressed, firmware, main_of, net, outputs, written

SOURCES = ("model.c", "model_run.c", "cwb.c")


def expected(container: reader.Container, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(CompressedModel(container).to_onnx().SerializeToString())
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in inputs])


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.fixture(params=["layers", "tiles", "once"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How weights are decoded: those of a layer at once, a few rows at a time, or all of them at the start."""
    monkeypatch.setattr(split, "TILE", 200 if request.param == "tiles" else 1 << 20)
    return str(request.param)


@pytest.mark.parametrize(("layout", "coder"), [("onnx", "ans"), ("cmsis", "adaptive")])
def test_as_onnxruntime(tmp_path: Path, way: str, layout: str, coder: str) -> None:
    container = compressed(net(), tmp_path, method="rtn", weight_layout=layout, coder=coder)
    made = firmware(container, once=way == "once")
    source = made.files["model_run.c"].decode()
    assert ("for (part = 0" in source) == (way == "tiles")
    program = compile_program(written(made, tmp_path / "c"), main_of(), *SOURCES)
    inputs = normal(3, 1, 12, 12, seed=11)
    theirs = expected(container, inputs)
    assert np.ptp(theirs, axis=0).max() > 0.01  # inputs matter
    assert_close(outputs(program, inputs), theirs)


def test_trellis_and_steps_of_rows(tmp_path: Path, way: str) -> None:
    """The default method: weights on a trellis; rows of very different sizes, so that they have steps of their own."""
    model = net()
    for tensor in model.graph.initializer:
        if tensor.name in ("fc", "wide", "depth"):
            values = np.frombuffer(tensor.raw_data, np.float32).reshape(tuple(tensor.dims))
            scale = (2.0 ** -(np.arange(len(values)) % 5)).astype(np.float32)
            tensor.raw_data = (values * scale.reshape(-1, *[1] * (values.ndim - 1))).tobytes()
    container = compressed(model, tmp_path)
    assert any(record.run for record in container.tensors)
    assert any(record.stepped for record in container.tensors)
    program = compile_program(written(firmware(container, once=way == "once"), tmp_path / "c"), main_of(), *SOURCES)
    inputs = normal(2, 1, 12, 12, seed=12)
    assert_close(outputs(program, inputs), expected(container, inputs))


def test_a_constant_node_and_a_folded_normalisation(tmp_path: Path) -> None:
    container = compressed(conv_net(), tmp_path)
    program = compile_program(written(firmware(container), tmp_path / "c"), main_of(), *SOURCES)
    inputs = normal(2, 3, 8, 8, seed=12)
    assert_close(outputs(program, inputs), expected(container, inputs))


def test_two_models_in_one_program(tmp_path: Path) -> None:
    """Their files lie in one folder and share the decoder; nothing of them collides."""
    folder = tmp_path / "c"
    for name, model in (("first", net()), ("second", conv_net())):
        written(firmware(compressed(model, tmp_path), name), folder)
    main = """
#include "first.h"
#include "second.h"
#include <stdio.h>
static union { first_arena first; second_arena second; } arena;
static float one[FIRST_OUTPUT_COUNT], two[SECOND_OUTPUT_COUNT];
static const float input_one[FIRST_INPUT_COUNT] = {0}, input_two[SECOND_INPUT_COUNT] = {0};
int main(void)
{
    return first_start(&arena, sizeof arena) || first_run(input_one, one, &arena, sizeof arena) ||
           second_start(&arena, sizeof arena) || second_run(input_two, two, &arena, sizeof arena);
}
"""
    sources = ("first.c", "first_run.c", "second.c", "second_run.c", "cwb.c")
    assert subprocess.run([compile_program(folder, main, *sources)]).returncode == 0


def test_the_header_is_c_plus_plus(tmp_path: Path) -> None:
    written(firmware(compressed(net(), tmp_path)), tmp_path / "c")
    (tmp_path / "use.cpp").write_text(
        '#include "model.h"\nstatic model_arena arena;\nstatic const int strides[] = {MODEL_STRIDES_DEPTH};\n'
        "int main() { return model_start(&arena, sizeof arena) + strides[0] + MODEL_LAYERS; }\n"
    )
    command = [compiler("c++", "g++", "clang++"), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*command, f"-I{tmp_path / 'c'}", tmp_path / "use.cpp"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("once", [False, True])
def test_what_the_functions_refuse(tmp_path: Path, once: bool) -> None:
    made = firmware(compressed(net(), tmp_path), once=once)
    main = """
#include "model.h"
static model_arena arena;
static float input[MODEL_INPUT_COUNT], output[MODEL_OUTPUT_COUNT];
int main(void)
{
    if (model_arena_bytes() != MODEL_ARENA_BYTES) return 1;
    if (model_start(0, sizeof arena) != CWB_ERR_ARGUMENT) return 2;
    if (model_start(arena.bytes + 4, sizeof arena) != CWB_ERR_ARGUMENT) return 3;
    if (model_start(&arena, MODEL_ARENA_BYTES - 1) != CWB_ERR_SPACE) return 4;
    if (model_run(input, output, &arena, MODEL_ARENA_BYTES - 1) != CWB_ERR_SPACE) return 5;
    if (model_run(input, output, &arena, sizeof arena) != NOT_STARTED) return 6;
    if (model_start(&arena, MODEL_ARENA_BYTES) != 0) return 7;
    return model_run(input, output, &arena, MODEL_ARENA_BYTES) != 0;
}
""".replace("NOT_STARTED", "CWB_ERR_ARGUMENT" if once else "CWB_OK")
    program = compile_program(written(made, tmp_path / "c"), main, *SOURCES)
    assert subprocess.run([program]).returncode == 0


def test_damage_in_flash_is_found(tmp_path: Path) -> None:
    folder = written(firmware(compressed(net(), tmp_path)), tmp_path / "c")
    source = (folder / "model.c").read_text()
    start = source.rindex("0x", 0, source.rindex("0x", 0, source.rindex("}")))
    changed = f"{source[:start]}0x{int(source[start + 2 : start + 4], 16) ^ 16:02x}{source[start + 4 :]}"
    (folder / "model.c").write_text(changed)
    program = compile_program(folder, main_of(), *SOURCES)
    assert 5 <= subprocess.run([program], input=b"").returncode <= 13
