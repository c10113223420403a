"""Contents of packed sections, and their payloads: ``python -m tests.golden.packed`` writes packed.json."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from cerwu_onnx.container import packed

FILE = Path(__file__).parent / "packed.json"


def contents() -> dict[str, bytes]:
    """By name."""
    nodes = [
        helper.make_node("Conv", ["1", "+", "+"], ["0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["1"], ["0"]),
        helper.make_node("Reshape", ["1", "+"], ["0"], allowzero=0),
        helper.make_node("Custom", ["1"], ["4"], domain="example", text="what nobody has read before"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 32]) for name in ("input", "output")]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [-1, 2**40, 1])
    graph = helper.make_graph(nodes, "", values[:1], values[1:], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = b"\x0bconv.weight\x09conv.bias\x08fc.w\xc3\xa9te"
    return {
        "empty": b"",
        "byte": b"\n",
        "metadata": b'{"lambda":0.002,"method":"cerwu","model":"fedcba9876543210","tool":"cerwu-onnx 9.9"}',
        "names": names,
        "graph": names + model.SerializeToString(deterministic=True),
        "zeros": bytes(1000),
        "noise": np.random.Generator(np.random.PCG64(7)).bytes(64),
        "messages": b"\x08\x08"
        + b"\x3a\x7f\x0a\x7f\x2a\x7f\x32\x7f" * 12
        + b"\x0a\xff\xff\xff\xff\xff\xff\x01ab\x0d\x12\x09",
    }


def main() -> None:
    vectors = {
        name: [b64encode(part).decode() for part in (content, packed.pack(content))]
        for name, content in contents().items()
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
