"""The examples of the documents, run as they stand, on a small model: README.md, python.md, tutorials, firmware.md."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from . import check_docs, tutorials
from .cli.conftest import Run, run

__all__ = ["run"]  # the fixture

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

SCORE = """
import sys
import numpy as np, onnxruntime
def evaluate(path):
    x = np.load("calib.npz")["x"]
    y, z = (onnxruntime.InferenceSession(name).run(None, {"x": x})[0] for name in ("model.onnx", path))
    return float(1 - ((y - z) ** 2).mean() / (y**2).mean() / 10)
if __name__ == "__main__":
    print(evaluate(sys.argv[1]))
"""


def tiny_model() -> onnx.ModelProto:
    """Two dense layers, the second of which is called as that of the sample model."""
    random = np.random.default_rng(5)
    shapes = {"in.weight": (12, 16), "in.bias": (12,), "fc.weight": (10, 12), "fc.bias": (10,)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "in.weight", "in.bias"], ["in"], name="in", transB=1),
            helper.make_node("Relu", ["in"], ["relu"], name="relu"),
            helper.make_node("Gemm", ["relu", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(random.normal(size=s).astype(np.float32), name) for name, s in shapes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples find there, but small."""
    onnx.save(tiny_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=np.random.default_rng(6).normal(size=(64, 16)).astype(np.float32))
    (tmp_path / "eval.py").write_text(SCORE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_python_md(folder: Path) -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"python.md, example {number}", "exec"), names)
    assert {path.name for path in folder.glob("*.cwb")} == {
        f"{name}.cwb" for name in ("model", "small", "good", "sure", "mixed", "streamed")
    }
    assert any((folder / "cache").iterdir())
    assert (folder / "rebuilt.onnx").exists()


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="the tutorials speak to bash")
@pytest.mark.parametrize("name", sorted(tutorials.PAGES))
def test_the_commands_of_the_tutorials(name: str, folder: Path, run: Run) -> None:
    page = tutorials.PAGES[name].read_text(encoding="utf-8")
    ran = []

    def shell(command: str, place: Path) -> str:
        words = shlex.split(command)
        if words[0] == "cc" and shutil.which("cc") is None:
            pytest.skip("no cc: install a C compiler to build the tutorial's program")
        if "--inference" in words:
            pytest.importorskip("emx_onnx_cgen", reason="no C generator: pip install -e '.[inference]'")
        if "tests.emu" in words:
            pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
            pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
        ran.append(command)
        if words[0] != "cerwu-onnx" or set(command) & set("|&;$"):  # what takes a shell
            return tutorials.bash(command, place)
        if "--effort" not in words and words[1] == "compress":
            words += ["--effort", "fast"]
        result = run(*words[1:])
        assert result.code == 0, f"{command}\n{result.err}"
        assert all(  # the model is tiny, and its speed is the machine's
            any(word in line for word in ("larger than the model needs", "times the speed of the float model"))
            for line in result.err.splitlines()
        )
        return result.out

    tutorials.run(page, folder, shell)
    assert len(ran) >= 4
    if name in tutorials.ALONE:  # whose Python goes on from there
        for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            exec(compile(block, f"{name}.md", "exec"), {})


@pytest.mark.skipif(shutil.which("cc") is None, reason="no cc: install a C compiler")
def test_the_c_of_firmware_md(folder: Path, run: Run) -> None:
    page = (DOCS / "firmware.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```c\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert sum("cwb_read_i16(&stream" in block for block in blocks) == 1  # a layer, a row at a time
    run("compress", "model.onnx", "model.cwb", "--calib", "calib.npz", "--weights-only", "--method", "rtn")
    assert run("export-c", "model.cwb", "firmware/model").code == 0  # whose parent does not exist yet
    running = [block for block in blocks if "model_run" in block]
    assert len(running) == 1
    if importlib.util.find_spec("emx_onnx_cgen") is not None:
        run("compress", "model.onnx", "model.cwb", "--calib", "calib.npz", "--force", "--method", "rtn")
        assert run("export-c", "model.cwb", "firmware/runs", "--inference").code == 0
    else:
        blocks.remove(running[0])
    for block in blocks:
        (folder / "page.c").write_text(f'#include <string.h>\n#include "model.h"\n{block}')
        place = "-Ifirmware/runs" if block in running else "-Ifirmware/model"
        command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", place, "-c", "page.c"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr


def test_the_python_of_the_readme(folder: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (folder / "model.cwb").stat().st_size <= 64 << 10
    assert "fc.weight" in names["weights"]  # type: ignore[operator]


def test_links_and_options_exist() -> None:
    found = [problem for page in check_docs.pages() for problem in check_docs.problems(page)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`cerwu-onnx compress a b --target-sise 4`", "compress has no option --target-sise"),
        ("```sh\ncerwu-onnx squash a b\n```", "there is no command squash"),
        ("Try `--target-sise`.", "no command has an option --target-sise"),
        ("`cerwu-onnx verify a --json | jq --raw-output .x`", None),
        ("`cerwu-onnx compress a b --calib c -f`, `--no-fold-bn`", None),
        ("[x](none.md)", "no such file"),
    ],
)
def test_what_is_not_there_is_found(
    text: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text)
    found = check_docs.problems(tmp_path / "page.md")
    assert len(found) == (problem is not None)
    assert not problem or problem in found[0]


@pytest.mark.parametrize("name", ["README.md", "js/README.md", "reader/README.md"])
def test_links_lead_somewhere_from_pypi_and_npm_too(name: str) -> None:
    """Their pages show these texts without the repository around them."""
    page = check_docs.FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    links = ["".join(found) for found in check_docs.LINK.findall(page)]
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert not re.search("<(?!!--)[a-z]", page)  # what PyPI may refuse
