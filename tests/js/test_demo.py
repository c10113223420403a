"""The demo: three ways to one answer; pictures are picked, drawn and dropped; at the widths of desk and phone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import browser
from .demo import SERVE, SHOWN, wait

DROP = """
(async () => {
    const photo = new OffscreenCanvas(200, 200);
    const pen = photo.getContext('2d');
    pen.drawImage(document.querySelector('#samples button[title=Trousers] canvas'), 0, 0, 200, 200);
    const files = new DataTransfer();
    files.items.add(new File([await photo.convertToBlob()], 'trousers.png', { type: 'image/png' }));
    document.getElementById('picture').dispatchEvent(new DragEvent('drop', { dataTransfer: files }));
})()
"""


@pytest.fixture(scope="module")
def page(tab: browser.Tab) -> Iterator[str]:
    """The address of the demo, which then loads as fast as it can."""
    SERVE["prepare"]()
    server = SERVE["server"]()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield SERVE["address"](server) + "?rate="
    server.shutdown()
    thread.join()


def answers(tab: browser.Tab) -> list[str]:
    return [card["answer"][0] for card in tab.evaluate(SHOWN)]


def shown_after(tab: browser.Tab, action: str) -> list[str]:
    """The answers, once they have changed after an action."""
    before = answers(tab)
    tab.evaluate(action)
    for _ in range(100):
        if (now := answers(tab)) != before and len(set(now)) == 1:
            break
        time.sleep(0.05)
    return answers(tab)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_shows_the_same_answer_three_ways(
    width: int, dark: bool, page: str, tab: browser.Tab, tmp_path: Path
) -> None:
    tab.complaints.clear()
    tab.open(page, width=width, dark=dark)
    verdict = wait(tab)
    cards = tab.evaluate(SHOWN)
    assert answers(tab) == ["Sneaker"] * 3
    assert "the same answer, Sneaker" in verdict
    sizes = [int(card["facts"][0].removesuffix(" bytes").replace(",", "")) for card in cards]
    assert sizes[0] == 458_531
    assert sizes[1] < sizes[0]
    assert 20 * sizes[2] < sizes[0]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.complaints == []
    tab.screenshot(tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_pictures_are_picked_dropped_and_drawn(page: str, tab: browser.Tab) -> None:
    tab.open(page, width=800)
    wait(tab)
    assert shown_after(tab, "document.querySelector('#samples button[title=Bag]').click()") == ["Bag"] * 3
    assert shown_after(tab, DROP) == ["Trousers"] * 3
    tab.evaluate("document.getElementById('clear').click()")
    tab.evaluate("document.getElementById('picture').scrollIntoView({ block: 'center' })")
    box = tab.evaluate("(({ x, y }) => [x, y])(document.getElementById('picture').getBoundingClientRect())")
    before = tab.evaluate("document.getElementById('picture').toDataURL()")
    for kind, at in (("mousePressed", 60), ("mouseMoved", 90), ("mouseMoved", 120), ("mouseReleased", 120)):
        place = {"x": box[0] + at, "y": box[1] + 100}
        tab.call("Input.dispatchMouseEvent", type=kind, **place, button="left", buttons=1, clickCount=1)
    assert tab.evaluate("document.getElementById('picture').toDataURL()") != before
