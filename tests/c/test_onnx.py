"""The graph in C: byte for byte what Python gives, under sanitizers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.packed import STORED, unpack
from cerwu_onnx.model.tensors import subgraph_reads

from ..compat import forms, quantised, values
from ..compat.case import Skipped
from ..compression.test_deltas import LAMBDA, moved, network
from ..fuzz import graph as mutants
from ..fuzz.reader import exact_file, join, parts, typed_model, with_payload
from ..hostile.make import Case, cases
from .conftest import DECODER, ROOT, Compile
from .onnx_library import LIBRARY, SOURCES, Given, given_by_c, given_by_python

GOLDEN = sorted((ROOT / "tests/golden").rglob("*.cwb"))
REAL = sorted((ROOT.parent / "shared" / "models").glob("*/model.onnx"))
GRAPHS = {case.name: case for part in (forms, quantised, values) for case in part.cases()}
SLOW = re.compile("MatMulNBits|QDQ|weights: ")
"""Graphs that take long to make, or differ from others in their numbers only."""


@pytest.fixture(scope="session")
def program(compile_c: Compile) -> Path:
    return compile_c("onnx", "-Wall", "-Wextra", "-Werror", *SOURCES)


def check(program: Path, files: list[tuple[bytes, bytes]], least: int = 64) -> list[Given]:
    """Hold the library against Python: equal bytes, or an error of both. The library does not read metadata."""
    found = given_by_c(program, files, least)
    for (file, base), given in zip(files, found, strict=True):
        expected = given_by_python(file, base, least)
        if not expected.error.startswith("metadata section"):
            assert bool(given.error) == bool(expected.error), (given.error, expected.error)
            assert given.model == expected.model
            assert given.model or given.tensors == expected.tensors
    return found


def stored(data: bytes) -> bytes:
    """The file with a graph section that is not packed: unpacking takes long under sanitizers."""
    records, payloads = parts(data)
    (index,) = (i for i, record in enumerate(records) if record.kind is f.Kind.GRAPH)
    return with_payload(data, index, STORED + unpack(payloads[index], 2**31))


def test_golden_files(program: Path) -> None:
    """Of kinds.cwb, which has a text in place of a graph, the tensors."""
    files = []
    for path in GOLDEN:
        data, base = path.read_bytes(), b""
        if path.name == "delta.cwb":
            base = path.with_name("base.cwb").read_bytes()
        elif path.name == "kinds.cwb":
            records, payloads = parts(data)
            kept = [i for i, record in enumerate(records) if record.kind is not f.Kind.GRAPH]
            data = join([records[i].to_bytes() for i in kept], [payloads[i] for i in kept], data[4])
        files.append((data, base))
    assert not any(given.error for given in check(program, files))


def test_graphs_of_every_kind(program: Path, tmp_path: Path) -> None:
    """The models of the compatibility bench, compressed without data."""
    files = []
    for name, case in GRAPHS.items():
        if SLOW.search(name):
            continue
        try:
            model = case.make().model
        except Skipped:
            continue
        path = model if isinstance(model, Path) else tmp_path / "model.onnx"
        if isinstance(model, onnx.ModelProto):
            for left in tmp_path.glob("*"):
                left.unlink()
            onnx.save(model, path)
        cerwu_onnx.compress(path, tmp_path / "model.cwb", force=True)
        files.append((stored((tmp_path / "model.cwb").read_bytes()), b""))
    assert len(files) > 50
    for given in check(program, files):
        assert given.model
        check_read(given)


def check_read(given: Given) -> None:
    """Those initializers are read that onnxruntime does not leave out."""
    assert given.model
    model = onnx.ModelProto.FromString(given.model[0])
    read = {value.name for value in model.graph.output}.union(
        *({*node.input, *subgraph_reads(node)} for node in model.graph.node)
    )
    stored = {name for name, *_ in given.tensors}
    names = {tensor.name for tensor in model.graph.initializer}
    assert names & read & stored <= given.read & names
    assert not given.read & names - read, "only what a body hides"


@pytest.mark.parametrize("name", ["fashion_cnn", "fashion_dscnn", "sequence_gru"])
def test_sample_models(program: Path, name: str, tmp_path: Path) -> None:
    cerwu_onnx.compress(ROOT / f"sample_models/{name}/model.onnx", tmp_path / "model.cwb")
    (given,) = check(program, [((tmp_path / "model.cwb").read_bytes(), b"")])
    assert given.model
    assert len(given.model[2]) > 1000


@pytest.mark.skipif(not REAL, reason="no ../shared/models: real models are not part of the repository")
def test_real_models(program: Path, tmp_path: Path) -> None:
    files = []
    for path in REAL:
        cerwu_onnx.compress(path, tmp_path / "model.cwb", settings=Settings(method="rtn"), force=True)
        files.append(((tmp_path / "model.cwb").read_bytes(), b""))
    for given in check(program, files):
        assert given.model
        assert len(given.model[2]) > 1000


def test_weights_only(program: Path, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    cerwu_onnx.compress(tmp_path / "model.onnx", tmp_path / "model.cwb", settings=Settings(weights_only=True))
    (given,) = check(program, [((tmp_path / "model.cwb").read_bytes(), b"")])
    assert given.model is None
    names = {tensor.name for tensor in network().graph.initializer}
    assert {name for name, *_ in given.tensors} == names


def test_deltas(program: Path, tmp_path: Path) -> None:
    base, later = network(), moved(network(), v=0.02)
    onnx.save(base, tmp_path / "base.onnx")
    onnx.save(later, tmp_path / "later.onnx")
    cerwu_onnx.compress(tmp_path / "base.onnx", tmp_path / "base.cwb", settings=LAMBDA)
    cerwu_onnx.compress(tmp_path / "later.onnx", tmp_path / "later.cwb", base=tmp_path / "base.cwb", settings=LAMBDA)
    first, delta = (tmp_path / "base.cwb").read_bytes(), (tmp_path / "later.cwb").read_bytes()
    assert reader.parse(delta, reader.parse(first)).base is not None
    files = [(first, b""), (delta, first), (first, first), (delta, delta), (delta, b"")]
    files += [(delta[:-1], first), (delta, first[:-1]), (delta[:24] + bytes([delta[24] ^ 1]) + delta[25:], first)]
    found = check(program, files)
    assert [not given.error for given in found] == [True, True, *[False] * 6]
    assert found[0].model != found[1].model


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_hostile_files(program: Path, case: Case) -> None:
    check(program, [(case.data, b"")])


def test_mutants(program: Path) -> None:
    """``python -m tests.fuzz --graph`` tries more."""
    assert mutants.compare(program, 0, 600) == []


def test_no_memory(compile_c: Compile) -> None:
    """Each allocation that fails is an error, and leaves nothing behind."""
    program = compile_c("onnx_memory", "-Dmalloc=failing_malloc", ROOT / "tests/c/onnx_memory.c", *LIBRARY)
    for data in (
        stored(exact_file(network())),
        (ROOT / "tests/golden/v1/model.cwb").read_bytes(),
        stored(typed_model()),
    ):
        done = subprocess.run([program], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert int(done.stdout) >= 3


def graph_section(content: bytes) -> writer.Encoded:
    """A graph section that is not packed."""
    payload = STORED + content
    return writer.Encoded(f.Record(f.Kind.GRAPH, 0, len(payload), f.crc32(payload)), payload)


def test_invented_names_differ_from_all_strings(program: Path) -> None:
    """Names of inputs; of outputs whose operator is empty, long, or has letters of several bytes."""
    operators = ["Conv", "", "ä" * 40, "Conv" * 20]
    nodes = [helper.make_node(operator, ["0", "1", "'own"], ["0", "0"]) for operator in operators]
    model = helper.make_model(helper.make_graph(nodes, "", [], []))
    for taken in ("input_1", "Conv_2", "Conv_2_", "'Conv_3", "x_", "Conv_2_" + "_" * 30):
        model.metadata_props.add(key=taken, value="")
    assert not check(program, [(writer.assemble([graph_section(model.SerializeToString())]), b"")])[0].error


def test_fields_are_written_as_protobuf_does(program: Path) -> None:
    """Fields out of order, repeated, unknown, packed or not, of another type, of enums without this number."""
    sound = onnx.ModelProto.FromString(given_by_python(exact_file(network())).model[0])  # type: ignore[index]
    del sound.graph.initializer[:]
    del sound.graph.node[:]
    graph = sound.graph.SerializeToString()
    heads = {
        "twice": b"\x08\x07\x08\x09",
        "unknown": b"\xa2\x06\x03abc" + b"\x08\x07" + b"\x9d\x06abcd" + b"\xa1\x06abcdefgh",
        "another type": b"\x0a\x01a\x10\x01",
        "long numbers": b"\x88\x00\x87\x80\x00",
        "graph in pieces": b"".join(
            b"\x3a" + f.varint(len(part)) + part for part in (b"\x12\x01a", b"\x12\x01b", graph)
        ),
    }
    attributes = {
        "enums": b"\xa0\x01\x63" + b"\xa0\x01\x81\x80\x80\x80\x10",
        "packed": b"\x42\x04\x01\x02\x83\x00",
        "floats": b"\x3a\x08" + b"\1\2\3\4" * 2,
        "half a float": b"\x3a\x07" + b"\1" * 7,
        "half a number": b"\x42\x02\1\x81",
    }
    files = [sound.SerializeToString() + head for head in heads.values()]
    files += [
        b"".join(
            [b"\x3a", f.varint(len(part) + 4), b"\x0a", f.varint(len(part) + 2), b"\x2a", f.varint(len(part)), part]
        )
        for part in attributes.values()
    ]
    files += [b"\x3a\x02\x0a", b"\x07", b"\x00\x01", b"\x88" * 11 + b"\x01", b""]
    found = check(program, [(writer.assemble([graph_section(content)]), b"") for content in files])
    assert sum(not given.error for given in found) >= len(heads) + 2


@pytest.mark.parametrize("element", [1, 10, 11, 16])
def test_rounding(program: Path, element: int) -> None:
    """All float32 numbers near those of float16 and bfloat16, by raw tensors that are to become another type."""
    rng = np.random.default_rng(element)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    some = rng.integers(0, 2**31 - 2**23, 40000, dtype=np.uint32)
    if element == 10:
        some = some[some < 0x47000000]
    bits = np.concatenate([halves.view(np.uint32), middle.view(np.uint32), middle.view(np.uint32) + 1, some])
    bits = bits[bits < 0x7F7F0000]
    numbers = bits.view(np.float32) * rng.choice([-1, 1], bits.size).astype(np.float32)
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.graph.initializer.add(data_location=1, data_type=element)
    tensor = writer.encode_tensor(writer.RawTensor("w", f.ElementType.FLOAT32, numbers))
    sections = [graph_section(model.SerializeToString()), writer.names_section(["w"])]
    (given,) = check(program, [(writer.assemble([tensor, *sections]), b"")])
    assert given.model


def test_texts_and_tables_are_current() -> None:
    spec = importlib.util.spec_from_file_location("make_tables", DECODER / "host/make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.held((DECODER / "host/cwb_texts.c").read_text()) == module.texts(), "run `make amalgamate`"
    assert (DECODER / "host/cwb_crc_tables.h").read_text() == module.crc_tables(), "run `make amalgamate`"


def test_the_schema_is_that_of_onnx() -> None:
    """Fields by message and number, in the order of numbers; of an older onnx, those it has."""
    from google.protobuf import descriptor_pb2

    types = descriptor_pb2.FieldDescriptorProto
    text = (DECODER / "host/cwb_schema.h").read_text()
    rows = re.findall(r"^    \{(\w+), (\d+), ([A-Z0-9_ |]+), (\w+)\},$", text, re.MULTILINE)
    kinds = {
        "INT64": (3, 4),
        "INT32": (5,),
        "LOCATIONS": (14,),
        "ATTRIBUTE_TYPES": (14,),
        "FLOAT": (2,),
        "DOUBLE": (1,),
    }
    kinds |= {"STRING": (9,), "BYTES": (12,), "MESSAGE": (11,)}
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for message, number, kind, inner in rows:
        fields = found.setdefault(message, {})
        assert not fields or max(fields) < int(number)
        fields[int(number)] = (*kind.split(" | "), inner)
    proto = descriptor_pb2.FileDescriptorProto()
    onnx.ModelProto.DESCRIPTOR.file.CopyToProto(proto)
    messages = {m.name: m for top in proto.message_type for m in (top, *top.nested_type)}
    pairs, todo = {"ModelProto": "CWB_MODEL"}, ["ModelProto"]
    while todo:
        name = todo.pop()
        fields = dict(found[pairs[name]])
        for field in messages[name].field:
            kind, *flags, inner = fields.pop(field.number)
            assert field.type in kinds[kind]
            assert ("MANY" in flags) == (field.label == types.LABEL_REPEATED)
            assert ("PACKED" in flags) == field.options.packed
            assert ("EITHER" in flags) == field.HasField("oneof_index")
            if field.type == types.TYPE_MESSAGE:
                other = field.type_name.split(".")[-1]
                if other not in pairs:
                    todo.append(other)
                assert pairs.setdefault(other, inner) == inner
        assert not fields or onnx.__version__ < "1.2"
    assert set(pairs.values()) == set(found)


def test_sources_are_those_of_the_folder() -> None:
    others = {"cwb_columns.c", "cwb_crc.c", "cwb_encode.c", "cwb_host.c", "cwb_search.c"}
    assert {path.name for path in (DECODER / "host").glob("*.c")} - others == {path.name for path in LIBRARY[1:]}
