"""The package as npm makes and installs it, and its types."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

import cerwu_onnx

from .conftest import run_node
from .site import JS, NPM, ROOT

GOLDEN = ROOT / "tests/golden/v1/model.cwb"


def npm(folder: Path, *words: str | Path) -> str:
    made = subprocess.run([NPM, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def tarball(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    npm(package, "pack", "--pack-destination", folder, "--silent")
    (found,) = folder.glob("*.tgz")
    return found


def test_what_is_in_it(tarball: Path) -> None:
    about = json.loads((JS / "package.json").read_text(encoding="utf-8"))
    assert tarball.name == f"cerwu-onnx-{cerwu_onnx.__version__}.tgz"
    assert not {"scripts", "dependencies", "bin"} & about.keys()
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    sources = {f"src/{path.name}" for path in (JS / "src").iterdir()}
    assert names == sources | {"package.json", "README.md", "LICENSE"}
    assert "src/cwb-wasm.js" in names
    assert (JS / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert tarball.stat().st_size < 60_000


def test_it_works_where_it_is_installed(tarball: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "user", "type": "module"}')
    npm(tmp_path, "install", "--offline", "--no-save", tarball)
    assert [path.name for path in (tmp_path / "node_modules").glob("[!.]*")] == ["cerwu-onnx"]
    script = (
        "import { decodeCwb, loadCwb, verifyCwb } from 'cerwu-onnx';"
        "const arrays = await decodeCwb(process.argv[1]);"
        "const code = await loadCwb(process.argv[1]).catch((error) => error.code);"
        "console.log(JSON.stringify([arrays.size, await verifyCwb(process.argv[1]), code]));"
    )
    found = run_node(tmp_path, script, GOLDEN)
    assert found == [9, {"tensors": 9, "hasGraph": True}, "no-runtime"]


USER = """
import { CwbError, decodeCwb, loadCwb, unpackCwb, verifyCwb } from 'cerwu-onnx';
import * as ort from 'onnxruntime-web';

const stop = new AbortController();
const session: ort.InferenceSession = await loadCwb(new URL('https://example.org/model.cwb'), {
  ort, signal: stop.signal, sessionOptions: { executionProviders: ['wasm'] },
  onprogress: ({ loaded, total }) => console.log(loaded / total),
});
await session.run({});
const { model, externalData } = await unpackCwb(new Uint8Array(4), { workers: 0, base: new Blob() });
await ort.InferenceSession.create(model, { externalData });
for (const [name, { type, dims, data }] of await decodeCwb(await fetch('model.cwb'))) {
  console.log(name.length, type.length, dims[0]!.toFixed(), data.byteLength);
}
try {
  const { tensors, hasGraph } = await verifyCwb('model.cwb');
  console.log(tensors.toFixed(), hasGraph === true);
} catch (error) {
  if (error instanceof CwbError && error.code === 'truncated') console.log(error.message);
  // @ts-expect-error there is no such code
  if (error instanceof CwbError && error.code === 'nothing') console.log(error.message);
}
// @ts-expect-error there is no such option
await decodeCwb('model.cwb', { worker: 1 });
"""


def test_types(package: Path, tarball: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "user", "type": "module"}')
    (tmp_path / "user.ts").write_text(USER)
    npm(tmp_path, "install", "--offline", "--no-save", tarball)
    (tmp_path / "node_modules/onnxruntime-web").symlink_to(package / "node_modules/onnxruntime-web")
    flags = ("--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--module", "nodenext")
    command = [package / "node_modules/.bin/tsc", *flags, "user.ts"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
