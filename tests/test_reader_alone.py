"""The distribution cerwu-onnx-reader (reader/pyproject.toml): its files suffice to read, with no package but numpy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import cerwu_onnx
from cerwu_onnx import native

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = (ROOT / "reader/pyproject.toml").read_text(encoding="utf-8")
EXCLUDED = re.findall(r'^    "(.+)",$', MANIFEST, re.MULTILINE)
GOLDEN = sorted((ROOT / "tests/golden").rglob("*.cwb"))

ALONE = """
import importlib.abc, sys
sys.path.insert(0, sys.argv[1])

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"numpy", "cerwu_onnx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path[:] = [Blocked(), *(finder for finder in sys.meta_path if "editable" not in repr(finder).lower())]
import cerwu_onnx
assert cerwu_onnx.__path__ == [sys.argv[1] + "/cerwu_onnx"]
"""
"""Begins a script in an environment that has numpy, and the package in the folder that is the first argument."""

READ = """
import json
from hashlib import sha256
found = {}
for path in sys.argv[2:]:
    base = path.replace("delta", "base") if path.endswith("delta.cwb") else None
    arrays = cerwu_onnx.open(path, base=base)
    found[path] = {name: [str(a.dtype), list(a.shape), sha256(a.tobytes()).hexdigest()] for name, a in arrays.items()}
    arrays.metadata
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the distribution."""
    folder = tmp_path_factory.mktemp("site")
    for path in (ROOT / "cerwu_onnx").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and not any(fnmatch(name, pattern) for pattern in EXCLUDED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
    library = native.library_path()
    if library is not None:
        shutil.copy(library, folder / "cerwu_onnx")
    return folder


def run(folder: Path, script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", ALONE + script, folder, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={**os.environ})
    assert not done.returncode, done.stderr
    return done.stdout


def described(path: Path) -> dict[str, list[object]]:
    base = path.with_name("base.cwb") if path.name == "delta.cwb" else None
    arrays = cerwu_onnx.open(path, base=base).items()
    return {name: [str(a.dtype), list(a.shape), sha256(a.tobytes()).hexdigest()] for name, a in arrays}


def test_golden_files_and_new_ones_hold_the_same_arrays(installed: Path, tmp_path: Path) -> None:
    model = ROOT / "sample_models/fashion_dscnn/model.onnx"
    cerwu_onnx.compress(model, tmp_path / "new.cwb", settings=cerwu_onnx.Settings(method="rtn", levels=16))
    paths = [*GOLDEN, tmp_path / "new.cwb"]
    assert len(GOLDEN) >= 3
    found = json.loads(run(installed, READ, *paths))
    assert found == {str(path): described(path) for path in paths}
    with np.load(ROOT / "tests/golden/v1/kinds.npz") as stored:
        digests = [sha256(stored[name].tobytes()).hexdigest() for name in stored.files]
    kinds = ROOT / "tests/golden/v1/kinds.cwb"
    assert [digest for _, _, digest in found[str(kinds)].values()] == digests


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        ("cerwu_onnx.load_session(sys.argv[2])", "onnx"),
        ("cerwu_onnx.decompress(sys.argv[2])", "onnx"),
        ("cerwu_onnx.compare(sys.argv[2], 'model.onnx', 'calib.npz')", "cerwu_onnx.calibration"),
        ("cerwu_onnx.compress('model.onnx', 'model.cwb')", "cerwu_onnx.compression"),
        ("cerwu_onnx.sweep('model.onnx', 'folder', [1])", "cerwu_onnx.compression"),
        ("from cerwu_onnx import ImageOptions", "cerwu_onnx.calibration"),
    ],
)
def test_what_needs_more_says_so(call: str, missing: str, installed: Path) -> None:
    script = f"""
try:
    {call}
except cerwu_onnx.MissingPackageError as error:
    assert isinstance(error, (ImportError, cerwu_onnx.UsageError)) and error.exit_code == 2
    print(error)
"""
    (line,) = run(installed, script, GOLDEN[-1]).splitlines()
    assert f" needs the package {missing}, which is not installed: pip install cerwu-onnx" in line


def test_damage_and_absence_are_errors_as_ever(installed: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.cwb"
    damaged.write_bytes(GOLDEN[0].read_bytes()[:-1])
    script = """
for path, error in ((sys.argv[2], cerwu_onnx.CorruptFileError), (sys.argv[2] + "x", cerwu_onnx.UsageError)):
    try:
        cerwu_onnx.open(path)
    except error as found:
        print(found)
"""
    assert len(run(installed, script, damaged).splitlines()) == 2


def test_both_distributions_are_one() -> None:
    """Version, Python and numpy are the same in both manifests, and each room that is left out exists."""
    whole = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for pattern in (r'^version = "(.+)"$', r'^requires-python = "(.+)"$', r'"(numpy>=[0-9.]+)"'):
        (one,), (other,) = (re.findall(pattern, text, re.MULTILINE) for text in (whole, MANIFEST))
        assert one == other
    for pattern in EXCLUDED[1:]:
        assert (ROOT / pattern.removesuffix("/**")).is_dir(), pattern
