"""What the tests of the package need: node, npm, ziglang, a browser; each skips with a word where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .. import browser
from .site import JS, PAGE, Site, build, serving

Node = Callable[..., Any]
"""Runs a script with the package at hand; gives what it prints as JSON."""


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder js/, built."""
    if missing := build():
        pytest.skip(missing)
    return JS


def run_node(folder: Path, script: str, *arguments: str | Path) -> Any:
    """Run a module's text in a folder; what it prints as JSON."""
    command = ["node", "--input-type=module", "--eval", script, "--", *map(str, arguments)]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


@pytest.fixture(scope="session")
def node(package: Path) -> Node:
    return lambda script, *arguments: run_node(package, script, *arguments)


@pytest.fixture(scope="session")
def site(package: Path) -> Iterator[Site]:
    with serving() as made:
        yield made


@pytest.fixture(scope="session")
def tab(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    """A tab of a headless Chromium."""
    found = browser.find()
    if found is None or os.name == "nt":
        pytest.skip("no Chromium to run the package in: install chromium")
    with browser.tab(found, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


Door = Callable[..., Any]
"""Runs the body of an async JavaScript function of ``cwb`` (the package), ``ort`` and ``args``; gives its result."""


@pytest.fixture(scope="session")
def in_chromium(site: Site, tab: browser.Tab) -> Door:
    """The body runs in a page under a strict policy."""

    def run(body: str, *args: Any) -> Any:
        tab.open(site.address + PAGE, width=800)
        return tab.evaluate(f"(async ({{cwb, ort}}, args) => {{ {body} }})(doors, {json.dumps(args)})")

    return run


@pytest.fixture(scope="session")
def in_node(node: Node) -> Door:
    def run(body: str, *args: Any) -> Any:
        return node(
            "import * as cwb from 'cerwu-onnx'; import * as ort from 'onnxruntime-web'; ort.env.wasm.numThreads = 1;"
            f"const run = async (args) => {{ {body} }};"
            f"console.log(JSON.stringify(await run({json.dumps(args)}) ?? null));"
        )

    return run


@pytest.fixture(scope="session", params=["node", "chromium"])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.getfixturevalue(f"in_{request.param}")
    return found
