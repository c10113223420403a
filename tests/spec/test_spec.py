"""The specification as a program reads the golden files, and imports nothing of the package."""

from __future__ import annotations

import ast
import base64
import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

from . import container, graph, packed
from .refused import Refused

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
VERSIONS = ("v1", "v2")


def test_it_is_independent() -> None:
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert node.level <= 1
            else:
                continue
            assert not any(name.startswith("cerwu_onnx") for name in names), path


@pytest.mark.parametrize("name", ["v1/kinds", "v1/forms", "v2/kinds", "v2/forms", "v2/delta"])
def test_values_of_golden_files(name: str) -> None:
    base = (GOLDEN / "v2" / "base.cwb").read_bytes() if name.endswith("delta") else None
    file = container.read((GOLDEN / f"{name}.cwb").read_bytes(), base)
    file.check()
    expected = np.load(GOLDEN / f"{name}.npz")
    names = file.names() or [f"arr_{i}" for i in range(len(file.tensors))]
    assert set(names) == set(expected.files)
    for changed, tensor in zip(file.tensors, names, strict=True):
        record = file.in_base(changed)
        content = record.payload
        if record.is_coded:
            values = file.values(changed)
            content = struct.pack(f"<{len(values)}f", *values)
        assert content == expected[tensor].tobytes(), tensor
        assert tuple(record.dims) == expected[tensor].shape


@pytest.mark.parametrize("version", VERSIONS)
def test_model_of_the_golden_file(version: str) -> None:
    file = container.read((GOLDEN / version / "model.cwb").read_bytes())
    found, expected = graph.model(file), onnx.load(GOLDEN / version / "model.onnx")
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in expected.graph.node]
    assert file.margins() == [0] * 7
    tensors = {tensor.name: tensor for tensor in expected.graph.initializer}
    for tensor in found.graph.initializer:
        ours, theirs = onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(tensors[tensor.name])
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes()), tensor.name


@pytest.mark.parametrize("position", range(0, 3000, 97))
def test_damage_is_refused(position: int) -> None:
    data = bytearray((GOLDEN / "v2" / "model.cwb").read_bytes())
    data[position] ^= 1 << position % 8
    with pytest.raises(Refused):
        read_all(bytes(data))


def read_all(data: bytes) -> None:
    file = container.read(data)
    file.check()
    for record in file.tensors:
        if record.is_coded:
            file.symbols(record)


def test_packed_sections() -> None:
    vectors = json.loads((GOLDEN / "packed.json").read_text())
    for pair in vectors.values():
        content, payload = map(base64.b64decode, pair)
        assert packed.unpack(payload, len(content)) == content
        for wrong, most in ((payload, len(content) - 1), (payload + b"\0", len(content)), (b"\x80\0" + payload, 2**31)):
            with pytest.raises(Refused):
                packed.unpack(wrong, most)
