"""The HTML report in a headless Chromium: sorting, dark mode, widths, nothing on the console.

Skipped without one; ``CHROMIUM=/path/to/it`` names one that is not on the PATH, ``SCREENSHOTS=folder`` keeps pictures.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cerwu_onnx import Settings, __version__
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Target
from cerwu_onnx.report import Fidelity, Scores
from cerwu_onnx.report_files import page_of, to_html
from cerwu_onnx.report_files.page import Page
from cerwu_onnx.types import Kept

from .. import browser
from ..browser import Tab

SAMPLE = Path(__file__).parents[2] / "sample_models/fashion_dscnn"

pytestmark = pytest.mark.skipif(
    browser.find() is None or os.name == "nt", reason="no Chromium to look at reports with: install chromium"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: a search, layers with errors, exact tensors, a name that does not fit."""
    folder = tmp_path_factory.mktemp("page")
    name = folder / f"{'a_long_name_' * 8}.onnx"
    shutil.copy(SAMPLE / "model.onnx", name)
    compressed = folder / f"{name.stem}.cwb"
    report = compress(
        name,
        compressed,
        calib=SAMPLE / "calib.npz",
        settings=Settings(method="rd-rtn"),
        target=Target(size=10 << 10),
    )
    assert len(report.search) > 2
    report = replace(report, fidelity=Fidelity(0.99, 0.991, 0.004, "kl", "logits", 0.977, 128))
    whole = page_of(report, name, compressed)
    (folder / "page.html").write_text(to_html(whole), encoding="utf-8")
    (folder / "long.html").write_text(to_html(lengthened(whole)), encoding="utf-8")
    return folder / "page.html"


def lengthened(page: Page) -> Page:
    """The same with 100 layers, and with names and paths that fit nowhere."""
    metric = f"/home/somebody/{'a_folder/' * 12}metrics.py:{'mean_average_precision_' * 4}"
    names = [f"/backbone/stage{n}/{'block_' * n}conv.weight_quantized" for n in range(100)]
    first, counted = page.report.layers[0], next(iter(page.histograms.values()))
    report = replace(
        page.report,
        model_bytes=10_000_000,
        file_bytes=100 * first.coded_bytes + sum(page.report.other_bytes.values()),
        layers=tuple(replace(first, name=name, node="", loss_share=0.01) for name in names),
        kept=(Kept(f"onnx::{'LayerNormalization_' * 9}", (8,), "float32", 32, f"read by {'x' * 99}"),),
        scores=Scores(metric, 0.912345, 0.903456, 0.8999, 0.9, 1000),
        search=tuple(replace(point, score=0.9 + n / 100) for n, point in enumerate(page.report.search)),
        warnings=(f"layer {'w' * 200}: lost",),
        missed=(f"the metric {metric} fell by 2 %",),
    )
    return replace(page, report=report, histograms=dict.fromkeys(names, counted))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    found = browser.find()
    assert found
    with browser.tab(found, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def shown(tab: Tab, heading: str) -> list[str]:
    """The cells below a heading of the layers' table, from the top."""
    return list(
        tab.evaluate(
            f"""(() => {{
            const table = document.querySelector("table.sortable");
            const column = [...table.tHead.rows[0].cells].findIndex((c) => c.innerText.startsWith({heading!r}));
            return [...table.tBodies[0].rows].map((row) => row.cells[column].innerText.trim());
            }})()"""
        )
    )


def click(tab: Tab, heading: str) -> str:
    """Click a heading with the mouse, where it is drawn; return what a screen reader is told of the order."""
    find = f"[...document.querySelectorAll('th')].find((c) => c.innerText.startsWith({heading!r}))"
    x, y = tab.evaluate(
        f"(() => {{ const b = {find}.firstElementChild; b.scrollIntoView({{block: 'center', inline: 'center'}});"
        " const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    return str(tab.evaluate(f"{find}.getAttribute('aria-sort')"))


def test_a_click_sorts_numbers_as_numbers_and_words_as_words(page: Path, tab: Tab) -> None:
    tab.open(page, width=1280)
    before = [int(cell.replace(",", "")) for cell in shown(tab, "bytes")]
    assert click(tab, "bytes") == "descending"
    assert [int(cell.replace(",", "")) for cell in shown(tab, "bytes")] == sorted(before, reverse=True) != before
    assert click(tab, "bytes") == "ascending"
    assert [int(cell.replace(",", "")) for cell in shown(tab, "bytes")] == sorted(before)
    assert click(tab, "layer") == "ascending"
    assert shown(tab, "layer") == sorted(shown(tab, "layer"))
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_it_fits_the_window_in_both_colours(page: Path, tab: Tab, width: int, dark: bool) -> None:
    tab.open(page, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    light = [
        sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 765
        for colour in tab.evaluate("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
    ]
    assert (light[0] < 0.2 and light[1] > 0.8) if dark else (light[0] > 0.8 and light[1] < 0.2)
    origin, *first = tab.evaluate("[...document.querySelectorAll('h1 ~ p')].slice(0, 4).map((e) => e.innerText)")
    assert re.fullmatch(rf"a_long.*\.onnx · cerwu-onnx {re.escape(__version__)} · \d{{4}}-\d\d-\d\d", origin)
    assert first[:2] == [
        "Expected score: 99.1 % of the float model's",
        "same answer on 97.7 %, by 128 held-out samples",
    ]
    assert "bytes" in first[2]
    # No text is drawn over other text: of the page's own words, each is what lies at its centre.
    hidden = tab.evaluate(
        """[...document.querySelectorAll("h1, h2, p, dt, dd, summary, .legend li")].filter((e) => !e.hidden && (() => {
        e.scrollIntoView({block: "center"});
        const r = e.getBoundingClientRect(), top = document.elementFromPoint(r.x + 2, r.y + r.height / 2);
        return !(top === e || e.contains(top));
        })()).map((e) => e.innerText)"""
    )
    assert hidden == []
    assert tab.complaints == []
    keep(tab, f"report_{width}_{'dark' if dark else 'light'}")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (768, False), (1280, True)])
def test_long_names_and_a_hundred_layers_fit_too(page: Path, tab: Tab, width: int, dark: bool) -> None:
    tab.open(page.with_name("long.html"), width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Nothing but the table, which scrolls by itself, reaches beyond the window.
    beyond = """[...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll") &&
        e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 90))"""
    assert tab.evaluate(beyond) == []
    box = "document.querySelector('.scroll')"
    assert tab.evaluate(f"{box}.scrollWidth > {box}.clientWidth") is (width < 1280)
    after = f"requestAnimationFrame(() => setTimeout(() => done({box}.previousElementSibling.hidden)))"
    assert tab.evaluate(f"new Promise((done) => {after})") is (width == 1280)  # the line that says so
    assert tab.evaluate("document.querySelectorAll('.sortable tbody tr').length") == 100
    assert tab.complaints == []
    keep(tab, f"long_{width}_{'dark' if dark else 'light'}")


def keep(tab: Tab, name: str) -> None:
    """Write a picture of the whole page, where somebody asks for it."""
    if folder := os.environ.get("SCREENSHOTS"):
        drawn = "(e) => (e.style.contentVisibility = 'visible')"  # those out of sight too
        tab.evaluate(f"document.querySelectorAll('figure').forEach({drawn}); scrollTo(0, 0)")
        tab.screenshot(Path(folder) / f"{name}.png")


def test_the_policy_of_the_page_refuses_other_scripts(page: Path, tab: Tab, tmp_path: Path) -> None:
    """The test of the test: what is blocked shows up among the complaints."""
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'x'</script></body>"))
    tab.open(bad, width=1280)
    assert tab.evaluate("document.title") != "x"
    assert any("Content Security Policy" in text for text in tab.complaints)
    tab.complaints.clear()
