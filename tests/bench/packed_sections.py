"""Graph sections and metadata, packed and deflated: ``python -m tests.bench.packed_sections [MODEL.onnx ...]``.

Prints a line per model: the trained ones at hand, then those given.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import cerwu_onnx
from cerwu_onnx import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import packed, reader
from cerwu_onnx.container.dictionary import deflate

from .models import sample_models, shared_models


def contents(model: Path) -> tuple[bytes, bytes]:
    """What the sections of graph and metadata hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.cwb"
        cerwu_onnx.compress(model, path, settings=Settings(method="rtn"))
        container = reader.read(path)
        return container.section(f.Kind.GRAPH) or b"", container.section(f.Kind.METADATA) or b""


def main() -> None:
    models = {model.name: model.onnx for model in sample_models() + shared_models()}
    models |= {"/".join(Path(name).parts[-2:]): Path(name) for name in sys.argv[1:]}
    print("| model | graph | deflated | packed | metadata | deflated | packed |\n|---|---:|---:|---:|---:|---:|---:|")
    spent, size = 0.0, 0
    packed.pack(b"")
    for name, path in models.items():
        cells = []
        for content in contents(path):
            start = time.process_time()
            cells += [len(content), len(deflate(content)), len(packed.pack(content))]
            spent, size = spent + time.process_time() - start, size + len(content)
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
    print(f"\n{size / spent / 1e6:.2f} MB packed in a second")


if __name__ == "__main__":
    main()
