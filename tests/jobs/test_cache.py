"""The cache: a second run computes nothing and writes the same file; whatever counts makes another entry."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import LayerRule, Report, Settings, Target
from cerwu_onnx.compression import layer_walk, model_quantizer, walk_quantizer
from cerwu_onnx.jobs import cache
from cerwu_onnx.jobs.cache import Cache, digest, open_cache

from ..models import build, normal, value

DATA = {"x": normal(40, 6, seed=6)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    tensors = {"a": normal(6, 40, seed=1), "b": normal(40, seed=2), "c": normal(40, 5, seed=3)}
    onnx.save(build(nodes, [value("x", ["N", 6])], [value("y", ["N", 5])], tensors), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def compress(model: Path, name: str = "a.cwb", calib: object = DATA, **options: object) -> tuple[Report, bytes]:
    output, cache = model.parent / name, model.parent / "cache"
    found = cerwu_onnx.compress(model, output, calib=calib, cache=cache, force=True, **options)  # type: ignore[arg-type]
    return found, output.read_bytes()


def entries(model: Path) -> set[Path]:
    return set((model.parent / "cache").iterdir())


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing that takes long may be computed."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("was computed again")

    for name in ("noise_sensitivity", "row_fishers", "walk", "OutputLoss"):
        monkeypatch.setattr(walk_quantizer, name, fail)
    monkeypatch.setattr(layer_walk, "walk", fail)
    monkeypatch.setattr(model_quantizer, "collect", fail)


@pytest.mark.parametrize(
    "options",
    [
        {"settings": Settings(effort="max")},
        {"settings": Settings(method="cerwu")},
        {"target": Target(size=400)},
        {"settings": Settings(float_params="exact", rules=(LayerRule("c", price=0.5),))},
    ],
)
def test_a_second_run_computes_nothing_and_writes_the_same(
    model: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    first, content = compress(model, **options)
    cerwu_onnx.compress(model, model.parent / "plain.cwb", calib=DATA, **options)  # type: ignore[arg-type]
    assert (model.parent / "plain.cwb").read_bytes() == content
    forbid(monkeypatch)
    again, same = compress(model, "b.cwb", **options)
    assert same == content
    assert again.layers == first.layers
    assert (again.output_loss, again.calibration_samples) == (first.output_loss, first.calibration_samples)
    assert all(path.suffix == ".entry" for path in entries(model))


def test_another_lambda_needs_the_first_measurements_no_more(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Settings(effort="fast")
    compress(model, settings=fast)
    for name in ("noise_sensitivity", "row_fishers", "OutputLoss"):
        monkeypatch.delattr(walk_quantizer, name)
    report, _ = compress(model, settings=Settings(effort="fast", lambda_=0.2))
    assert report.lambda_ == 0.2


def test_whatever_counts_makes_another_entry(model: Path) -> None:
    fast = Settings(effort="fast", lambda_=0.05)
    compress(model, settings=fast)
    seen = entries(model)
    for options in (
        {"calib": {"x": DATA["x"][::-1].copy()}, "settings": fast},
        {"settings": replace(fast, damping=0.02)},
        {"settings": replace(fast, rules=(LayerRule("a", price=2),))},
        {"settings": replace(fast, rules=(LayerRule("b", skip=True),))},
    ):
        compress(model, **options)  # type: ignore[arg-type]
        assert entries(model) > seen
        seen = entries(model)
    changed = onnx.load(model)
    changed.graph.initializer[0].raw_data = normal(6, 40, seed=9).tobytes()
    onnx.save(changed, model)
    compress(model, settings=fast)
    assert len(entries(model)) == len(seen) + 4  # sensitivities, two layers, and that they are all


def test_damaged_entries_are_computed_again(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    fast = Settings(effort="fast", lambda_=0.05)
    _, content = compress(model, settings=fast)
    for path in entries(model):
        path.write_bytes(path.read_bytes()[:-40])
    report, same = compress(model, settings=fast)
    assert same == content
    assert "is damaged: it is computed again" in caplog.text
    assert any("is damaged" in warning for warning in report.warnings)
    assert not compress(model, settings=fast)[0].warnings


def test_what_came_with_a_warning_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    def compute() -> tuple[object, list[np.ndarray]]:
        logging.getLogger("cerwu_onnx.somewhere").warning("hm")
        return 1, []

    cache = open_cache(tmp_path)
    assert [cache.get("x", None, compute) for _ in range(2)] == [(1, []), (1, [])]
    assert not list(tmp_path.iterdir())
    assert caplog.text.count("hm") == 2


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, "model")
    entry = ({"a": [1, -np.inf, 0.1]}, [np.arange(3, dtype=np.int8), np.zeros((0, 2))])
    cache.get("x", {"price": 0.1}, lambda: entry)
    text, arrays = cache.get("x", {"price": 0.1}, lambda: pytest.fail("not found"))
    assert text == entry[0]
    assert [(a.dtype, a.shape, a.tolist()) for a in arrays] == [(a.dtype, a.shape, a.tolist()) for a in entry[1]]
    assert open_cache(tmp_path, "other").get("x", {"price": 0.1}, lambda: (2, [])) == (2, [])
    assert Cache().get("x", None, lambda: (3, [])) == (3, [])


def test_texts_are_told_apart_by_where_they_end() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(b"ab") == digest("ab")


def test_a_change_in_any_room_makes_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code() -> str:
        cache._code.cache_clear()
        return cache._code()

    for room in ("quantize", "model"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "module.py").write_text("ONE = 1\n")
    assert {path.parent.name for path in cache._PACKAGE.rglob("*.py")} > {"quantize", "model", "calibration"}
    monkeypatch.setattr(cache, "_PACKAGE", tmp_path)
    try:
        seen = {code()}
        for room in ("quantize", "model"):
            (tmp_path / room / "module.py").write_text("ONE = 2\n")
            seen.add(code())
        assert len(seen) == 3
    finally:
        monkeypatch.undo()
        cache._code.cache_clear()


def test_an_entry_is_written_without_copies(tmp_path: Path) -> None:
    """Measurements of a large model take half a gigabyte."""
    cache, arrays = open_cache(tmp_path), [np.full(1 << 20, index, np.uint8) for index in range(32)]
    tracemalloc.start()
    try:
        cache.keep("x", {}, (1, arrays))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * sum(array.nbytes for array in arrays)
    found = cache.find("x", {})
    assert found is not None
    np.testing.assert_array_equal(found[1], arrays)
