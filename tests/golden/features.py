"""Which features of the format a file uses: the rows of README.md."""

from __future__ import annotations

import onnx

from cerwu_onnx.container import format as f
from cerwu_onnx.container.payload import exponents_of
from cerwu_onnx.container.reader import Container
from cerwu_onnx.entropy import adaptive

FEATURES = (
    *(f"raw {element.name.lower()}" for element in f.ElementType),
    "raw without elements",
    "scalar",
    *(f"{kind}, form {form}" for kind in ("ans", "adaptive") for form in range(len(f.FORMS))),
    *(
        f"{kind}, form {form}, exponents"
        for kind in ("ans", "adaptive")
        for form in range(f.FIRST_STEPPED, len(f.FORMS))
    ),
    "ans, all zero",
    *(f"ans, {steps}" for steps in ("octaves", "halves of octaves", "quarters of octaves")),
    "adaptive, with contexts",
    "adaptive, without contexts",
    "adaptive, low bits",
    "adaptive, escapes",
    "adaptive, slow learning",
    "adaptive, signs alone",
    "adaptive, signs of neighbours",
    "step of a byte",
    "step of a float32",
    "symbol 2047",
    "index 1023",
    "names section",
    "names before the graph",
    "no names",
    "graph",
    "no graph",
    "metadata",
    "margins",
    "unknown ancillary section",
    "placeholder of float32",
    "placeholder of float16",
    "placeholder of bfloat16",
    "placeholder of float64",
    "placeholder of integers",
    "placeholder of halves of bytes",
    "placeholder in a Constant node",
    "mask of parameters",
    "mask of tables",
    "base section",
    "changed coded tensor of a base",
    "unchanged coded tensor of a base",
    "unchanged exact tensor of a base",
)


def features(container: Container) -> set[str]:
    """Those of :data:`FEATURES` that a file uses."""
    found = {feature for record in container.tensors for feature in _of_tensor(container, record)}
    kinds = {record.kind for record in container.records}
    has_graph = f.Kind.GRAPH in kinds
    names = "names section" if f.Kind.NAMES in kinds else "names before the graph" if has_graph else "no names"
    found |= {names, "graph" if has_graph else "no graph"}
    found |= {kind.name.lower() for kind in (f.Kind.METADATA, f.Kind.MARGINS) if kind in kinds}
    found |= {"base section" for kind in kinds if kind is f.Kind.BASE}
    found |= {"unknown ancillary section" for kind in kinds if kind.name.startswith("ANCILLARY")}
    masks = {"params": "mask of parameters", "tables": "mask of tables"}
    found |= {feature for key, feature in masks.items() if key in container.metadata()}
    return found | (_of_graph(container.graph() or b""))


def _of_tensor(container: Container, record: f.Record) -> set[str]:
    found = {"scalar"} if not record.shape else set()
    if record.kind is f.Kind.RAW:
        return (
            found | {f"raw {record.element.name.lower()}"} | ({"raw without elements"} if not record.count else set())
        )
    coder = record.kind.name.lower()
    if record.base is not None:
        return found | {f"{coder} {'coded' if record.base.is_coded else 'exact'} tensor of a base"}
    form = f"{coder}, form {f.form_number(record.order, record.run, record.shape)}"
    found.add(f"{form}, exponents" if record.stepped else form)
    payload = container.payload(record)
    payload = payload[exponents_of(record, payload)[1] if record.stepped else 0 :]
    found.add("step of a byte" if f.step_bytes(record.step)[0] else "step of a float32")
    found |= {"index 1023" if record.run else "symbol 2047"} if record.largest >= 2046 else set()
    if coder == "ans":
        steps = ("octaves", "halves of octaves", "quarters of octaves")
        return found | {f"ans, {steps[payload[0] & 3]}" if record.reach else "ans, all zero"}
    header = int.from_bytes(payload[:2], "big")
    low = header >> 4 & 7
    found.add(f"adaptive, {'with' if header >> 15 else 'without'} contexts")
    found |= {"adaptive, low bits"} if low else set()
    found |= {"adaptive, slow learning"} if header >> 14 & 1 else set()
    found |= {"adaptive, signs alone" if header & 15 else "adaptive, signs of neighbours"}
    return found | ({"adaptive, escapes"} if record.reach >> low >= adaptive.BINS else set())


def _of_graph(graph: bytes) -> set[str]:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except Exception:  # kinds.cwb has a text in its place
        return set()
    constants = [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute]
    found = {"placeholder in a Constant node"} if any(_is_placeholder(tensor) for tensor in constants) else set()
    for tensor in (*model.graph.initializer, *constants):
        if _is_placeholder(tensor):
            kind = onnx.TensorProto.DataType.Name(tensor.data_type or onnx.TensorProto.FLOAT).lower()
            floats = ("double", "float", "float16", "bfloat16")
            names = dict(zip(floats, ("float64", "float32", "float16", "bfloat16"), strict=True))
            other = "halves of bytes" if tensor.dims else "integers"
            found.add(f"placeholder of {names.get(kind, other)}")
    return found


def _is_placeholder(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL and not tensor.external_data


def table(files: dict[str, Container]) -> str:
    """The table of README.md: each feature, and the files that have it."""
    having = {name: features(container) for name, container in files.items()}
    rows = [
        f"| {feature} | {', '.join(name for name, those in having.items() if feature in those) or 'none'} |"
        for feature in FEATURES
    ]
    return "\n".join(["| feature | files |", "|---|---|", *rows]) + "\n"
