"""The comparison with other tools: its arithmetic, its pages, and that a tool's memory is its own."""

from __future__ import annotations

import gzip
import json
import re
import sys
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from . import peers, peers_pages
from .models import ROOT, sample_models


def model(size: int, **rows: tuple[int, float]) -> dict[str, Any]:
    found = {key: {"bytes": b, "score": s, "seconds": 1.0, "memory": 10**8} for key, (b, s) in rows.items()}
    return {"bytes": size, "float": 0.9, "chance": 0.5, "rows": found}


MODELS = {"fashion_cnn": model(1000, gzip=(900, 0.9), ours=(100, 0.88)), "sequence_gru": model(800, ours=(20, 0.9))}


def test_figures() -> None:
    packed, ours = peers_pages.summaries(MODELS)
    assert (packed.tool.key, packed.models, packed.times, packed.worst) == ("gzip", 1, pytest.approx(10 / 9), 1)
    assert ours.times == pytest.approx((10 * 40) ** 0.5)
    assert (ours.mean, ours.worst) == (pytest.approx(0.975), pytest.approx(0.95))
    table = peers_pages.table([packed, ours], 2)
    assert "| gzip -9 (1 of 2 models) | 1.11 | 100.0 %, 100.0 % | 1 s | 100 MB | unpacking |" in table
    assert "| **cerwu-onnx**, as it comes | 20.00 | 97.5 %, 95.0 % |" in table
    ranges = peers_pages.ranges(MODELS)
    assert "| recurrent layers | 40 | 100.0 % | GRU, sequences: 800 to 20 bytes |" in ranges
    assert ranges.index("recurrent") < ranges.index("convolutions")


def test_the_pages_say_what_was_measured() -> None:
    results = json.loads(peers.RESULTS.read_text())
    models = {name: m for name, m in results["models"].items() if "score" in m.get("rows", {}).get("ours", {})}
    assert {path.name for path in (ROOT / "sample_models").iterdir() if path.is_dir()} <= {*models, "__pycache__"}
    found = peers_pages.summaries(models)
    readme = (ROOT / "README.md").read_text()
    assert f"{peers_pages.named(models)}\n\n{peers_pages.table(found, len(models))}\n" in readme
    assert peers_pages.ranges(models) in (ROOT / "docs/how_small.md").read_text()
    assert (peers_pages.PAGES / "peers.md").read_text() == peers_pages.page(results, models)
    assert (peers_pages.PAGES / "peers.svg").read_text() == peers_pages.picture(found)


def test_nothing_in_the_picture_lies_over_something_else() -> None:
    root = ElementTree.fromstring((peers_pages.PAGES / "peers.svg").read_text())
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = []
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        long = 0.55 * float(text.attrib["font-size"]) * len(text.text or "")
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.attrib["text-anchor"]]
        left = float(text.attrib["x"]) - shift * long
        texts.append((float(text.attrib["y"]), left, left + long))
    assert all(left >= 0 and right <= width + 4 and y <= height for y, left, right in texts)
    for (y, _, right), (below, left, _) in pairwise(sorted(texts)):
        assert below - y >= 12 or right <= left + 4
    assert all(re.fullmatch("#[0-9a-f]{6}", text.attrib["fill"]) for text in root.iter() if "fill" in text.attrib)


def test_memory_is_that_of_the_tool() -> None:
    """Of a process that a larger one starts, getrusage says the larger one's."""
    (sample,) = sample_models(("fashion_dscnn",))
    ballast = bytearray(b"x" * 200_000_000)
    kept = {"float": 0.9, "chance": 0.0}
    row = peers.row(sample, peers.Way("gzip", "gzip"), sys.executable, kept)
    assert row["bytes"] == len(gzip.compress(sample.onnx.read_bytes(), 9))
    assert row["memory"] < 150_000_000 < len(ballast)
    assert row["score"] == 0.9
