"""The commands and snippets of docs/browser.md and of the package's README, in a folder with a small model."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx

from .. import browser
from ..test_docs_examples import tiny_model
from .site import JS, NPM, ROOT, Site

PAGE = (ROOT / "docs/browser.md").read_text(encoding="utf-8")
README = (JS / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a .cwb file, and the package installed by the page's command; onnxruntime-web is linked."""
    folder = tmp_path_factory.mktemp("page")
    onnx.save(tiny_model(), folder / "model.onnx")
    x = np.random.default_rng(6).normal(size=(64, 16)).astype(np.float32)
    cerwu_onnx.compress(
        folder / "model.onnx", folder / "model.cwb", calib={"x": x}, settings=cerwu_onnx.Settings(effort="fast")
    )
    subprocess.run([NPM, "pack", "--silent", "--pack-destination", folder], cwd=package, check=True)
    (command,) = blocks("sh")
    assert command == f"npm install ./cerwu-onnx-{cerwu_onnx.__version__}.tgz onnxruntime-web\n"
    (folder / "package.json").write_text('{"name": "user", "type": "module"}')
    words = [NPM, *command.replace("onnxruntime-web", "--offline --no-save").split()[1:]]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    for name in ("onnxruntime-web", "onnxruntime-common"):
        (folder / "node_modules" / name).symlink_to(package / "node_modules" / name)
    return folder


def test_the_page_in_node(folder: Path) -> None:
    code = "\n".join(blocks("js"))
    assert len(blocks("js")) >= 5
    (folder / "page.mjs").write_text(code)
    made = subprocess.run(["node", "page.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    for words in ("[ 1, 10 ] Float32Array(10)", "\n1 1\n", "float32 [ 10, 12 ] 120\n", "hasGraph: true", "[ 'x' ]"):
        assert words in made.stdout, made.stdout


def test_the_readme_in_node(folder: Path) -> None:
    (code,) = blocks("js", README)
    (folder / "readme.mjs").write_text(f"{code}\nconsole.log(session.outputNames);")
    made = subprocess.run(["node", "readme.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout) == (0, "[ 'y' ]\n"), made.stderr


def test_the_page_in_a_browser(folder: Path, site: Site, tab: browser.Tab) -> None:
    (html,) = blocks("html")
    for path in folder.glob("node_modules/cerwu-onnx/src/*"):
        kind = {"Content-Type": "text/javascript"}
        site.answers[f"/user/{path.relative_to(folder)}"] = (200, kind, path.read_bytes())
    for path in (JS / "node_modules/onnxruntime-web/dist").glob("ort*wasm*"):
        kind = {"Content-Type": "application/wasm" if path.suffix == ".wasm" else "text/javascript"}
        site.answers[f"/user/node_modules/onnxruntime-web/dist/{path.name}"] = (200, kind, path.read_bytes())
    site.answers["/user/model.cwb"] = (200, {}, (folder / "model.cwb").read_bytes())
    site.answers["/user/"] = (200, {"Content-Type": "text/html"}, f"<!doctype html>{html}".encode())
    tab.open(f"{site.address}/user/", width=800)
    look = "const look = () => document.title ? done(document.title) : setTimeout(look, 20);"
    assert tab.evaluate(f"new Promise((done) => {{ {look} look(); }})") == "x"


def test_the_errors_of_the_page_are_those_of_the_types() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| [a-z]", PAGE.partition("| `code` |")[2], re.MULTILINE)
    types = (JS / "src/index.d.ts").read_text(encoding="utf-8")
    assert listed == re.findall(r"^  \| '([a-z-]+)'", types, re.MULTILINE)
    thrown = set(re.findall(r"CwbError\(\s*'([a-z-]+)'", "".join(path.read_text() for path in JS.glob("src/*.js"))))
    thrown |= set(re.findall(r"\]: '([a-z-]+)'", (JS / "src/errors.js").read_text(encoding="utf-8"))) | {"damaged"}
    assert thrown == set(listed)
