"""What large models need: peak memory and time to compress, verify and decompress one of several gigabytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

WIDTH = 2048
ROWS = 4096
METHOD = "rtn"


def make_model(path: Path, gigabytes: float) -> int:
    """A chain of matrix products whose float32 weights are in one file beside the model; bytes of the weights."""
    rng = np.random.default_rng(0)
    layers = max(1, round(gigabytes * 1e9 / (4 * WIDTH * WIDTH)) - ROWS // WIDTH)
    graph = onnx.GraphProto(name="large")
    graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 4]))
    graph.output.append(helper.make_tensor_value_info(f"h{layers}", TensorProto.FLOAT, ["N", 4, WIDTH]))
    graph.node.append(helper.make_node("Gather", ["table", "ids"], ["h0"]))
    noise = rng.standard_normal((ROWS, WIDTH), np.float32) / np.float32(WIDTH**0.5)
    with Path(f"{path}.data").open("wb") as stream:
        for index in range(-1, layers):
            name, weight = (f"w{index}", np.roll(noise[:WIDTH], index, 0)) if index >= 0 else ("table", noise)
            tensor = graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=weight.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", f"{path.name}.data"), ("offset", stream.tell()), ("length", weight.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            stream.write(weight.tobytes())
            if index >= 0:
                graph.node.append(helper.make_node("MatMul", [f"h{index}", name], [f"h{index + 1}"], name=f"mm{index}"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return Path(f"{path}.data").stat().st_size


def measure(*arguments: object) -> tuple[float, float]:
    """Run a command of the tool in a process of its own; its seconds and its peak memory in gigabytes."""
    start = time.perf_counter()
    code = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run([sys.executable, '-m', 'cerwu_onnx.cli', *sys.argv[1:]]).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr}")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, int(done.stdout.splitlines()[-1]) * scale / 1e9


def run(console: Console, gigabytes: float) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="cerwu-memory-") as name:
        folder = Path(name)
        model, file, back = (folder / part for part in ("model.onnx", "model.cwb", "back.onnx"))
        size = make_model(model, gigabytes)
        stages = {
            "compress": ("compress", model, file, "--method", METHOD, "-q"),
            "verify": ("verify", file),
            "decompress": ("decompress", file, back, "--external-data"),
        }
        table = Table("stage", "seconds", "peak memory, GB", title=f"{size / 1e9:.2f} GB of float32 weights, {METHOD}")
        for stage, arguments in stages.items():
            seconds, peak = measure(*arguments)
            table.add_row(stage, f"{seconds:.0f}", f"{peak:.2f}")
        console.print(table)
        console.print(
            f"file: {file.stat().st_size / 1e6:.1f} MB; rebuilt: {Path(f'{back}.data').stat().st_size / 1e9:.2f} GB"
        )
