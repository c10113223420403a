"""A page's way to a model: .cwb against the float file under brotli, in Node and in a headless Chromium.

Synthetic networks of 1, 20 and 80 million weights (Gaussian, 15 levels), by both coders. Bytes are those that come over
the wire. Seconds are those from the compressed file in memory to the model in memory, everything checked: of the
processor, by one thread of Node, so that other work on the machine counts little; and on the clock in a page, where the
float file's are those of a `fetch` from this machine. The .cwb file is there first on all connections, or on those that
are slower than the last column says: the bytes that it saves, over the processor's seconds that it takes longer.

Brotli compresses at quality 5 (11 takes many minutes, and gains 1 % more).
"""

from __future__ import annotations

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
from ..js.site import JS, PAGE, Site, build, serving

SIZES = ((4, 512), (20, 1024), (80, 1024))
"""Matrices, and their rows and columns: 1, 20 and 80 million weights."""

BROTLI = """
const [source, target, quality] = process.argv.slice(1);
const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: +quality, [zlib.constants.BROTLI_PARAM_LGWIN]: 24 };
const done = (error) => { if (error) throw error; };
stream.pipeline(fs.createReadStream(source), zlib.createBrotliCompress({ params }), fs.createWriteStream(target), done);
"""

THREAD = """
import { readFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';
import { unpackCwb } from 'cerwu-onnx';
const bytes = readFileSync(process.argv[1]);
const times = [];
for (let run = 0; run < +process.argv[2]; run++) {
    const begin = process.cpuUsage();
    if (process.argv[1].endsWith('.br')) brotliDecompressSync(bytes);
    else await unpackCwb(bytes, { workers: 0 });
    const { user, system } = process.cpuUsage(begin);
    times.push((user + system) / 1e6);
}
console.log(Math.min(...times));
"""

PAGE_SECONDS = """
(async () => {
    const bytes = %(workers)s === null ? null : await (await fetch('%(address)s')).arrayBuffer();
    const times = [];
    for (let run = 0; run < %(repeats)d; run++) {
        const begin = performance.now();
        if (bytes) await doors.cwb.unpackCwb(bytes, { workers: %(workers)s });
        else await (await fetch('%(address)s', { cache: 'no-store' })).arrayBuffer();
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
    columns = (
        "weights",
        "as",
        "MB",
        "MB with runtime",
        "CPU s",
        "M weights/CPU s",
        "first below",
        "page s",
        "2 workers",
    )
    table = Table(*columns, title="On the way")
    module = JS / "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
    script = "zlib.brotliCompressSync(fs.readFileSync(process.argv[1])).length"
    runtime = int(subprocess.check_output(["node", "--print", script, module]))
    with tempfile.TemporaryDirectory(prefix="cerwu-web-") as name, serving() as site:
        folder = Path(name)
        with browser.tab(found, folder / "profile") as tab:
            for count, side in SIZES:
                for row in rows(folder, site, tab, count, side, runtime):
                    table.add_row(*row)
    console.print(table)
    sizes = f"{module.stat().st_size / 1e6:.1f} MB, {runtime / 1e6:.1f} MB under brotli"
    console.print(f"runtime: the WebAssembly of onnxruntime-web, {sizes}")


def rows(folder: Path, site: Site, tab: browser.Tab, count: int, side: int, runtime: int) -> list[list[str]]:
    """The rows of one network."""
    path, squeezed = folder / "model.onnx", folder / "model.br"
    onnx.save(network(count, side), path)
    subprocess.run(["node", "--eval", BROTLI, path, squeezed, "5"], check=True)
    weights, repeats, body = count * side * side, 5 if count < 80 else 2, squeezed.read_bytes()
    site.answers["/model.onnx"] = (200, {"Content-Encoding": "br"}, body)
    inflated = thread(squeezed, repeats)
    size_texts = (f"{len(body) / 1e6:.2f}", f"{(len(body) + runtime) / 1e6:.1f}")
    time_texts = (f"{inflated:.2f}", "", "", f"{in_page(site, tab, '/model.onnx', repeats, 'null'):.2f}", "")
    found = [[f"{weights / 1e6:.0f} M", "float, brotli", *size_texts, *time_texts]]
    for coder in ("ans", "adaptive"):
        packed = folder / "model.cwb"
        settings = cerwu_onnx.Settings(method="rtn", levels=15, coder=coder)
        cerwu_onnx.compress(path, packed, settings=settings, force=True)
        site.answers["/model.cwb"] = (200, {}, packed.read_bytes())
        size, seconds = packed.stat().st_size, thread(packed, repeats)
        below = f"{8e-6 * (len(body) - size) / (seconds - inflated):,.0f} Mbit/s" if seconds > inflated else "always"
        clock = [f"{in_page(site, tab, '/model.cwb', repeats, workers):.2f}" for workers in "02"]
        size_texts = (f"{size / 1e6:.2f}", f"{(size + runtime) / 1e6:.1f}")
        found.append(
            ["", f".cwb, {coder}", *size_texts, f"{seconds:.2f}", f"{weights / seconds / 1e6:,.0f}", below, *clock]
        )
    return found


def thread(file: Path, repeats: int) -> float:
    """Seconds of the processor, the least of some runs."""
    command = ["node", "--input-type=module", "--eval", THREAD, "--", str(file), str(repeats)]
    return float(subprocess.check_output(command, cwd=JS))


def in_page(site: Site, tab: browser.Tab, address: str, repeats: int, workers: str) -> float:
    """Seconds on the clock in a page, the least of some runs; `workers` is null for a file that the browser decodes."""
    tab.open(site.address + PAGE, width=800)
    return float(tab.evaluate(PAGE_SECONDS % {"address": address, "repeats": repeats, "workers": workers}))


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
