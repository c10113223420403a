"""A page's way to a model: .cwb against the float file under brotli, in a headless Chromium on this machine.

Synthetic networks of 1, 20 and 80 million weights (Gaussian, 15 levels), by both coders. Bytes are those that come over
the wire; seconds those from the first byte to the model's in memory, everything checked, without a network in between:
decoding, or the browser's decompression. Their quotient is the speed of a connection at which both take equally long: on
slower ones the .cwb file is there first. Brotli compresses at quality 5 (11 takes many minutes, and gains 1 % more).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import cerwu_onnx

from .. import browser
from ..js.site import JS, PAGE, ROOT, RUNTIME, Site, build, serving

SIZES = ((4, 512), (20, 1024), (80, 1024))
"""Matrices, and their rows and columns: 1, 20 and 80 million weights."""

BROTLI = """
const [source, target, quality] = process.argv.slice(1);
const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: +quality, [zlib.constants.BROTLI_PARAM_LGWIN]: 24 };
stream.pipeline(fs.createReadStream(source), zlib.createBrotliCompress({ params }), fs.createWriteStream(target), (error) => {
    if (error) throw error;
});
"""

UNPACK = """
(async () => {
    const bytes = await (await fetch('%s')).arrayBuffer();
    const times = [];
    for (let run = 0; run < %d; run++) {
        const begin = performance.now();
        await doors.cwb.unpackCwb(bytes, { workers: %d });
        times.push(performance.now() - begin);
    }
    return Math.min(...times) / 1000;
})()
"""

FETCH = """
(async () => {
    const times = [];
    for (let run = 0; run < %d; run++) {
        const begin = performance.now();
        await (await fetch('%s', { cache: 'no-store' })).arrayBuffer();
        times.push(performance.now() - begin);
    }
    return Math.min(...times) / 1000;
})()
"""


def run(console: Console) -> None:
    """Print a row for each size and way."""
    found = browser.find()
    missing = build() or (None if found else "no Chromium: install chromium")
    if missing or not found:
        console.print(f"web: {missing}")
        return
    table = Table("weights", "as", "MB", "seconds", "M weights/s", "first below, Mbit/s", title="In a page")
    with tempfile.TemporaryDirectory(prefix="cerwu-web-") as name, serving() as site:
        folder = Path(name)
        with browser.tab(found, folder / "profile") as tab:
            for count, side in SIZES:
                for row in rows(folder, site, tab, count, side):
                    table.add_row(*row)
    console.print(table)
    runtime = JS / "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
    packed = subprocess.check_output(["node", "-p", "zlib.brotliCompressSync(fs.readFileSync(process.argv[1])).length", runtime])
    console.print(
        f"onnxruntime-web's own WebAssembly: {runtime.stat().st_size / 1e6:.1f} MB, {int(packed) / 1e6:.1f} MB under brotli"
    )


def rows(folder: Path, site: Site, tab: browser.Tab, count: int, side: int) -> list[list[str]]:
    """The rows of one network."""
    path, squeezed = folder / "model.onnx", folder / "model.br"
    onnx.save(network(count, side), path)
    subprocess.run(["node", "--eval", BROTLI, path, squeezed, "5"], check=True)
    weights, repeats = count * side * side, 3 if count < 80 else 1
    body = squeezed.read_bytes()
    site.answers["/model.onnx"] = (200, {"Content-Encoding": "br"}, body)
    tab.open(site.address + PAGE, width=800)
    inflated = tab.evaluate(FETCH % (repeats, "/model.onnx"))
    found = [[f"{weights / 1e6:.0f} M", "float, brotli", f"{len(body) / 1e6:.2f}", f"{inflated:.2f}", "", ""]]
    for coder in ("ans", "adaptive"):
        packed = folder / "model.cwb"
        settings = cerwu_onnx.Settings(method="rtn", levels=15, coder=coder)
        cerwu_onnx.compress(path, packed, settings=settings, force=True)
        site.answers["/model.cwb"] = (200, {}, packed.read_bytes())
        size = packed.stat().st_size
        for workers in (0, 2):
            tab.open(site.address + PAGE, width=800)
            seconds = tab.evaluate(UNPACK % ("/model.cwb", repeats, workers))
            saved, longer = len(body) - size, seconds - inflated
            below = f"{8e-6 * saved / longer:,.0f}" if longer > 0 else "any"
            how = f".cwb, {coder}, {workers} workers" if workers else f".cwb, {coder}, this thread"
            found.append(["", how, f"{size / 1e6:.2f}", f"{seconds:.2f}", f"{weights / seconds / 1e6:,.0f}", below])
    return found


def network(count: int, side: int) -> onnx.ModelProto:
    """Matrices one after the other."""
    random = np.random.default_rng(0)
    scale = np.float32(side**-0.5)
    tensors = [
        numpy_helper.from_array(random.standard_normal((side, side), np.float32) * scale, f"w{i}") for i in range(count)
    ]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    value = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, side])
    output = helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, [1, side])
    graph = helper.make_graph(nodes, "matrices", [value], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
