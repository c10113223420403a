"""Reports as HTML, Markdown and JSON, after a compression and from the file alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cerwu_onnx import Settings, __version__
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.container.reader import read
from cerwu_onnx.errors import CorruptFileError, UsageError
from cerwu_onnx.report import Fidelity, LayerReport, Point, Report, Scores
from cerwu_onnx.report_files import check_paths, describe, page_of, svg, to_html, to_json, to_markdown, write
from cerwu_onnx.report_files import schema as schemas
from cerwu_onnx.report_files.grids import BARS, grid_points, histogram
from cerwu_onnx.report_files.markdown import ROWS, code, plain
from cerwu_onnx.report_files.page import Page
from cerwu_onnx.types import Kept, QuantizedTensor

from ..cli.conftest import small_model

DOCS = Path(__file__).parents[2] / "docs"
HOSTILE = "<img src=x onerror=alert(1)>\"'&|`*\u202e\n[a](javascript:x)"


@pytest.fixture(scope="module", params=["trellis", "cerwu"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("reports")
    onnx.save(small_model(batch_norm=True), folder / "model.onnx")
    calib = {"x": np.random.default_rng(1).normal(size=(40, 2, 8, 8)).astype(np.float32)}
    report = compress(
        folder / "model.onnx", folder / "model.cwb", calib=calib, settings=Settings(method=request.param, effort="fast")
    )
    return page_of(report, folder / "model.onnx", folder / "model.cwb")


def made_up(names: list[str]) -> Page:
    """A page about layers that never were."""
    symbols = np.arange(-3, 4, dtype=np.int32)
    layers = tuple(
        LayerReport(name, "Conv", (7,), 7, "ans", 10 + i, 8 * (10 + i) / 7, 2.8, 0.1, 7, 0.01 * i, 0.01)
        for i, name in enumerate(names)
    )
    report = Report(
        model_bytes=10**6,
        file_bytes=10**5,
        method=HOSTILE,
        lambda_=0.1,
        levels=None,
        calibration="data",
        calibration_samples=3,
        output_loss=0.1,
        folded=(),
        layers=layers,
        parameters=(),
        kept=tuple(Kept(name, (2, 3), "float32", 24, f"operand of {name}") for name in names),
        other_bytes={"exact tensors": 5, HOSTILE: 1},
        warnings=(HOSTILE,),
        seconds={"load": 1.0},
    )
    return Page(HOSTILE, report, {layer.name: histogram(symbols, layer.step) for layer in layers})


class Tags(HTMLParser):
    """Checks that tags are closed in order and remembers them."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1] in ("script", "style")):
            self.words += data


def test_the_page_is_whole_and_reaches_for_nothing(page: Page) -> None:
    html = to_html(page)
    tags = Tags(html)
    names = {name for name, _ in tags.seen}
    assert not names & {"img", "link", "iframe", "object", "a", "form", "base"}
    assert sum(name == "script" for name, _ in tags.seen) == 1
    for _, attributes in tags.seen:
        assert not attributes.keys() & {"src", "href", "style"}
        assert not any(name.startswith("on") for name in attributes)
    assert "http" not in re.sub("http-equiv", "", html)
    assert "url(" not in html
    assert "default-src 'none'" in html
    for picture in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(picture)
    for layer in page.report.layers:
        assert layer.name in tags.words
    assert f"{page.report.file_bytes:,}" in tags.words


def test_every_layer_can_be_sorted_and_has_a_histogram(page: Page) -> None:
    tags = Tags(to_html(page))
    rows = to_html(page).split("<tbody>")[1].split("</tbody>")[0].count("<tr>")
    assert rows == len(page.report.layers)
    assert sum(attributes.get("class") == "tile" for _, attributes in tags.seen) == rows
    values = [attributes["data-v"] for _, attributes in tags.seen if "data-v" in attributes]
    assert len(values) >= 6 * rows
    assert all(math.isfinite(float(value or "nan")) for value in values)


def test_histograms_count_every_weight(page: Page) -> None:
    container = read(page.output)
    for layer in page.report.layers:
        counted = page.histograms[layer.name]
        assert sum(counted.counts) == layer.weights
        assert len(counted.counts) <= BARS
        record = next(record for record in container.tensors if record.name == layer.name)
        steps = grid_points(container, record)
        np.testing.assert_array_equal(record.order.store(steps).ravel(), container.symbols(record))
        assert len(np.unique(steps)) == layer.symbols


@given(st.lists(st.integers(-40000, 40000), min_size=1, max_size=50))
def test_bars_hold_what_lies_in_them(points: list[int]) -> None:
    counted = histogram(np.array(points, np.int32), 0.5)
    assert len(counted.counts) <= BARS + 1
    for index, count in enumerate(counted.counts):
        first = counted.lowest + index * counted.points
        assert count == sum(first <= point < first + counted.points for point in points)
    assert sum(counted.counts) == len(points)
    assert counted.lowest % counted.points == 0
    ElementTree.fromstring(svg.tile(counted, "x"))


def test_the_file_tells_the_same_story(page: Page) -> None:
    found = describe(page.output)
    ours, theirs = page.report, found.report
    assert found.histograms == page.histograms
    assert found.from_file
    for name in ("file_bytes", "method", "lambda_", "levels", "calibration", "other_bytes"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert {k.name: k for k in theirs.kept} == {k.name: k for k in ours.kept}
    assert {(p.name, p.layer, p.coded_bytes) for p in theirs.parameters} == {
        (p.name, p.layer, p.coded_bytes) for p in ours.parameters
    }
    unknown: dict[str, Any] = {"relative_error": 0.0, "damping": 0.0, "above_bound": None, "entropy": 0.0}
    unknown |= {"output_loss": None, "loss_share": None, "node": ""}
    for mine, its in zip(sorted_layers(ours), sorted_layers(theirs), strict=True):
        assert replace(mine, **unknown) == replace(its, **unknown)
        assert its.entropy == pytest.approx(mine.entropy)
        assert math.isnan(its.relative_error)
    assert 0.8 < theirs.model_bytes / ours.model_bytes < 1.1
    assert "error" not in to_markdown(found).split("### Layers")[1]


def test_what_layers_cost_at_the_outputs_is_shown_where_it_is_known(page: Page) -> None:
    shares = [layer.loss_share for layer in page.report.layers]
    known = page.report.method == "trellis"
    assert ("share of loss" in to_markdown(page)) == ("share of loss" in to_html(page)) == known
    assert [share is not None for share in shares] == [known] * len(shares)
    for share in shares:
        assert share is None or f'<td data-v="{share!r}">{100 * share:.3g} %</td>' in to_html(page)


def sorted_layers(report: Report) -> list[LayerReport]:
    return sorted(report.layers, key=lambda layer: layer.name)


def test_a_file_without_graph_or_data(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    settings = Settings(method="rtn", weights_only=True, float_params="exact")
    compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=settings)
    found = describe(tmp_path / "m.cwb")
    assert [layer.op for layer in found.report.layers] == ["", ""]
    assert found.report.model_bytes == 4 * (216 + 12 + 4320 + 10)
    assert found.report.calibration == "none"
    assert {tensor.reason for tensor in found.report.kept} == {""}
    Tags(to_html(found))
    assert "stored exactly" in to_markdown(found)


def test_damage_is_told(page: Page, tmp_path: Path) -> None:
    content = bytearray(Path(page.output).read_bytes())
    content[-3] ^= 1
    (tmp_path / "bad.cwb").write_bytes(content)
    with pytest.raises(CorruptFileError):
        describe(tmp_path / "bad.cwb")


@pytest.mark.parametrize("step", [1e35, 2.0**-126, 0.1])
def test_a_file_that_nobody_vouches_for(tmp_path: Path, step: float) -> None:
    symbols = np.array([[-300, 0, 0], [1, 2, 299]], np.int32)
    tensor = QuantizedTensor(symbols, float(np.float32(step)), 0.0, 0.0, 0.0)
    parts = [
        writer.encode_tensor(writer.CodedTensor(HOSTILE, tensor, "adaptive", f.Order.AXIS0_LAST)),
        writer.names_section([HOSTILE]),
        writer.metadata_section({"method": [HOSTILE], "lambda": 10**400, "levels": True, "params": "zz"}),
    ]
    parts.sort(key=lambda part: part.record.kind)
    (tmp_path / "x.cwb").write_bytes(writer.assemble(parts))
    found = describe(tmp_path / "x.cwb")
    assert found.report.levels is None
    assert found.histograms[HOSTILE] == histogram(symbols, tensor.step)
    assert sum(found.histograms[HOSTILE].counts) == 6
    tags = Tags(to_html(found))
    assert "img" not in {name for name, _ in tags.seen}
    to_markdown(found)
    check(json.loads(to_json(found), parse_constant=pytest.fail), schemas.schema())


def test_names_are_text_and_nothing_else() -> None:
    html = to_html(made_up([HOSTILE, "</script><script>alert(1)</script>", "</title>", "]]>--><!--"]))
    tags = Tags(html)
    assert not {name for name, _ in tags.seen} & {"img", "a"}
    assert sum(name == "script" for name, _ in tags.seen) == 1
    assert "\u202e" not in html
    assert "<img src=x onerror=alert(1)>" in tags.words


@given(st.text(max_size=40))
def test_markdown_shows_names_as_they_are(name: str) -> None:
    span = code(name)
    assert "\n" not in span
    assert not re.search(r"(?<!\\)\|", span)
    fence = re.match("`+", span)
    assert fence is not None
    assert fence[0] not in re.sub("^`+|`+$", "", span) or len(fence[0]) > max(map(len, re.findall("`+", span[1:-1])))
    shown = re.sub(r"\\([!-/:-@\[-`{-~])", "", plain(name))
    assert not re.search(r"[|<>`*_\[\]~#\\]|://", shown)


def test_what_is_expected_on_fresh_data_comes_first(page: Page) -> None:
    fidelity = page.report.fidelity
    html, markdown, body = to_html(page), to_markdown(page), json.loads(to_json(page))
    if page.report.method != "trellis":
        assert fidelity is None
        assert body["fidelity"] is None
        assert "xpected" not in html.split("<dl>")[0] + markdown
        return
    assert fidelity is not None
    assert 0.97 < fidelity.kept < 1
    assert fidelity.samples == 20
    told = f"{fidelity.title}: {fidelity.headline}"
    figure, meaning, judged = map(escape, fidelity.told())
    lead = f'<p class="lead">{fidelity.title.capitalize()}: <b>{figure}</b> {meaning}</p>\n<p class="dim">{judged}</p>'
    assert html.index(lead) < html.index("bytes")
    assert markdown.split("\n\n")[1] == f"**{plain(told)}**"
    assert (body["fidelity"]["title"], body["fidelity"]["headline"]) == (fidelity.title, fidelity.headline)
    assert "xpected" not in to_html(describe(page.output))  # which the file does not tell


@pytest.mark.parametrize(
    ("kind", "same", "told"),
    [
        ("kl", 0.98, "expected score: 99.2 % of the float model's (same answer on 98.0 %, by 128 held-out samples)"),
        ("mse", None, "expected error: 8.9 % of the output's standard deviation, on 128 held-out samples"),
    ],
)
def test_what_is_expected_in_words(kind: str, same: float | None, told: str) -> None:
    fidelity = Fidelity(0.99, 0.992, 0.001, kind, "y", same, 128)
    page = made_up(["w"])
    page = replace(page, report=replace(page.report, fidelity=fidelity))
    assert plain(told) in to_markdown(page)
    shown = re.sub("<[^>]*>", "", to_html(page)).lower()
    words = told.replace(" (", "\n").replace(", on", "\non").removesuffix(")")  # a line for what it was judged by
    assert escape(words).lower() in shown


@pytest.mark.parametrize("count", [0, 1, 300])
def test_any_number_of_layers(count: int) -> None:
    page = made_up([f"layer.{index}" for index in range(count)])
    html, markdown = to_html(page), to_markdown(page)
    Tags(html)
    assert html.count('<svg class="tile"') == count
    assert len(html) < 20_000 + 2500 * count
    assert ("smaller layers" in markdown) == (count > ROWS)
    assert len(markdown) < 60_000
    assert len(json.loads(to_json(page))["layers"]) == count


def test_the_search_is_drawn() -> None:
    points = (Point(0.1, 120_000, 2.0, 0.9), Point(0.2, 100_000, 1.8, 0.88), Point(0.4, 90_000, 1.5, None))
    page = made_up(["w"])
    scored = replace(page, report=replace(page.report, search=points, scores=Scores("top1", 0.91, 0.88)))
    html = to_html(scored)
    assert html.count("<circle") == 2
    assert html.count('class="dot chosen"') == 1
    assert "top1" in html
    by_lambda = replace(page, report=replace(page.report, search=points))
    assert to_html(by_lambda).count("<circle") == 3
    assert "<circle" not in to_html(page)
    assert "0\\.91" not in to_markdown(scored)
    assert "0.91 before, 0.88 after" in to_markdown(scored)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=5))
@example([5e-324])
def test_ticks_enclose_the_values(values: list[float]) -> None:
    marks = svg.ticks(values)
    spread = (max(values) - min(values)) or 1.0
    assert marks == sorted(marks)
    assert 2 <= len(marks) <= 8
    assert marks[0] <= min(values) + 1e-6 * spread + 1e-9 * abs(min(values))
    assert marks[-1] >= max(values) - 1e-6 * spread - 1e-9 * abs(max(values))


KINDS = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def check(value: Any, schema: dict[str, Any], where: str = "") -> None:
    """The keywords of JSON Schema that ours uses."""
    known = {"$schema", "title", "description", "type", "properties", "required", "items", "anyOf", "const"}
    assert schema.keys() <= known | {"additionalProperties"}
    kinds = {KINDS[type(value)]} | ({"number"} if type(value) is int else set())
    if "const" in schema:
        assert value == schema["const"], where
    if "anyOf" in schema:
        (option,) = (option for option in schema["anyOf"] if option["type"] in kinds)
        check(value, option, where)
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        assert kinds & {*names}, f"{where}: {value!r} is no {names}"
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= value.keys(), where
        for key, item in value.items():
            if "anyOf" not in schema:
                within = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
                assert within is not None, f"{where}.{key} is not in the schema"
                check(item, within, f"{where}.{key}")
    if isinstance(value, list) and "anyOf" not in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], f"{where}[{index}]")


def test_reports_follow_their_schema(page: Page) -> None:
    schema = json.loads((DOCS / "schema" / "report.json").read_text(encoding="utf-8"))
    scored = replace(
        page.report, search=(Point(0.1, 9, 2.0, None),), scores=Scores("top1", 1.0, 0.5), missed=("too large",)
    )
    for shown in (page, describe(page.output), replace(page, report=scored)):
        body = json.loads(to_json(shown), parse_constant=lambda word: pytest.fail(word))
        check(body, schema)
        assert list(body) == [*dict.fromkeys(body)]
        assert schema["required"] == [*dict.fromkeys(schema["required"])]


def test_the_schema_is_up_to_date() -> None:
    written = (DOCS / "schema" / "report.json").read_text(encoding="utf-8")
    assert written == schemas.text(), "run python -m cerwu_onnx.report_files.schema > docs/schema/report.json"


def test_paths_are_checked_before_the_work(page: Page, tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    with pytest.raises(UsageError, match="suffix"):
        check_paths([tmp_path / "a.pdf"], overwrite=False)
    with pytest.raises(UsageError, match="overwrite another"):
        check_paths([out, out], overwrite=False)
    with pytest.raises(UsageError, match="overwrite another"):
        check_paths([out], overwrite=True, sources=[out])
    write(page, [out, tmp_path / "A.HTML"], overwrite=False)
    assert out.read_text(encoding="utf-8") == to_markdown(page)
    assert (tmp_path / "A.HTML").read_text(encoding="utf-8") == to_html(page)
    with pytest.raises(UsageError, match="exists"):
        write(page, [out], overwrite=False)


def test_the_head_says_what_when_and_by_what(page: Page) -> None:
    page = replace(page, day="2026-01-31")
    line = f"model.onnx · cerwu-onnx {__version__} · 2026-01-31"
    assert f'</h1>\n<p class="dim origin">{line}</p>' in to_html(page)
    assert line in to_markdown(page).splitlines()[2:5:2]
    found = replace(describe(page.output), day="2026-01-31")  # the file does not say what its model was called
    assert found.origin == line.removeprefix("model.onnx · ")
    assert re.fullmatch(r".* · \d{4}-\d\d-\d\d", describe(page.output).origin)


def test_the_axes_are_labelled_and_a_long_name_is_cut() -> None:
    metric = f"/home/{'folder/' * 20}metrics.py:score<b>"
    drawn = svg.curve([(100.0, 0.9), (200.0, 0.95)], (100.0, 0.9), "bytes", metric)
    texts = [element.text for element in ElementTree.fromstring(drawn).iter("text")]
    assert "bytes" in texts
    (label,) = [text for text in texts if text and text.startswith("↑ ")]
    assert re.fullmatch(r"↑ /home/folder/.*….*metrics\.py:score<b>", label)
    assert len(label) <= 46


def test_markup_that_keeps_a_telephone_from_scrolling(page: Page) -> None:
    """What the test in a browser measures, where there is none."""
    html = to_html(page)
    assert '<meta name="viewport" content="width=device-width' in html
    for rule in (
        r"dt {[^}]*overflow-wrap: anywhere",
        r"p {[^}]*overflow-wrap: anywhere",
        r"\.scroll {[^}]*overflow-x: auto",
    ):
        assert re.search(rf"\n{rule}", html), rule
    assert re.search(r'<p class="dim" hidden>The table goes on[^<]*</p>\n<div class="scroll"', html)  # page.js shows it
