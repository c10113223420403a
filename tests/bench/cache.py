"""Seconds of a compression, and of a second one that finds in a cache what the first has left there.

Of a sample model: the same run twice, to a size, and then at another lambda. The ratios mean more than the seconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Settings, Target

from .models import SAMPLES

MODEL = "fashion_dscnn"
RUNS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("first, --lambda 0.05", {"settings": Settings(lambda_=0.05)}),
    ("again", {"settings": Settings(lambda_=0.05)}),
    ("first, --target-size 12KiB", {"target": Target(size=12 << 10)}),
    ("again", {"target": Target(size=12 << 10)}),
)


def run(console: Console) -> None:
    """Print seconds, and how many times faster the second of two runs is."""
    folder = SAMPLES / MODEL
    with tempfile.TemporaryDirectory() as place:
        before = content = None
        for name, options in RUNS:
            output = Path(place) / "model.cwb"
            start = time.perf_counter()
            compress(
                folder / "model.onnx",
                output,
                calib=folder / "calib.npz",
                cache=Path(place) / "cache",
                force=True,
                **options,
            )
            taken = time.perf_counter() - start
            if before is None:
                before, content = taken, output.read_bytes()
                console.print(f"{MODEL}, {name}: {taken:.2f} s")
                continue
            same = "the same file" if output.read_bytes() == content else "ANOTHER FILE"
            console.print(f"{MODEL}, {name}: {taken:.2f} s, {before / taken:.1f} times faster, {same}")
            before = content = None
        size = sum(path.stat().st_size for path in (Path(place) / "cache").iterdir())
        console.print(f"the cache then holds {size:,} bytes")
