"""Many at once, others that write, other numbers of threads: the same answers and the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cerwu_onnx
from cerwu_onnx.container import reader

from ..cli.conftest import _calib, _cwb, calib, command, cwb, model

__all__ = ["_calib", "_cwb", "calib", "cwb", "model"]

REPLACER = """
import itertools, sys
from pathlib import Path
from cerwu_onnx.jobs.files import write_atomic
one, other = (Path(path).read_bytes() for path in sys.argv[1:3])
for number in itertools.count():
    write_atomic(sys.argv[3], (one, other)[number % 2], overwrite=True)
    if not number:
        print("writing", flush=True)
"""

FIFTY = """
import os, sys
from cerwu_onnx.cli.app import run
words = ["verify", "-q", sys.argv[1]]
assert run(words) == 0
gate, open_gate = os.pipe()
children = []
for _ in range(50):
    child = os.fork()
    if not child:
        os.close(open_gate)
        os.read(gate, 1)
        os._exit(run(words))
    children.append(child)
os.close(open_gate)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_fifty_at_once(cwb: Path) -> None:
    alone = dict(cerwu_onnx.open(cwb))

    def check(_: int) -> bool:
        found = cerwu_onnx.open(cwb)
        found.verify()
        return all(found[name].tobytes() == values.tobytes() for name, values in alone.items())

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(check, range(50))) == [True] * 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fifty_processes_at_once(cwb: Path) -> None:
    """Forks of one that has imported everything, which wait until all are there: else they would hardly meet."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIFTY, cwb], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["0"] * 50


def test_a_file_that_another_process_replaces(cwb: Path, model: Path, tmp_path: Path) -> None:
    cerwu_onnx.compress(model, tmp_path / "other.cwb", settings=cerwu_onnx.Settings(method="rtn", levels=4))
    target = tmp_path / "target.cwb"
    words = [sys.executable, "-c", REPLACER, cwb, tmp_path / "other.cwb", target]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        seen = set()
        for _ in range(2000):
            container = reader.read(target)
            cerwu_onnx.open(target).verify()
            seen.add(len(container.data))
            if len(seen) == 2:
                break
    finally:
        process.kill()
        process.communicate()
    assert seen == {cwb.stat().st_size, (tmp_path / "other.cwb").stat().st_size}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept to a core")
def test_one_thread_gives_the_same_bytes_on_any_number_of_cores(model: Path, calib: Path, tmp_path: Path) -> None:
    """OMP_NUM_THREADS decides for BLAS and onnxruntime; without it they ask for the number of cores."""
    core = min(os.sched_getaffinity(0))
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    written = []
    for number, cores in enumerate((os.sched_getaffinity(0), {core})):
        out = tmp_path / f"{number}.cwb"
        subprocess.run(
            command("compress", "-q", model, out, "--calib", calib),
            env=environment | {"OMP_NUM_THREADS": "1"},
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
            check=True,
        )
        written.append(out.read_bytes())
    assert written[0] == written[1]
