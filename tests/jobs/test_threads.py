"""Work shared among the threads of this process: the same results on any number of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from threadpoolctl import threadpool_info

import cerwu_onnx
from cerwu_onnx.calibration import sequential
from cerwu_onnx.calibration.shares import by_batch
from cerwu_onnx.calibration.source import OneReader, open_source
from cerwu_onnx.calibration.spill import Spill
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.jobs import threads
from cerwu_onnx.model.graph import analyse, load_model
from cerwu_onnx.model.tensors import model_inputs
from cerwu_onnx.quantize import crossval

from ..cli.conftest import _calib, calib, model

__all__ = ["_calib", "calib", "model"]


def blas() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS takes four threads unless it is told otherwise."""
    monkeypatch.setattr(threads, "_own_threads", lambda: 4)


@pytest.mark.usefixtures("four")
def test_only_large_products_take_more_threads_than_one() -> None:
    with threads.few_threads():
        assert blas() == {1}
        with threads.blas_threads(threads.LARGE - 1):
            assert blas() == {1}
        with threads.blas_threads(threads.LARGE):
            assert blas() == {4}
        assert threads.session_threads() == threads.asked_threads()
        with threads.one_thread(), threads.blas_threads(threads.LARGE):
            assert blas() == {1}
        assert blas() == {1}


def test_a_compression_keeps_blas_to_one_thread(model: Path, calib: Path, tmp_path: Path) -> None:
    """Its threads would wait at full speed between small products."""
    seen: list[set[int]] = []
    before = blas()

    def progress(stage: str, done: int, total: int | None, item: str) -> None:
        seen.append(blas())

    cerwu_onnx.compress(model, tmp_path / "a.cwb", calib=calib, settings=Settings(effort="fast"), progress=progress)
    assert seen
    assert set().union(*seen) == {1}
    assert blas() == before


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_results_are_in_order_and_workers_are_shared(count: int) -> None:
    def job(number: int) -> tuple[int, int]:
        return number, threads._workers.get()

    with threads.workers(count):
        assert threads.side_by_side(job, [5, 3, 4]) == [(number, max(count // 3, 1)) for number in (5, 3, 4)]
        assert threads.side_by_side(job, [5, 3], most=1) == [(5, count), (3, count)]
    assert threads.side_by_side(job, []) == []


def test_jobs_really_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=60)
    with threads.workers(2):
        threads.side_by_side(lambda _: together.wait(), [0, 1])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_batches_keep_their_order_within_a_share(count: int, shares: int) -> None:
    seen: dict[int, list[int]] = {share: [] for share in range(shares)}

    def function(batch: int) -> int:
        seen[batch % shares].append(batch)
        return batch**2

    with threads.workers(count):
        assert by_batch(function, 7, shares) == [batch**2 for batch in range(7)]
    assert all(batches == list(range(share, 7, shares)) for share, batches in seen.items())
    assert by_batch(function, 0, shares) == []


@pytest.mark.parametrize("count", [1, 2])
def test_the_error_is_that_of_the_first_batch_which_fails(count: int) -> None:
    def function(batch: int) -> None:
        if batch in (3, 4):
            raise ValueError(f"batch {batch}")

    with threads.workers(count), pytest.raises(ValueError, match="batch 3"):
        by_batch(function, 6, 2)


def test_an_interrupt_ends_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the main thread only; the others end with their batch."""
    begun = threading.Event()
    done: list[int] = []

    def interrupted(_: Any) -> None:
        begun.wait()
        raise KeyboardInterrupt

    def function(batch: int) -> None:
        done.append(batch)
        begun.set()
        time.sleep(0.05)

    monkeypatch.setattr(threads, "wait", interrupted)
    with threads.workers(2), pytest.raises(KeyboardInterrupt):
        by_batch(function, 1000, 2)
    assert len(done) < 1000


def test_one_thread_at_a_time_reads(model: Path) -> None:
    inside = [0]

    def feeds() -> Iterator[dict[str, Any]]:
        inside[0] += 1
        for _ in range(3):
            assert inside == [1]
            time.sleep(0.01)
            yield {"x": np.ones((4, 2, 8, 8), np.float32)}
        inside[0] -= 1

    source = OneReader(open_source(feeds, model_inputs(load_model(model))))
    with threads.workers(3):
        counts = threads.side_by_side(lambda _: [source.count(feed) for feed in source.batches(4)], [0, 1, 2])
    assert counts == [[4, 4, 4]] * 3
    assert source.samples is None
    assert source.first()["x"].shape == (4, 2, 8, 8)


def test_values_are_kept_and_dropped_by_any_thread() -> None:
    value = np.ones(1000)
    with Spill(10 * value.nbytes) as spill, threads.workers(4):
        for _ in range(20):
            held = threads.side_by_side(lambda _: spill.put(value), range(10))
            assert all(one is value for one in held)
            threads.side_by_side(spill.drop, held)
        assert spill._left == 10 * value.nbytes


@pytest.fixture
def labelled(model: Path, tmp_path: Path) -> Path:
    """Inputs, and the classes that the float model sees in them."""
    x = np.random.default_rng(8).normal(size=(400, 2, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    path = tmp_path / "labelled.npz"
    np.savez(path, x=x, labels=session.run(None, {"x": x})[0].argmax(axis=1))
    return path


@pytest.mark.parametrize("search", ["fidelity", "size", "bits", "drop", "lambda", "max"])
def test_the_same_bytes_for_any_number_of_jobs(
    search: str, model: Path, calib: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossval, "SMALL", 1)
    targets = {
        "size": Target(size=2000),
        "bits": Target(bits_per_weight=2.5),
        "drop": Target(max_drop=0.1, metric="top1", metric_data=labelled),
        "max": Target(max_drop=0.1, metric="top1", metric_data=labelled),
    }
    settings = Settings(effort="max" if search == "max" else "default", lambda_=0.1 if search == "lambda" else None)
    pools: list[int] = []
    pool = threads.ThreadPoolExecutor
    monkeypatch.setattr(threads, "ThreadPoolExecutor", lambda count: (pools.append(count), pool(count))[1])
    written = []
    for jobs in (1, 2, 3):
        path = tmp_path / f"{jobs}.cwb"
        report = cerwu_onnx.compress(model, path, calib=calib, settings=settings, target=targets.get(search), jobs=jobs)
        written.append((path.read_bytes(), report.search, report.fidelity, report.output_loss))
        assert (not pools) == (jobs == 1)
    assert written[0] == written[1] == written[2]


def test_a_surprise_is_the_same_on_any_number_of_threads(model: Path, calib: Path, tmp_path: Path) -> None:
    """What one file of a pair learns of sensitivities is for later files, not for its neighbour."""
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cerwu_onnx.compression.walk_quantizer.SURPRISE", 1e-3)
        for jobs in (1, 2):
            target = Target(max_drop=0.2, metric="agreement", metric_data=str(calib))
            path = tmp_path / f"{jobs}.cwb"
            report = cerwu_onnx.compress(model, path, calib=calib, target=target, jobs=jobs)
            written.append((path.read_bytes(), report.search))
    assert written[0] == written[1]


def test_large_products_do_not_run_side_by_side(model: Path, calib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take all of BLAS's threads, one after the other."""
    shares: list[int] = []

    def counted(function: Any, batches: int, count: int) -> Any:
        shares.append(count)
        return by_batch(function, batches, count)

    monkeypatch.setattr(sequential, "by_batch", counted)
    loaded = load_model(model)
    graph, data = analyse(loaded), open_source(str(calib), model_inputs(loaded))
    monkeypatch.setattr(threads, "_own_threads", lambda: 4)
    for large, expected in ((threads.LARGE, 2), (1, 1)):
        monkeypatch.setattr(threads, "LARGE", large)
        shares.clear()
        for _ in sequential.walk(graph, data, batch_size=8, folds=2):
            pass
        assert expected in shares
        assert (1 in shares) == (expected == 1)


def test_as_many_walks_as_memory_holds(model: Path) -> None:
    graph = analyse(load_model(model))
    needed = max(memory_budget._needed(layer) for layer in graph.layers)
    assert memory_budget.walks(graph, 2 * needed - 1) == 1
    assert memory_budget.walks(graph, 4 * needed) == 2
    assert memory_budget.walks(graph, 6 * needed) == 3
