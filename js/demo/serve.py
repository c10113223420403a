# SPDX-License-Identifier: Apache-2.0
"""Serve the demo: ``python js/demo/serve.py [port]``, then open the address that it prints.

``make demo-web`` builds what it needs, shows it to a headless browser and prints what stands there.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "sample_models" / "fashion_cnn"
OUT = ROOT / "build" / "demo-web"

POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data: blob:"
"""The demo runs under a strict Content-Security-Policy: no inline script, no eval."""


class Handler(SimpleHTTPRequestHandler):
    """Files below the repository; with ``?rate=N`` at N bytes a second; what ends in .br as brotli's."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".br": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Add to the headers of every answer."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-cache")
        if urlsplit(self.path).path.endswith(".br"):
            self.send_header("Content-Encoding", "br")
        super().end_headers()

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        """Send a file's bytes."""
        rate = int(parse_qs(urlsplit(self.path).query).get("rate", ["0"])[0])
        begin, sent = time.monotonic(), 0
        while chunk := source.read(rate // 50 or 1 << 20):
            outputfile.write(chunk)
            sent += len(chunk)
            if rate:
                time.sleep(max(0.0, begin + sent / rate - time.monotonic()))

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


def prepare() -> None:
    """Make what the page loads, where it is missing or old: the model in three forms, pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    source, packed = MODEL / "model.onnx", OUT / "model.cwb"
    if not packed.exists() or packed.stat().st_mtime < source.stat().st_mtime:
        words = ("compress", source, packed, "--calib", MODEL / "calib.npz", "--force", "--quiet")
        subprocess.run([sys.executable, "-m", "cerwu_onnx.cli", *map(str, words)], check=True)
    (OUT / "model.onnx").write_bytes(source.read_bytes())
    brotli = "process.stdout.write(zlib.brotliCompressSync(fs.readFileSync(process.argv[1])))"
    (OUT / "model.onnx.br").write_bytes(subprocess.check_output(["node", "-e", brotli, source]))
    with np.load(MODEL / "test.npz") as arrays:
        labels = arrays["labels"]
        first = [int(np.flatnonzero(labels == label)[0]) for label in range(10)]
        rows = [bytes([label]) + arrays["inputs"][index].tobytes() for label, index in enumerate(first)]
    (OUT / "samples.bin").write_bytes(b"".join(rows))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (OUT / "identity.onnx").write_bytes(model.SerializeToString())


def server(port: int = 0) -> ThreadingHTTPServer:
    """A server on this machine alone; port 0 is any that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(ROOT)))


def address(running: ThreadingHTTPServer) -> str:
    """Where the demo is."""
    return f"http://127.0.0.1:{running.server_address[1]}/js/demo/"


if __name__ == "__main__":
    prepare()
    running = server(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    print(f"{address(running)} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        running.serve_forever()
