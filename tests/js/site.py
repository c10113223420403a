"""The package built and served: by tests and by the bench."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
JS = ROOT / "js"

RUNTIME = "/js/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs"

POLICY = "default-src 'self'; img-src data:; script-src 'self' 'wasm-unsafe-eval'"
"""The Content-Security-Policy of the page that code runs in: neither inline scripts nor eval."""

PAGE = "/page.html"
"""An empty page whose ``window.doors`` has the package, ``cwb``, and onnxruntime-web, ``ort``."""


NPM = shutil.which("npm") or "npm"


def build() -> str | None:
    """Build js/: the WebAssembly module, the developers' packages. What is missing for that, in words, or None."""
    if importlib.util.find_spec("ziglang") is None:
        return "no compiler for WebAssembly: pip install ziglang"
    if not (shutil.which("node") and shutil.which(NPM)):
        return "no Node: install node and npm"
    script = runpy.run_path(str(JS / "wasm" / "build.py"))
    script["OUTPUT"].write_text(script["script"](script["build"]()), encoding="utf-8")
    if not (JS / "node_modules" / "onnxruntime-web").exists():
        made = subprocess.run([NPM, "ci", "--ignore-scripts"], cwd=JS, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"npm installs nothing here (no registry?): {made.stderr.strip()[-200:]}"
    return None


class Site:
    """A server of the repository's files; what is in ``answers`` by path (status, headers, body) comes first."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            PAGE: (
                *(200, {"Content-Type": "text/html", "Content-Security-Policy": POLICY}),
                b'<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>',
            ),
            "/page.js": (
                *(200, {"Content-Type": "text/javascript"}),
                f"import * as ort from '{RUNTIME}'; import * as cwb from '/js/src/browser.js';"
                "ort.env.wasm.numThreads = 1; window.doors = { cwb, ort };".encode(),
            ),
        }
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        kinds = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
        if path in self.answers:
            status, headers, body = self.answers[path]
        elif (ROOT / path[1:]).is_file():
            status, headers = 200, {"Content-Type": kinds.get(Path(path).suffix, "application/octet-stream")}
            body = (ROOT / path[1:]).read_bytes()
        else:
            status, headers, body = 404, {}, b"nothing here"
        request.send_response(status)
        for name, text in ({"Content-Length": str(len(body))} | headers).items():
            request.send_header(name, text)
        request.end_headers()
        try:
            request.wfile.write(body)
        except ConnectionError:  # whoever asked has gone
            request.close_connection = True
        if "Content-Length" in headers:  # which promises more than there is
            request.close_connection = True


@contextmanager
def serving() -> Iterator[Site]:
    """A site while the block runs."""
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
