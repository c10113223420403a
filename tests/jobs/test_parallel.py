"""Jobs on threads, processes and clusters: the same bytes on all of them, whatever is lost on the way."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_info

import cerwu_onnx
from cerwu_onnx.cli.batch import ONE_THREAD
from cerwu_onnx.compression import layer_walk, model_quantizer, walk_quantizer
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.errors import CalibrationError, ModelError, UsageError, WorkerError
from cerwu_onnx.jobs import parallel, threads
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import logged_warnings

from ..cli.conftest import Run, _calib, calib, command, model, run, run_process
from ..models import normal

__all__ = ["_calib", "calib", "model", "run"]

log = logging.getLogger("cerwu_onnx.tests")


@dataclass(frozen=True)
class Cluster:
    """A dask cluster on this machine, each of its two workers a process."""

    url: str
    client: Any

    def workers(self) -> list[int]:
        """Their process numbers."""
        return list(self.client.run(os.getpid).values())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    distributed = pytest.importorskip("distributed", reason="dask is not here: pip install 'cerwu-onnx[dask]'")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, silence_logs=logging.CRITICAL) as here,
        distributed.Client(here.scheduler_address, set_as_default=False) as client,
    ):
        yield Cluster(here.scheduler_address.replace("tcp://", "dask://"), client)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Eight matrix products in a row, of different widths."""
    random = np.random.default_rng(3)
    widths = (24, 40, 32, 48, 16, 64, 24, 32, 10)
    shapes = list(pairwise(widths))
    nodes = [helper.make_node("MatMul", [f"h{k}", f"w{k}"], [f"h{k + 1}"], name=f"m{k}") for k in range(len(shapes))]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["N", widths[0]])],
        [helper.make_tensor_value_info(f"h{len(shapes)}", TensorProto.FLOAT, ["N", widths[-1]])],
        [
            numpy_helper.from_array((random.normal(size=shape) / shape[0] ** 0.5).astype(np.float32), f"w{k}")
            for k, shape in enumerate(shapes)
        ],
    )
    path = tmp_path / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    np.savez(tmp_path / "chain.npz", h0=random.normal(size=(64, widths[0])).astype(np.float32))
    return path


def double(job: float) -> float:
    """A job; some warn, some fail."""
    if job == 3:
        log.warning("three is a crowd")
    if job == 13:
        raise ModelError("thirteen")
    if job == 14:
        raise Unpicklable(lambda: None)
    return 2 * job


class Unpicklable(Exception):
    """An exception that does not travel."""


def fatal(marker: str) -> int:
    """Kills its process, the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return len(marker)


def always_fatal(_: str) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def all_of(pool: Pool, jobs: list[Any], function: Any = double, **options: Any) -> list[tuple[int, Any]]:
    with pool:
        return list(
            pool.results(function, lambda index: jobs[index], [float(len(str(job))) for job in jobs], **options)
        )


def test_one_after_the_other_the_largest_comes_first_and_equal_ones_in_order() -> None:
    assert all_of(Pool(1), [1, 100, 20, 30, 2]) == [(1, 200), (2, 40), (3, 60), (0, 2), (4, 4)]
    assert all_of(Pool(1), []) == []


@pytest.mark.parametrize("where", ["threads", "processes", "dask"])
def test_results_errors_and_warnings_are_those_of_this_process(
    where: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    url = request.getfixturevalue("cluster").url if where == "dask" else None

    def pool() -> Pool:
        return Pool(None if url else 2, url)

    options = {"apart": where == "processes"}
    with logged_warnings() as messages:
        assert sorted(all_of(pool(), [1, 2, 3, 4, 50], **options)) == [(0, 2), (1, 4), (2, 6), (3, 8), (4, 100)]
    assert messages == ["three is a crowd"]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("cerwu")] == messages
    with pytest.raises(ModelError, match="thirteen"):
        all_of(pool(), [1, 2, 13, 4, 5], **options)
    with pytest.raises(Unpicklable if where == "threads" else RuntimeError, match="function"):
        all_of(pool(), [14, 1], **options)
    with pool() as opened, pytest.raises(KeyError):  # a job that cannot even be loaded
        list(opened.results(double, {}.__getitem__, [1.0, 1.0], **options))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_jobs_of_a_lost_worker_run_again(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, pool in enumerate((Pool(2), Pool(None, cluster.url))):
        markers = [str(tmp_path / f"{number}{index}") for index in range(3)]
        Path(markers[0]).touch()
        Path(markers[2]).touch()
        found = all_of(pool, markers, fatal, apart=True)
        assert sorted(found) == [(index, len(marker)) for index, marker in enumerate(markers)]
    monkeypatch.setattr(parallel, "RETRIES", 1)
    with pytest.raises(WorkerError, match="this machine: workers were lost 2 times without a result"):
        all_of(Pool(2), ["a", "b"], always_fatal, apart=True)


def damaged_once(marker: str) -> int:
    """What this process sends next arrives with a byte changed, or cut short; the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        seal = parallel._sealed

        def damage(content: Any) -> Any:
            parallel._sealed = seal
            sent = seal(content)
            return {"a": sent[:-1] + bytes([sent[-1] ^ 1]), "b": sent[:40], "c": None}[marker[-1]]

        parallel._sealed = damage
    return len(marker)


def always_damaged(_: str) -> int:
    parallel._sealed = lambda _: b"damaged"
    return 0


@pytest.mark.parametrize("where", ["processes", "dask"])
def test_results_that_arrive_damaged_are_computed_again(
    where: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("cluster").url if where == "dask" else None
    markers = [str(tmp_path / name) for name in "abc"]
    found = all_of(Pool(None if url else 2, url), markers, damaged_once, apart=True)
    assert sorted(found) == [(index, len(marker)) for index, marker in enumerate(markers)]
    assert all(Path(marker).exists() for marker in markers)
    if where == "processes":
        monkeypatch.setattr(parallel, "RETRIES", 1)
        with pytest.raises(WorkerError, match="workers were lost 2 times without a result: what it sent or was sent"):
            all_of(Pool(2), ["a", "b"], always_damaged, apart=True)


def test_jobs_of_other_versions_are_not_done() -> None:
    sealed = parallel._sealed((("0.0.1", *parallel._versions()[1:]), double, 2.0))
    _, (result, error, _) = parallel._unsealed(parallel._away(7, sealed))
    assert result is None
    assert isinstance(error, UsageError)
    assert "a worker has other versions than this machine" in str(error)


def test_jobs_that_arrive_damaged_are_not_done() -> None:
    sealed = parallel._sealed((parallel._versions(), double, 2.0))
    index, (result, error, _) = parallel._unsealed(parallel._away(7, sealed))
    assert (index, result, error) == (7, 4.0, None)
    for wrong in (sealed[:-1], sealed[:-1] + b"?", b"", sealed[32:]):
        with pytest.raises(parallel._Lost, match="arrived damaged"):
            parallel._away(7, wrong)


@pytest.mark.parametrize(
    "settings",
    [Settings(method="cerwu"), Settings(method="trellis"), Settings(method="rd-rtn", memory=1 << 20)],
    ids=["cerwu", "blind", "rd-rtn"],
)
def test_layers_are_the_same_bytes_everywhere(
    settings: Settings, chain: Path, cluster: Cluster, tmp_path: Path
) -> None:
    calib = None if settings.method == "trellis" else chain.with_suffix(".npz")
    written = []
    for number, where in enumerate(({"jobs": 1}, {"jobs": 3}, {"cluster": cluster.url})):
        path = tmp_path / f"{number}.cwb"
        report = cerwu_onnx.compress(chain, path, calib=calib, settings=settings, **where)  # type: ignore[arg-type]
        written.append((path.read_bytes(), report.layers, report.warnings))
    assert written[0] == written[1] == written[2]
    assert len(written[0][1]) == 8


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_survives_a_worker_that_is_killed(chain: Path, cluster: Cluster, tmp_path: Path) -> None:
    workers = cluster.workers()
    killed: list[int] = []

    def progress(stage: str, done: int, total: int | None, item: str) -> None:
        if stage == "quantize" and done == 1 and not killed:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    settings = {"calib": chain.with_suffix(".npz"), "settings": Settings(method="cerwu")}
    cerwu_onnx.compress(chain, tmp_path / "a.cwb", jobs=1, **settings)  # type: ignore[arg-type]
    cerwu_onnx.compress(chain, tmp_path / "b.cwb", cluster=cluster.url, progress=progress, **settings)  # type: ignore[arg-type]
    assert killed
    assert (tmp_path / "a.cwb").read_bytes() == (tmp_path / "b.cwb").read_bytes()


def test_a_sweep_writes_what_compress_writes_with_one_thread(
    chain: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(effort="max")
    options: dict[str, Any] = {"calib": "chain.npz", "settings": settings}
    target = Target(metric="error", metric_data="chain.npz")
    prices = (0.3, 0.1)
    found = {}
    for name, where in (("here", {"jobs": 1}), ("apart", {"jobs": 2}), ("dask", {"cluster": cluster.url})):
        swept = cerwu_onnx.sweep("chain.onnx", tmp_path / name, prices, target=target, **options, **where)  # type: ignore[arg-type]
        assert [file.path.name for file in swept] == ["chain-0.3.cwb", "chain-0.1.cwb"]
        found[name] = [(file.path.read_bytes(), file.report.scores, file.report.layers) for file in swept]
    assert found["here"] == found["apart"] == found["dask"]
    first, second = (scores for _, scores, _ in found["here"])
    assert first is not None
    assert second is not None
    assert first.score < second.score
    words = (
        "compress",
        "-q",
        chain,
        tmp_path / "alone.cwb",
        "--calib",
        "chain.npz",
        "--effort",
        "max",
        "--lambda",
        0.1,
    )
    assert run_process(*words, **ONE_THREAD).code == 0
    assert (tmp_path / "alone.cwb").read_bytes() == found["here"][1][0]


def test_a_sweep_measures_once_and_repeats_warnings(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    measured = []

    def broken(*_: object) -> None:
        measured.append(1)
        raise CalibrationError("no gradients today")

    monkeypatch.setattr(walk_quantizer, "row_fishers", broken)
    swept = cerwu_onnx.sweep(chain, tmp_path / "a", (0.1, 0.2), calib=iter([normal(32, 24)]), jobs=1)
    assert len(measured) == 1
    for file in swept:
        assert any("no gradients today" in warning for warning in file.report.warnings)


def test_a_sweep_with_a_cache_finds_what_it_did(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    options: dict[str, Any] = {"calib": chain.with_suffix(".npz"), "jobs": 1, "cache": tmp_path / "cache"}
    first = cerwu_onnx.sweep(chain, tmp_path / "a", (0.1, 0.2), **options)
    monkeypatch.setattr(layer_walk, "walk", None)  # nothing is computed again
    again = cerwu_onnx.sweep(chain, tmp_path / "b", (0.2, 0.1), **options)
    assert [file.path.read_bytes() for file in first] == [file.path.read_bytes() for file in reversed(again)]


def test_the_command_sweep(run: Run, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cerwu.toml").write_text('lambda = 0.7\ntarget-size = "1MiB"\neffort = "fast"\ncalib = "{stem}.npz"\n')
    words = ("sweep", chain, "--out-dir", "d", "--lambda", "0.4", "--lambda", "0.1", "-j", "1")
    result = run(*words)
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[:2] for row in rows if row and row[0].endswith(".cwb")] == [
        ["chain-0.4.cwb", "0.4"],
        ["chain-0.1.cwb", "0.1"],
    ]
    refused = run(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "chain-0.4.cwb exists" in refused.err
    body = json.loads(run(*words, "-f", "--json").out)
    assert [Path(file["output"]).stat().st_size for file in body["files"]] == [f["file_bytes"] for f in body["files"]]
    assert run(*words, "-f", "-q").out == ""
    for arguments, message in (
        (("sweep", chain, "--out-dir", "d"), "Missing option '--lambda'"),
        (("sweep", chain, "--out-dir", "e", "--lambda", "1", "--lambda", "1.0000001"), "would both give"),
        (("sweep", chain, "--out-dir", "cerwu.toml", "--lambda", "1"), "folder cerwu.toml"),
        (("sweep", chain, "--out-dir", "e", "--lambda", "1", "--method", "rtn"), "no lambda to sweep"),
        (("sweep", chain, "--out-dir", "e", "--lambda", "-1"), "lambda -1.0 is out of range"),
        (("sweep", "none.onnx", "--out-dir", "e", "--lambda", "1"), "none.onnx"),
    ):
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.count("\n") == 1


def test_limits_are_not_for_a_sweep(chain: Path, tmp_path: Path) -> None:
    for target in (Target(size=1000), Target(fail_above=1000)):
        with pytest.raises(UsageError, match="no target and no limit"):
            cerwu_onnx.sweep(chain, tmp_path / "d", [1.0], target=target)
    with pytest.raises(UsageError, match="at least one"):
        cerwu_onnx.sweep(chain, tmp_path / "d", [])
    with pytest.raises(UsageError, match=r"two lambdas would both give .*-0\.1\.cwb"):
        cerwu_onnx.sweep(chain, tmp_path / "d", [0.1, 0.2, 0.1000000001])


def test_many_models_on_a_cluster(run: Run, model: Path, calib: Path, cluster: Cluster, tmp_path: Path) -> None:
    other, broken = tmp_path / "other.onnx", tmp_path / "broken.onnx"
    shutil.copy(model, other)
    broken.write_bytes(b"no model")
    words = ("compress", model, other, broken, "--calib", calib, "--effort", "fast", "--lambda", "0.1", "--json")
    here = run(*words, "--out-dir", tmp_path / "a", "-j", "2")
    there = run(*words, "--out-dir", tmp_path / "b", "--cluster", cluster.url)
    assert (here.code, there.code) == (3, 3)
    assert here.err == there.err
    assert [entry["exit_code"] for entry in json.loads(there.out)["models"]] == [0, 0, 3]
    for name in ("model.cwb", "other.cwb"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (tmp_path / "b" / "model.cwb").write_bytes(b"old")
    again = run(*words, "--out-dir", tmp_path / "b", "--cluster", cluster.url)
    assert (tmp_path / "b" / "model.cwb").read_bytes() == b"old"
    assert "model.cwb exists" in again.err
    assert [entry["exit_code"] for entry in json.loads(again.out)["models"]] == [2, 2, 3]


def test_many_models_can_be_resumed(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    words = ("compress", model, "--calib", calib, "--effort", "fast", "--out-dir", tmp_path / "d", "-q", "-j", "1")
    kept = tmp_path / "d" / "model.cwb.resume"
    assert run(*words, "--resume", "--strict", "--max-drop", "0%", "--metric", "none.py:f").code == 2
    assert run(*words, "--resume", "--fail-above", "1").code == 1
    assert list(kept.glob("*.entry"))
    assert run(*words, "--resume").code == 0
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["model.cwb"]


def test_clusters_that_are_not_there(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ANSWER", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    cases = [
        ("ray://127.0.0.1:1", 2, "pip install 'cerwu-onnx[ray]'"),
        ("tcp://127.0.0.1:1", 2, "give dask://HOST:PORT or ray://HOST:PORT"),
        ("dask://127.0.0.1", 2, "give dask://HOST:PORT"),
        ("dask://127.0.0.1:x", 2, "give dask://HOST:PORT"),
    ]
    for url, code, message in cases:
        result = run("compress", model, tmp_path / "o.cwb", "--method", "rtn", "--cluster", url)
        assert (result.code, result.out) == (code, "")
        assert message in result.err
        assert result.err.count("\n") == 1
    result = run("compress", model, tmp_path / "o.cwb", "--cluster", "dask://127.0.0.1:1", "-j", "2")
    assert result.err == "error: jobs and a cluster exclude each other: a cluster has as many workers as it has\n"
    pytest.importorskip("distributed", reason="dask is not here: pip install 'cerwu-onnx[dask]'")
    result = run("compress", model, tmp_path / "o.cwb", "--method", "rtn", "--cluster", "dask://127.0.0.1:1")
    assert result.code == 5
    assert result.err.startswith("error: dask://127.0.0.1:1 does not answer (")
    assert result.err.endswith("): is `dask scheduler` running there?\n")
    assert result.err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "dask", None)
    result = run("compress", model, tmp_path / "o.cwb", "--method", "rtn", "--cluster", "dask://127.0.0.1:1")
    assert result.code == 2
    assert result.err == "error: dask:// needs packages that are not here: pip install 'cerwu-onnx[dask]'\n"
    assert not (tmp_path / "o.cwb").exists()


def test_a_walk_over_layers_has_no_use_for_a_cluster(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    result = run("compress", model, tmp_path / "o.cwb", "--calib", calib, "--cluster", "dask://127.0.0.1:1")
    assert result.code == 2
    assert "a cluster can share many models (--out-dir) or many lambdas (sweep)" in result.err


def test_workers_with_other_versions_are_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    here, versions = os.getpid(), parallel._versions  # a worker that forks now takes the patch with it
    monkeypatch.setattr(parallel, "_versions", lambda: ("0.0.1", "2", "1", "1") if os.getpid() == here else versions())
    with pytest.raises(UsageError, match="a worker has other versions than this machine"):
        all_of(Pool(None, cluster.url), [1])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to see how far a process is")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("what", ["sweep", "batch"])
def test_ended_from_outside(what: str, number: int, code: int, chain: Path, tmp_path: Path) -> None:
    """The whole group gets the signal, as by Ctrl-C in a terminal, while workers work."""
    out, spool = tmp_path / "out", tmp_path / "spool"
    out.mkdir()
    spool.mkdir()
    others = [Path(shutil.copy(chain, tmp_path / f"{name}.onnx")) for name in "abcd"]
    words = ["--out-dir", out, "-q", "-j", "2", "--calib", chain.with_suffix(".npz"), "--effort", "max"]
    if what == "sweep":
        prices = [word for k in range(1, 200) for word in ("--lambda", k / 1000)]
        words = command("sweep", chain, *prices, *words)
    else:
        words = command("compress", *others, *words)
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(spool)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not any(spool.glob("cerwu-*/*")):  # a worker has begun
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, err = process.communicate()
    assert (process.returncode, err) == (code, "interrupted\n" if code == 130 else "terminated\n")
    assert all(path.suffix == ".cwb" for path in out.iterdir())
    for path in out.iterdir():
        cerwu_onnx.open(path).verify()
    assert not list(spool.glob("cerwu-*"))


def test_layers_at_once_are_those_that_fit_into_memory() -> None:
    assert model_quantizer._at_once([10, 1, 5], 60 * 15) == 2
    assert model_quantizer._at_once([10, 1, 5], 60 * 16) == 3
    assert model_quantizer._at_once([10, 1, 5], 1) == 1


def test_as_many_jobs_as_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert parallel._cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert parallel._cores() >= 1


def test_one_thread_holds_until_the_last_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def blas() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, together = blas(), Barrier(2)
    for _ in range(2):
        with threads.one_thread():
            assert set(blas()) == {1}
        assert blas() == before

    def first() -> None:
        with threads.one_thread():
            together.wait()
            together.wait()  # both are inside
        together.wait()

    other = Thread(target=first)
    other.start()
    together.wait()
    with threads.one_thread():
        together.wait()
        together.wait()  # the other has left
        assert set(blas()) == {1}
        assert threads.session_threads() == 1
    other.join()
    assert threads.session_threads() is None


def test_warnings_of_other_threads_are_not_collected() -> None:
    with ThreadPoolExecutor(1) as pool, logged_warnings() as messages:
        pool.submit(log.warning, "elsewhere").result()
        log.warning("here")
    assert messages == ["here"]


@pytest.mark.skipif(os.name == "nt", reason="ray's command line is another there")
def test_ray(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers and lambdas on a cluster of this machine, with a worker that is killed."""
    pytest.importorskip("ray", reason="ray is not here: pip install 'cerwu-onnx[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    command_line = [sys.executable, "-m", "ray.scripts.scripts"]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # short: sockets are in there
        ports = ["--port", "26380", "--ray-client-server-port", "26381", "--temp-dir", folder]
        start = [*command_line, "start", "--head", "--num-cpus", "2", "--include-dashboard", "false", *ports, "--block"]
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            url = _answering("ray://127.0.0.1:26381")
            settings: dict[str, Any] = {"calib": chain.with_suffix(".npz"), "settings": Settings(method="cerwu")}
            cerwu_onnx.compress(chain, tmp_path / "a.cwb", jobs=1, **settings)
            cerwu_onnx.compress(chain, tmp_path / "b.cwb", cluster=url, **settings)
            assert (tmp_path / "a.cwb").read_bytes() == (tmp_path / "b.cwb").read_bytes()
            here = cerwu_onnx.sweep(chain, tmp_path / "a", (0.1, 0.2), jobs=1, **settings)
            there = cerwu_onnx.sweep(chain, tmp_path / "b", (0.1, 0.2), cluster=url, **settings)
            assert [file.path.read_bytes() for file in here] == [file.path.read_bytes() for file in there]
            markers = [str(tmp_path / f"marker{index}") for index in range(3)]
            found = all_of(Pool(None, url), markers, fatal)
            assert sorted(found) == [(index, len(marker)) for index, marker in enumerate(markers)]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _answering(url: str) -> str:
    """The address, once somebody answers there: its server takes a while to start, and may fail at first."""
    for _ in range(20):
        try:
            with Pool(None, url):
                return url
        except WorkerError:
            time.sleep(1)
    raise AssertionError(f"{url} does not answer")
