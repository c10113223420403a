"""What calibration needs where layers are wide, and where weights are more than memory: peak memory, blocks, time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from .memory import measure

LAYERS = ((4_096, "4GiB"), (16_384, "4GiB"))
"""Columns of a layer, and what --memory allows."""

ROWS, SAMPLES = 256, 512

WIDTH, INNER, STREAMED = 1024, 8192, "1GiB"
"""Of the blocks of a model whose weights are in a file beside it, and what --memory allows while it is walked."""

GIGABYTES = 1.5
"""Of these weights, unless fewer are asked for."""

WALK = """
import resource, sys
import numpy as np
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.calibration import model_inputs, open_source, walk
from cerwu_onnx.model.graph import analyse, load_model
graph, memory = memory_budget.with_blocks(analyse(load_model(sys.argv[1])), int(sys.argv[2])), int(sys.argv[2])
x = np.random.default_rng(0).normal(size=(64, int(sys.argv[3]))).astype(np.float32)
source = open_source({"x": x}, model_inputs(graph.model))
for step in walk(graph, source, memory=memory_budget.activations(memory), folds=2):
    for layer in step.layers:
        step.commit({layer.weight: np.round(graph.array(layer.weight), 2)})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""Statistics of all layers, each rounded before the next: all but what quantising one of them needs."""


def run(console: Console, gigabytes: float) -> None:
    """Print two tables."""
    table = Table(
        "columns", "--memory", "blocks", "seconds", "peak memory, GB", title=f"one layer of {ROWS} rows, trellis"
    )
    with tempfile.TemporaryDirectory(prefix="cerwu-wide-") as name:
        for columns, memory in LAYERS:
            model, calib, file, report = (Path(name) / part for part in ("m.onnx", "c.npz", "m.cwb", "r.json"))
            _make_layer(model, calib, columns)
            words = ("compress", "-q", "-f", model, file, "--calib", calib, "--memory", memory, "--report", report)
            seconds, peak = measure(*words)
            blocks = json.loads(report.read_text())["layers"][0]["blocks"]
            table.add_row(f"{columns:,}", memory, str(blocks), f"{seconds:.0f}", f"{peak:.2f}")
        console.print(table)
        model = Path(name) / "stream.onnx"
        size = _make_stack(model, gigabytes)
        start = time.perf_counter()
        line = [sys.executable, "-c", WALK, str(model), str(1 << 30), str(WIDTH)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
    scale = 1 if sys.platform == "darwin" else 1024
    console.print(
        f"walk over {size / 1e9:.2f} GB of weights in a file beside the model, --memory {STREAMED}: {seconds:.0f} s, "
        f"peak memory {int(done.stdout) * scale / 1e9:.2f} GB"
    )


def _make_layer(model: Path, calib: Path, columns: int) -> None:
    """One matrix product, and correlated inputs for it."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(columns, ROWS)).astype(np.float32) / np.float32(columns**0.5)
    mixed = rng.normal(size=(SAMPLES, columns)).astype(np.float32)
    mixed[:, 1:] += mixed[:, :-1]
    np.savez(calib, x=mixed)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="wide")],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", ROWS])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)


def _make_stack(path: Path, gigabytes: float) -> int:
    """Blocks of a transformer without attention: normalised, widened, narrowed, added; bytes of the weights."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((WIDTH, INNER), np.float32) / np.float32(WIDTH**0.5)
    blocks = max(1, round(gigabytes * 1e9 / (8 * WIDTH * INNER)))
    graph = onnx.GraphProto(name="stack")
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH]))
    graph.output.append(helper.make_tensor_value_info(f"x{blocks}", TensorProto.FLOAT, ["N", WIDTH]))
    graph.initializer.extend(numpy_helper.from_array(np.ones(WIDTH, np.float32), name) for name in ("one",))
    node = helper.make_node
    with Path(f"{path}.data").open("wb") as stream:
        for index in range(blocks):
            inside = "x" if index == 0 else f"x{index}"
            for name, weight in (
                (f"up{index}", np.roll(noise, index, 0)),
                (f"down{index}", np.roll(noise, index, 0).T),
            ):
                tensor = graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=weight.shape)
                tensor.data_location = TensorProto.EXTERNAL
                where = (("location", f"{path.name}.data"), ("offset", stream.tell()), ("length", weight.nbytes))
                for key, value in where:
                    tensor.external_data.add(key=key, value=str(value))
                stream.write(np.ascontiguousarray(weight).tobytes())
            graph.node.extend(
                [
                    node("LayerNormalization", [inside, "one"], [f"n{index}"]),
                    node("MatMul", [f"n{index}", f"up{index}"], [f"u{index}"], name=f"up{index}"),
                    node("Relu", [f"u{index}"], [f"r{index}"]),
                    node("MatMul", [f"r{index}", f"down{index}"], [f"d{index}"], name=f"down{index}"),
                    node("Add", [inside, f"d{index}"], [f"x{index + 1}"]),
                ]
            )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return Path(f"{path}.data").stat().st_size
