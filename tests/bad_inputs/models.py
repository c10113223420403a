"""ONNX files that are none, or that contradict themselves."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..cli.conftest import small_model
from ..hostile.make import graph, nested
from .case import Case, Place

ESCAPE = "\x1b[2J\x1b]0;owned\x07\r\nerror: nothing is wrong\x00\x9b31m"
"""Clears a terminal, renames its window, fakes a line."""


def raw(place: Place, content: bytes | str) -> list[object]:
    return place.compress(place.write("bad.onnx", content))


def folder(place: Place) -> list[object]:
    (place.folder / "bad.onnx").mkdir()
    return place.compress(place.folder / "bad.onnx")


def circle(place: Place) -> list[object]:
    (place.folder / "bad.onnx").symlink_to("bad.onnx")
    return place.compress(place.folder / "bad.onnx")


def external(place: Place, **entries: str) -> list[object]:
    """The good model, its first weight (864 bytes) in another file."""
    place.write("weights.bin", bytes(864))

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in entries.items():
            tensor.external_data.add(key=key, value=text)

    return place.changed(change)


def cyclic(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "y"


def unwritten(name: str) -> object:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].input[0] = name

    return change


def written_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "conv"


def same_name(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].name = model.graph.initializer[0].name


def tensor(*, dims: tuple[int, ...] | None = None, data: bytes | None = None, kind: int | None = None) -> object:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        if dims is not None:
            weight.ClearField("dims")
            weight.dims.extend(dims)
        if data is not None:
            weight.raw_data = data
        if kind is not None:
            weight.data_type = kind

    return change


def weight_of(shape: tuple[int, ...]) -> object:
    def change(model: onnx.ModelProto) -> None:
        found = next(t for t in model.graph.initializer if t.name == "fc.weight")
        found.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), "fc.weight"))

    return change


def set_opset(version: int) -> object:
    return lambda model: setattr(model.opset_import[0], "version", version)


def operator(name: str, *inputs: str, **attributes: object) -> object:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].CopyFrom(helper.make_node(name, inputs or ["conv"], ["relu"], **attributes))

    return change


def no_utf8() -> bytes:
    return small_model().SerializeToString().replace(b"conv.bias", b"conv\xff\xfeias")


CASES = [
    Case("a model that is not there", 2, "bad.onnx: no such file", lambda p: p.compress(p.folder / "bad.onnx")),
    Case("a folder for a model", 2, "bad.onnx: is not a file .give", folder),
    Case("a link to itself for a model", 2, "bad.onnx", circle),
    Case("an empty model", 3, "bad.onnx: not an ONNX model", lambda p: raw(p, b"")),
    Case("random bytes for a model", 3, "not an ONNX model", lambda p: raw(p, np.random.default_rng(0).bytes(4096))),
    Case("a text for a model", 3, "not an ONNX model", lambda p: raw(p, "import torch\n")),
    Case("a page of HTML for a model", 3, "not an ONNX", lambda p: raw(p, "<!DOCTYPE html><html>404</html>")),
    Case("a pointer of Git LFS", 3, "not an ONNX", lambda p: raw(p, "version https://git-lfs.github.com/spec/v1\n")),
    Case("a .cwb file for a model", 3, "not an ONNX model", lambda p: p.compress(p.cwb)),
    Case("a model cut in the middle", 3, "not an ONNX", lambda p: raw(p, small_model().SerializeToString()[:9000])),
    Case("a name that is no UTF-8", 3, "bad.onnx", lambda p: raw(p, no_utf8())),
    Case(
        "a model without a graph",
        3,
        "holds no graph",
        lambda p: raw(p, onnx.ModelProto(ir_version=8).SerializeToString()),
    ),
    Case(
        "IR version 999", 3, "IR version 999.*pip install", lambda p: p.changed(lambda m: setattr(m, "ir_version", 999))
    ),
    Case("no IR version", 3, "bad.onnx", lambda p: p.changed(lambda m: m.ClearField("ir_version"))),
    Case("operator set 999", 3, "strict.*999", lambda p: [*p.changed(set_opset(999)), "--strict"], warned=True),
    Case("no operator set", 3, "bad.onnx", lambda p: p.changed(lambda m: m.ClearField("opset_import"))),
    Case("a graph in a circle", 3, "bad.onnx", lambda p: p.changed(cyclic)),
    Case("a value that nobody writes", 3, "nobody", lambda p: p.changed(unwritten("nobody"))),
    Case("a value written twice", 3, "bad.onnx", lambda p: p.changed(written_twice)),
    Case("two constants of one name", 3, "conv.weight", lambda p: p.changed(same_name)),
    Case(
        "a graph without outputs",
        3,
        "strict",
        lambda p: [*p.changed(lambda m: m.graph.ClearField("output")), "--strict"],
        warned=True,
    ),
    Case("an operator that does not exist", 3, "Explode", lambda p: p.changed(operator("Explode"))),
    Case("an operator without inputs", 3, "bad.onnx", lambda p: p.changed(operator("Conv", "conv"))),
    Case("an attribute of another type", 3, "bad.onnx", lambda p: p.changed(operator("LeakyRelu", alpha="x"))),
    Case(
        "shapes that do not go together",
        3,
        "strict.*431",
        lambda p: [*p.changed(weight_of((10, 431))), "--strict"],
        warned=True,
    ),
    Case("10^18 elements and no data", 3, "conv.weight", lambda p: p.changed(tensor(dims=(10**9, 10**9), data=b""))),
    Case("2^64 elements by wrapping", 3, "conv.weight", lambda p: p.changed(tensor(dims=(2**32, 2**32, 2, 3)))),
    Case("a negative dimension", 3, "conv.weight", lambda p: p.changed(tensor(dims=(-12, 2, 3, 3)))),
    Case("a tensor a byte short", 3, "conv.weight", lambda p: p.changed(tensor(data=bytes(863)))),
    Case("an element type that does not exist", 3, "conv.weight", lambda p: p.changed(tensor(kind=99))),
    Case("10,000 nested graphs", 3, "not an ONNX model", lambda p: raw(p, graph(nested(10_000)))),
    Case("external data that is missing", 3, "missing.bin.*missing", lambda p: external(p, location="missing.bin")),
    Case("external data up the tree", 3, "outside the model's folder", lambda p: external(p, location="../secret")),
    Case("external data by an absolute path", 3, "outside", lambda p: external(p, location="/etc/hostname")),
    Case("external data without a place", 3, "outside the model's", lambda p: external(p)),
    Case("external data with an escape", 3, r"\\x1b", lambda p: external(p, location=ESCAPE)),
    Case("external data of another length", 3, "needs 864", lambda p: external(p, location="weights.bin", length="9")),
    Case("external data beyond the end", 3, "offset 4", lambda p: external(p, location="weights.bin", offset="4")),
    Case("an offset that is a word", 3, "not a number", lambda p: external(p, location="weights.bin", offset="x")),
    Case("a terminal's commands as a name", 3, r"\\x1b", lambda p: p.changed(unwritten(ESCAPE))),
    Case("a name of 10,000 letters", 3, "bad.onnx", lambda p: p.changed(unwritten("n" * 10_000))),
    Case("a name with a right-to-left mark", 3, r"\\u202e", lambda p: p.changed(unwritten("a\u202eb"))),
]
