"""``make demo-web``: the demo of js/demo in a headless Chromium, what it shows as a table, and pictures of it."""

from __future__ import annotations

import runpy
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .. import browser
from .site import ROOT, build

SERVE = runpy.run_path(str(ROOT / "js/demo/serve.py"))
PICTURES = ((1280, False), (1280, True), (390, False), (390, True))
NETWORKS = {"200000": "1.6 Mbit/s", "1250000": "10 Mbit/s", "": "this machine"}

SHOWN = """
[...document.querySelectorAll('.card')].map((card) => ({
    title: card.querySelector('h2').textContent,
    facts: [...card.querySelectorAll('dd')].map((cell) => cell.textContent),
    answer: card.querySelector('.answer').innerText.split('\\n').filter((text) => text),
}))
"""


def wait(tab: browser.Tab) -> str:
    """Wait for the page to have loaded all; what it says then."""
    for _ in range(600):
        state = tab.evaluate("document.body.dataset.done")
        verdict = str(tab.evaluate("document.getElementById('verdict').textContent"))
        if state == "failed":
            raise SystemExit(f"the demo says: {verdict}")
        if state:
            return verdict
        time.sleep(0.1)
    raise SystemExit("the demo does not end")


def measure(tab: browser.Tab, rate: str) -> tuple[list[dict[str, Any]], str]:
    """What the page shows after loading all at so many bytes a second."""
    tab.evaluate(f"document.getElementById('rate').value = {rate!r}; document.getElementById('again').click()")
    verdict = wait(tab)
    return tab.evaluate(SHOWN), verdict


def main() -> None:
    """Run the demo and print what it shows."""
    found = browser.find()
    if missing := build() or (None if found else "no Chromium: install chromium"):
        raise SystemExit(f"demo-web: {missing}")
    assert found
    SERVE["prepare"]()
    server = SERVE["server"]()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    console = Console()
    with tempfile.TemporaryDirectory() as profile, browser.tab(found, Path(profile)) as tab:
        tab.open(SERVE["address"](server), width=1280)
        wait(tab)
        table = Table("network", "model", "over the wire", "session after", "first answer after", "answer")
        for rate, name in NETWORKS.items():
            cards, verdict = measure(tab, rate)
            for card in cards:
                table.add_row(name, card["title"], *card["facts"], f"{card['answer'][0]} {card['answer'][1]}")
                name = ""
        console.print(table)
        console.print(verdict)
        for width, dark in PICTURES:
            tab.open(SERVE["address"](server), width=width, dark=dark)
            wait(tab)
            picture = SERVE["OUT"] / f"demo-{width}-{'dark' if dark else 'light'}.png"
            tab.screenshot(picture)
            console.print(f"picture: {picture.relative_to(ROOT)}")
        if tab.complaints:
            raise SystemExit(f"the page complains: {tab.complaints}")
    server.shutdown()
    console.print(f"look at it yourself: {Path(sys.executable).relative_to(ROOT)} js/demo/serve.py")


if __name__ == "__main__":
    main()
