"""The arithmetic behind the benchmark's figures, on points whose answers are known."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cerwu_onnx import Settings
from cerwu_onnx.report import LayerReport, Report
from cerwu_onnx.types import Kept

from . import curves, rate, rate_tables
from .fronts import Cost, Point, cost_at, geometric_mean, least, pareto, ratio
from .models import ABSENT, BenchModel, sample_models, shared_models
from .rows import Results, Row
from .sweeps import FULL, VARIANTS, Variant

points = st.lists(st.builds(Point, st.floats(0, 10), st.floats(0, 1)), max_size=12)


@given(points)
def test_the_front_is_what_no_point_beats(cloud: list[Point]) -> None:
    front = pareto(cloud)
    kept = {p for p in cloud if not any(o != p and o.cost <= p.cost and o.score >= p.score for o in cloud)}
    assert set(front) == kept
    assert front == sorted(front)
    assert len(front) == len(kept)


def test_interpolation() -> None:
    cloud = [Point(3.0, 0.9), Point(1.0, 0.5), Point(2.0, 0.8), Point(2.5, 0.7), Point(4.0, 0.9)]
    assert cost_at(cloud, 0.65) == Cost(pytest.approx(1.5))
    assert cost_at(cloud, 0.8) == Cost(2.0)
    assert cost_at(cloud, 0.85) == Cost(pytest.approx(2.5))
    assert cost_at(cloud, 0.9) == Cost(3.0)
    assert cost_at(cloud, 0.91) is None
    assert cost_at(cloud, 0.5) == Cost(1.0)
    assert cost_at(cloud, 0.4) == Cost(1.0, bracketed=False)
    assert cost_at([], 0.4) is None


@given(points, st.floats(0, 1), st.floats(0, 1))
def test_more_score_never_costs_less(cloud: list[Point], one: float, other: float) -> None:
    less, more = cost_at(cloud, min(one, other)), cost_at(cloud, max(one, other))
    if more is not None:
        assert less is not None
        assert less.value <= more.value + 1e-12


def test_means_and_ratios_pass_over_what_is_not_known() -> None:
    assert geometric_mean([2.0, None, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([None]) is None
    assert geometric_mean([]) is None
    assert ratio(3.0, 4.0) == 0.75
    assert [ratio(None, 4.0), ratio(3.0, None), ratio(3.0, 0.0)] == [None] * 3
    assert least([None, 3.0, 2.0]) == 2.0
    assert least([None]) is None


@pytest.mark.parametrize("model", shared_models() or [None], ids=lambda model: model.name if model else "absent")
def test_the_anchors_are_interpolated_as_we_do(model: BenchModel | None) -> None:
    if model is None:
        pytest.skip(ABSENT)
    for peer, figures in model.anchors.items():
        if peer == "float":
            continue
        for percent in (99, 95):
            cost = cost_at([Point(*pair) for pair in figures["points"]], model.anchors["float"] * percent / 100)
            assert (cost and cost.value) == pytest.approx(figures[f"bpw{percent}"], abs=2e-3), peer


def row(model: str, method: str, bits: float, score: float, **changes: object) -> Row:
    """A row whose file is 1000 bytes per bit, 100 of them overhead."""
    size = round(1000 * bits)
    body: dict[str, object] = {
        "settings": {"lambda_": 0.25},
        "matrix_bits_per_weight": 2 * bits,
        "file_bytes": size,
        "weight_bytes": size - 100,
        "other_bytes": {"graph": 60, "directory": 40},
    }
    return Row(model=model, method=method, bits_per_weight=bits, score=score, **(body | changes))  # type: ignore[arg-type]


def results() -> Results:
    """Two methods on a model of AUC 0.9: 99 % of the way from guessing is 0.896, 95 % is 0.88."""
    rows = [
        row("m", FULL, 1.0, 0.87, above_bound={"mean": 0.4, "least": 0.1, "most": 0.7}),
        row("m", FULL, 2.0, 0.89),
        row("m", FULL, 3.0, 0.90, above_bound={"mean": 0.3, "least": 0.1, "most": 0.7}),
        row("m", "rtn", 3.0, 0.80),
        row("m", "rtn", 6.0, 0.88),
        row("m", "half-1", 1.5, 0.90),
        row("m", "half-2", 1.8, 0.90),
    ]
    return Results(rows, {"m": {"float": 0.9, "chance": 0.5, "onnx_bytes": 32000}})


def test_targets_count_from_the_score_of_guessing() -> None:
    assert results().target("m", 99) == pytest.approx(0.896)
    assert results().target("m", 95) == pytest.approx(0.88)


def test_auc_models_guess_at_one_half(tmp_path: Path) -> None:
    for metric, chance in (("ROC AUC (mean over machines)", 0.5), ("AUC", 0.5), ("top-1 accuracy", 0.0)):
        (tmp_path / "meta.json").write_text(json.dumps({"metric": metric}))
        assert BenchModel(tmp_path, {}).chance == chance


def test_costs_of_a_curve() -> None:
    found = results()
    assert found.cost_at("m", FULL, "bits_per_weight", 99) == Cost(pytest.approx(2.6))
    assert found.cost_at("m", FULL, "matrix_bits_per_weight", 99) == Cost(pytest.approx(5.2))
    assert found.cost_at("m", FULL, "file_bytes", 95) == Cost(pytest.approx(1500))
    assert found.cost_at("m", "rtn", "bits_per_weight", 99) is None
    cheapest = found.cheapest("m", FULL, 99)
    assert cheapest is not None
    assert cheapest.bits_per_weight == 3.0
    assert found.cheapest("m", "rtn", 99) is None


def test_rows_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rate.json"
    assert Results.load(path) == Results([], {})
    results().save(path)
    assert Results.load(path) == results()
    newer = Results([row("m", FULL, 5.0, 0.9), row("k", "rtn", 1.0, 0.2)], {"k": {"float": 0.3}})
    merged = Results.load(path).merged(newer)
    assert [r.bits_per_weight for r in merged.rows] == [1.0, 5.0, 3.0, 6.0, 1.5, 1.8]
    assert list(merged.models) == ["k", "m"]


def anchored(anchors: dict[str, object]) -> BenchModel:
    """A model called m."""
    return BenchModel(Path("m"), {"float": 0.9, **anchors})


def cells(table: object) -> dict[str, list[str]]:
    """The rows of a drawn table by their first cell; of equal ones the last."""
    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    lines = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in stream.getvalue().splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 1}


def test_tables() -> None:
    model = anchored(
        {
            "rtn": {"bpw99": None, "bpw95": 3.0, "points": []},
            "optq": {"bpw99": 5.2, "bpw95": 3.5, "points": []},
            "nncodec": {"bpw99": 10.4, "bpw95": None, "points": []},
        }
    )
    assert rate_tables.anchor(model, "best", 99) == 5.2
    assert rate_tables.anchor(model, "best", 95) == 3.0
    assert rate_tables.peer_ratio(results(), model, FULL, "best", 99) == pytest.approx(0.5)
    assert rate_tables.peer_ratio(results(), model, FULL, "nncodec", 99) == pytest.approx(0.5)
    assert rate_tables.peer_ratio(results(), model, FULL, "nncodec", 95) is None
    assert rate_tables.peer_ratio(results(), model, FULL, "optq_global_step", 95) is None
    assert cells(rate_tables.ablation(results(), (99, 95))) == {
        FULL: ["1.000", "1", "1.000", "1"],
        "rtn": ["-", "0", "4.000", "1"],
    }
    assert cells(rate_tables.sections(results(), [model], 99)) == {
        "m": ["0.25", "2,900", "60", "40", "3,000", "3.3 %", "10.67"]
    }
    assert cells(rate_tables.spread(results(), (99,))) == {"m": ["99 %", "<1.500", "<1.800", "-", "1.200", "2.600"]}
    stream = io.StringIO()
    rate_tables.show(results(), [model], (99, 95), Console(file=stream, width=200))
    assert "1.733" not in stream.getvalue()
    assert "2.600" in stream.getvalue()


def test_every_variant_is_a_valid_setting() -> None:
    for variant in VARIANTS.values():
        assert len(variant.sweep) > 1
        for step in variant.sweep:
            Settings(**(variant.changes | step))
    assert not VARIANTS[FULL].changes
    assert all(set(step) == {"lambda_"} for step in VARIANTS[FULL].sweep)


def test_half_of_the_calibration_data(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez(path, a=np.arange(7), b=np.arange(7) * 10)
    one, other = rate.half_of(path, 1), rate.half_of(path, 2)
    assert len(one["a"]) == 4
    assert np.array_equal(one["b"], 10 * one["a"])
    assert not np.array_equal(one["a"], other["a"])
    assert np.array_equal(one["a"], rate.half_of(path, 1)["a"])


def test_what_a_report_says() -> None:
    layers = [
        LayerReport("u", "Gemm", (10, 10), 100, "ans", 50, 4.0, 4.0, 1.0, 5, 0.1, 0.01, 0.5),
        LayerReport("v", "Gemm", (10, 30), 300, "ans", 75, 2.0, 2.0, 1.0, 5, 0.1, 0.01, 0.1),
        LayerReport("w", "Gemm", (1, 4), 4, "ans", 1, 2.0, 2.0, 1.0, 5, 0.0, 0.01, -math.inf),
    ]
    kept = (
        Kept("x", (4, 25), "float32", 400, ""),
        Kept("y", (4,), "float32", 16, ""),
        Kept("z", (2, 2), "int64", 32, ""),
    )
    report = Report(1, 1, "cerwu", 0.1, 8, "data", 1, None, (), tuple(layers), (), kept, {}, (), {})
    assert rate.bound_summary(report) == pytest.approx({"mean": 0.2, "least": 0.1, "most": 0.5})
    assert rate.matrix_rate(report) == pytest.approx(8 * (126 + 400) / (404 + 100))
    empty = Report(1, 1, "cerwu", 0.1, 8, "data", 1, None, (), (), (), (), {}, (), {})
    assert rate.bound_summary(empty) == {}
    assert rate.matrix_rate(empty) == 0


def test_a_point_is_a_whole_compression() -> None:
    (model,) = sample_models(("fashion_dscnn",))
    stream = io.StringIO()
    sweep = ({"levels": 8}, {"levels": 256})
    variants = {"rtn": Variant(sweep, {"method": "rtn"}), "elsewhere": Variant(sweep, models=("another",))}
    (found,) = rate.sweep([model], variants, Console(file=stream, width=200))
    few, many = found.rows
    assert few.bits_per_weight < many.bits_per_weight < 9
    assert few.score < many.score
    assert many.score == pytest.approx(found.models[model.name]["float"], abs=0.01)
    assert few.settings == {"method": "rtn", "levels": 8}
    assert few.file_bytes == few.weight_bytes + sum(few.other_bytes.values())
    assert stream.getvalue().count("bits/weight") == 2


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_curves_are_drawn(share: float) -> None:
    model = anchored({"nncodec": {"points": [[1.0, 0.2], [4.0, 0.9 * share]]}})
    root = ElementTree.fromstring(curves.draw("<m>", results(), model))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<m>", "float 0.9000", "99 %", "95 %", "NNCodec", "cerwu-onnx, default", "0.9"} <= set(texts)
    assert "CERWU, ours" not in texts


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_enclose_the_range(low: float, width: float) -> None:
    found = curves.ticks(low, low + width)
    assert found[0] <= low + 1e-9 * width
    assert found[-1] >= low + width * (1 - 1e-9)
    assert 4 <= len(found) <= 10
