"""Faults while writing: the old output is intact or the new one complete, and nothing else remains."""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx import runtime
from cerwu_onnx.cli.batch import ONE_THREAD
from cerwu_onnx.container import reader
from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs import files

from ..cli.conftest import Run, _calib, _cwb, calib, command, cwb, model, run
from ..models import build, normal, value

__all__ = ["_calib", "_cwb", "calib", "cwb", "model", "run"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")

WRITER = """
import itertools, sys
from cerwu_onnx.jobs.files import write_atomic
for number in itertools.count():
    write_atomic(sys.argv[1], number.to_bytes(8, "little") * 50_000, overwrite=True)
    if not number:
        print("writing", flush=True)
"""
"""Replaces a file without end, each time by one number, repeated."""


def whole(content: bytes) -> bool:
    """Whether this is one of the writer's contents."""
    return len(content) == 400_000 and content == content[:8] * 50_000


def writing(path: Path) -> subprocess.Popen[str]:
    """The writer, once it has written."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_writing(seed: int, tmp_path: Path) -> None:
    target = tmp_path / "model.cwb"
    wait = random.Random(seed)
    process = writing(target)
    time.sleep(wait.uniform(0, 0.1))
    process.kill()
    process.communicate()
    assert whole(target.read_bytes())
    others = [path.name for path in tmp_path.iterdir() if path != target]
    assert all(name.startswith(".model.cwb.") and name.endswith(".tmp") for name in others)


def test_killed_while_compressing(model: Path, calib: Path, tmp_path: Path) -> None:
    """At random moments of its life, which a first run tells."""
    out = tmp_path / "out" / "model.cwb"
    out.parent.mkdir()
    words = command("compress", "-q", "-f", model, out, "--calib", calib, "--effort", "fast")
    start = time.monotonic()
    subprocess.run(words, check=True)
    life = time.monotonic() - start
    new = out.read_bytes()
    wait = random.Random(7)
    for moment in (wait.uniform(0.5, 0.95), wait.uniform(0.9, 1.05)):
        out.write_bytes(b"old")
        process = subprocess.Popen(words)
        time.sleep(moment * life)
        process.kill()
        process.communicate()
        assert out.read_bytes() in (b"old", new)
        assert all(path.name.endswith(".tmp") for path in out.parent.iterdir() if path != out)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "model.cwb"
    process = writing(target)
    seen = {content for content in (target.read_bytes() for _ in range(300)) if whole(content) or pytest.fail("torn")}
    process.kill()
    process.communicate()
    assert len(seen) > 1


class FullDisk:
    """Every call to the operating system while a file is written fails in turn.

    Attributes:
        left: calls that succeed before one fails; below zero none does any more.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.left = 0
        self.error = error
        self.failed = False
        self._streams(monkeypatch)
        for name in ("fsync", "chmod", "replace"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _streams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = os.fdopen

        def fdopen(*arguments: Any) -> Any:
            stream = opened(*arguments, buffering=0)
            outer = self

            class Stream:
                write = staticmethod(outer._failing(stream.write))
                flush, fileno = stream.flush, stream.fileno
                tell = stream.tell

                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: object) -> None:
                    stream.close()

            return Stream()

        monkeypatch.setattr(os, "fdopen", fdopen)

    def _failing(self, call: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            if not self.left:
                self.failed = True
                self.left = -1
                raise self.error
            self.left -= 1
            return call(*arguments)

        return wrapped


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "^C"]
)
@pytest.mark.parametrize("what", ["decompress", "external", "report", "export-c"])
def test_every_call_fails_in_turn(
    what: str, error: BaseException, cwb: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words: dict[str, tuple[list[object], list[Path]]] = {
        "decompress": (["decompress", "-f", cwb, out / "m.onnx"], [out / "m.onnx"]),
        "external": (
            ["decompress", "-f", "--external-data", cwb, out / "m.onnx"],
            [out / "m.onnx", out / "m.onnx.data"],
        ),
        "report": (["report", "-f", cwb, out / "m.md"], [out / "m.md"]),
        "export-c": (["export-c", "-f", cwb, out], []),
    }
    arguments, written = words[what]
    if isinstance(error, OSError):
        code, message = 2, "No space left on device"
    else:
        code, message = 130, "interrupted"
    monkeypatch.setattr(runtime, "OUTSIDE", 1000)
    disk = FullDisk(monkeypatch, error)
    failures = 0
    for calls in range(60):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for path in written:
            path.write_bytes(b"old")
        disk.left, disk.failed = calls, False
        result = run(*arguments)
        if not disk.failed:
            break
        failures += 1
        assert result.code == code
        assert message in result.err
        assert result.err.count("\n") == 1
        assert not list(out.glob(".*"))
        if written and (out / "m.onnx").exists():  # what was to be replaced is old or new, and fits what is beside it
            assert len({path.read_bytes() == b"old" for path in written}) == 1
    assert result.code == 0
    assert failures >= 4
    disk.left = -1


@contextmanager
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_full_disk(cwb: Path, run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        (disk / "m.onnx").write_bytes(b"old")
        result = run("decompress", "-f", cwb, disk / "m.onnx")
        assert (result.code, result.err) == (2, f"error: cannot write {disk / 'm.onnx'}: No space left on device\n")
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == {"m.onnx": b"old"}


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """A limit of the operating system on this process."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(b"old")
    with limit(resource.RLIMIT_FSIZE, 4096), pytest.raises(UsageError, match="File too large"):
        files.write_atomic(tmp_path / "o", bytes(10_000), overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"o": b"old"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to a limit on memory")
def test_out_of_memory(cwb: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.onnx").write_bytes(b"old")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def greedy(*_: object) -> object:
        return np.ones(1 << 30)

    monkeypatch.setattr(reader.Container, "decode_list", greedy)
    with limit(resource.RLIMIT_AS, used + (1 << 30)):
        result = run("decompress", "-f", cwb, out / "m.onnx")
    assert result.code == 70
    assert result.err.startswith("error: out of memory")
    assert result.err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"m.onnx": b"old"}


SPARE = """
import os, resource, sys
from pathlib import Path
from cerwu_onnx.cli.app import run
out, spare, *words = sys.argv[1:]
assert run(words) == 0  # everything is imported, and BLAS has its buffers: without them it would wait for ever
Path(out).write_bytes(b"old")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(spare) << 10),) * 2)
print(run(words), flush=True)
os._exit(0)
"""
"""Compresses, and once more with so many KiB of memory to spare."""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to a limit on memory")
def test_little_memory(model: Path, calib: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "model.cwb"
    out.parent.mkdir()
    np.savez(calib, x=np.random.default_rng(6).normal(size=(400, 2, 8, 8)).astype(np.float32))
    words = ["compress", "-q", "-f", model, out, "--calib", calib, "--effort", "fast", "--method", "optq"]
    codes = []
    for spare in (0, 4000, 10**6):
        line = [sys.executable, "-c", SPARE, out, str(spare), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
        codes.append(int(done.stdout))
        assert codes[-1] == 0 or re.fullmatch(r"error: out of memory: .+\n", done.stderr)
        assert (out.read_bytes() == b"old") == (codes[-1] != 0)
        assert list(out.parent.iterdir()) == [out]
    assert codes[0] == 70
    assert codes[-1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to a limit on memory")
def test_little_memory_for_protobuf(tmp_path: Path) -> None:
    """It has another exception for that, which would call the model damaged."""
    tensors = {"a": normal(1500, 2000), "b": normal(2000, 1500)}
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    model = tmp_path / "model.onnx"
    onnx.save(build(nodes, [value("x", ["N", 1500])], [value("y", ["N", 1500])], tensors), model)
    found = {}
    for spare in (15, 30, 45, 1000):
        line = [sys.executable, "-c", SPARE, tmp_path / "old", str(spare << 10), "inspect", model]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
        found[done.stderr] = int(done.stdout.splitlines()[-1])
        assert found[done.stderr] == 0 or re.fullmatch(r"error: out of memory: .+\n", done.stderr), (spare, done.stderr)
    assert set(found.values()) == {0, 70}


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path is closed to others
    (folder / "o").write_bytes(b"old")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:  # who may write anywhere
            os.seteuid(65534)
        with pytest.raises(UsageError, match=r"not writable|Permission denied"):
            files.write_atomic(folder / "o", b"new", overwrite=True)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        left = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
    assert left == {"o": b"old"}


@pytest.mark.parametrize(
    "stage",
    [
        "compression.prepare.load_model",
        "compression.pipeline.ModelQuantizer",
        "compression.layer_walk.walk",
        "compression.layer_walk.priced.quantize",
        "compression.trials.encode",
        "jobs.files.os.fsync",
    ],
)
def test_interrupted_at_any_stage(
    stage: str, model: Path, calib: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.cwb").write_bytes(b"old")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"cerwu_onnx.{stage}", interrupted)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    result = run("compress", "-f", model, out / "model.cwb", "--calib", calib)
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"model.cwb": b"old"}
    assert not list(scratch.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to see how far a process is")
def test_ended_at_random_moments(model: Path, calib: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "model.cwb"
    out.parent.mkdir()
    wait = random.Random(8)
    words = command("compress", "-q", "-f", model, out, "--calib", calib)
    spool = tmp_path / "spool"  # where temporary files would be
    spool.mkdir()
    for number, code, word in (
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
    ):
        out.write_bytes(b"old")
        process = subprocess.Popen(
            words,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(spool)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while b"onnxruntime" not in Path(f"/proc/{process.pid}/maps").read_bytes():  # it has begun
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(wait.uniform(0, 1))
        process.send_signal(number)
        _, err = process.communicate()
        if out.read_bytes() == b"old":
            assert (process.returncode, err) == (code, f"{word}\n")
        else:  # all was written; the signal may have met Python on its way out
            assert process.returncode in (0, code, -number)
            cerwu_onnx.open(out).verify()
        assert list(out.parent.iterdir()) == [out]
        assert {path.name for path in spool.iterdir()} <= {".ses"}  # which is onnxruntime's
