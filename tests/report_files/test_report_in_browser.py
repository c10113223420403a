"""The HTML report in a headless Chromium: sorting, dark mode, widths, nothing on the console.

Skipped without one; ``CHROMIUM=/path/to/it`` names one that is not on the PATH, ``SCREENSHOTS=folder`` keeps pictures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cerwu_onnx import Settings
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Target
from cerwu_onnx.report import Fidelity
from cerwu_onnx.report_files import page_of, to_html

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
    (folder / "page.html").write_text(to_html(page_of(report, compressed)), encoding="utf-8")
    return folder / "page.html"


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
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window_in_both_colours(page: Path, tab: Tab, width: int, dark: bool) -> None:
    tab.open(page, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    light = [
        sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 765
        for colour in tab.evaluate("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
    ]
    assert (light[0] < 0.2 and light[1] > 0.8) if dark else (light[0] > 0.8 and light[1] < 0.2)
    first = tab.evaluate("[...document.querySelectorAll('h1 ~ p')].slice(0, 3).map((e) => e.innerText)")
    assert first[:2] == ["Expected score: 99.1 % of the float model's", "same answer on 97.7 % of 128 held-out samples"]
    assert "bytes" in first[2]
    # No text is drawn over other text: of the page's own words, each is what lies at its centre.
    hidden = tab.evaluate(
        """[...document.querySelectorAll("h1, h2, p, dt, dd, summary, .legend li")].filter((e) => {
        e.scrollIntoView({block: "center"});
        const r = e.getBoundingClientRect(), top = document.elementFromPoint(r.x + 2, r.y + r.height / 2);
        return !(top === e || e.contains(top));
        }).map((e) => e.innerText)"""
    )
    assert hidden == []
    assert tab.complaints == []
    if folder := os.environ.get("SCREENSHOTS"):
        drawn = "(e) => (e.style.contentVisibility = 'visible')"  # those out of sight too
        tab.evaluate(f"document.querySelectorAll('figure').forEach({drawn}); scrollTo(0, 0)")
        tab.screenshot(Path(folder) / f"report_{width}_{'dark' if dark else 'light'}.png")


def test_the_policy_of_the_page_refuses_other_scripts(page: Path, tab: Tab, tmp_path: Path) -> None:
    """The test of the test: what is blocked shows up among the complaints."""
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'x'</script></body>"))
    tab.open(bad, width=1280)
    assert tab.evaluate("document.title") != "x"
    assert any("Content Security Policy" in text for text in tab.complaints)
    tab.complaints.clear()
