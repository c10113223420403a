"""A cache that others write to, that is damaged, full or may not be written: the same file comes out of it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerwu_onnx.jobs.cache import open_cache

from ..cli.conftest import Run, _calib, calib, command, model, run
from .test_faults import small_disk

__all__ = ["_calib", "calib", "model", "run"]

ENTRY = ({"what": ["statistics", 0.5]}, [np.arange(12.0).reshape(3, 4), np.arange(5, dtype=np.int8)])

KEEPER = """
import sys, numpy
from cerwu_onnx.jobs.cache import open_cache
cache = open_cache(sys.argv[1], "model")
for number in range(10**6):
    cache.get("x", number % 7, lambda: (number % 7, [numpy.full(20_000, number % 7)]))
    if number % 7 == 6:
        for path in cache.folder.glob("*.entry"):
            path.unlink(missing_ok=True)
    if number == 7:
        print("writing", flush=True)
"""
"""Writes seven entries again and again."""


def compress(model: Path, calib: Path, out: Path, *options: object) -> list[object]:
    return ["compress", "-q", "-f", model, out, "--calib", calib, "--effort", "fast", *options]


@pytest.mark.skipif(os.name == "nt", reason="writers of one file disturb each other")
def test_two_processes_with_one_cache(model: Path, calib: Path, run: Run, tmp_path: Path) -> None:
    """At the same time, from nothing; and a third one that finds what they have left."""
    cache = tmp_path / "cache"
    outs = [tmp_path / f"{number}.cwb" for number in range(3)]
    words = [command(*compress(model, calib, out, "--cache", cache)) for out in outs]
    together = [subprocess.Popen(line, stderr=subprocess.PIPE) for line in words[:2]]
    assert [(process.communicate()[1], process.returncode) for process in together] == [(b"", 0)] * 2
    assert {path.suffix for path in cache.iterdir()} == {".entry"}
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert run(*compress(model, calib, outs[2], "--cache", cache, "--strict")).code == 0
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    assert run(*compress(model, calib, tmp_path / "none.cwb")).code == 0
    assert {out.read_bytes() for out in outs} == {(tmp_path / "none.cwb").read_bytes()}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_killed_while_keeping(tmp_path: Path) -> None:
    wait = random.Random(9)
    for _ in range(3):
        words = [sys.executable, "-c", KEEPER, tmp_path]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(wait.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert {path.suffix for path in tmp_path.iterdir()} <= {".entry", ".tmp"}
        cache = open_cache(tmp_path, "model")
        for number in range(7):
            text, arrays = cache.get("x", number, lambda number=number: (number, [np.full(20_000, number)]))
            assert text == number
            assert set(arrays[0]) == {number}


def same(found: Any) -> bool:
    """Whether an entry is :data:`ENTRY`."""
    text, arrays = found
    return text == ENTRY[0] and [(a.dtype, a.tolist()) for a in arrays] == [(a.dtype, a.tolist()) for a in ENTRY[1]]


def test_no_damage_of_an_entry_is_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut anywhere, zeros from anywhere on as after a power cut, any bit another, moved: it is computed again."""
    cache = open_cache(tmp_path)
    cache.get("x", None, lambda: ENTRY)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    cut = [content[:length] for length in range(0, len(content), 40)]
    torn = [content[:half] + bytes(len(content) - half) for half in range(0, len(content), 200)]
    flipped = [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in range(0, len(content), 11)
    ]
    moved = tmp_path / path.with_name(f"{'0' * 64}.entry").name  # whole, but not this one
    for damaged in (*cut, *torn, *flipped):
        path.write_bytes(damaged)
        computed: list[int] = []
        assert same(cache.get("x", None, lambda computed=computed: (computed.append(1), ENTRY)[1]))
        assert computed or damaged == content
    path.rename(moved)
    cache.get("x", 2, lambda: (2, []))
    (other,) = set(tmp_path.iterdir()) - {moved}
    moved.replace(other)
    assert cache.get("x", 2, lambda: (2, [])) == (2, [])
    assert {record.getMessage().partition(": ")[2] for record in caplog.records} == {"it is computed again"}


def test_a_full_cache(model: Path, calib: Path, run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        result = run(*compress(model, calib, tmp_path / "a.cwb", "--cache", disk))
        left = sum(path.stat().st_size for path in disk.iterdir())
    message = f"warning: cache {disk}: cannot write entries: No space left on device; results are not kept\n"
    assert (result.code, result.err) == (0, message)
    assert left < 16384
    assert run(*compress(model, calib, tmp_path / "b.cwb")).code == 0
    assert (tmp_path / "a.cwb").read_bytes() == (tmp_path / "b.cwb").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_a_cache_that_may_not_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path is closed to others
    open_cache(folder).get("x", 1, lambda: ENTRY)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:  # who may write anywhere
            os.seteuid(65534)
        cache = open_cache(folder)
        assert same(cache.get("x", 1, lambda: pytest.fail("was there")))
        assert all(same(cache.get("x", number, lambda: ENTRY)) for number in (2, 3))
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        left = list(folder.iterdir())
        shutil.rmtree(folder)
    assert len(left) == 1
    messages = {record.getMessage() for record in caplog.records}
    assert len(messages) == 1
    assert messages.pop().endswith("; results are not kept")


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_a_cache_where_others_may_put_results(
    model: Path, calib: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found there is believed: only its owner, who runs this, may write there."""
    cache, words = tmp_path / "cache", ("compress", model, tmp_path / "o.cwb", "--calib", calib, "--cache")
    for mode in (0o777, 0o1777, 0o775, 0o757):
        cache.mkdir(exist_ok=True)
        cache.chmod(mode)
        result = run(*words, cache)
        assert (result.code, list(cache.iterdir())) == (2, [])
        assert result.err == (
            f"error: cache {cache}: other users may put results there, which would be believed: chmod go-w it\n"
        )
    cache.chmod(0o755)
    (tmp_path / "link").symlink_to(cache)
    with monkeypatch.context() as context:
        if os.geteuid():
            context.setattr(os, "geteuid", lambda: 65534)
        else:  # root, whose own folders everybody believes
            os.chown(cache, 65534, -1)
        for folder in (cache, tmp_path / "link"):
            result = run(*words, folder)
            assert result.code == 2
            assert result.err.endswith("belongs to another user, whose results would be believed: give your own\n")
    assert not (tmp_path / "o.cwb").exists()
    mask = os.umask(0)
    try:
        assert run(*words, tmp_path / "new" / "cache", "--method", "cerwu").code == 0
    finally:
        os.umask(mask)
    assert (tmp_path / "new" / "cache").stat().st_mode & 0o777 == 0o700
