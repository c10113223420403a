"""The command ``cerwu-onnx inspect``: show what a .cwb file or an ONNX model holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerwu_onnx.errors import ModelError, UsageError

from . import console
from .options import AsJson, BaseFile, Verbose
from .tensor_rows import tensor_rows

if TYPE_CHECKING:
    from cerwu_onnx.config import Settings
    from cerwu_onnx.model.graph import Graph

EXAMPLE = "cerwu-onnx inspect model.onnx"


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="An ONNX model or a .cwb file.")],
    base: BaseFile = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show what a .cwb file or an ONNX model holds.

    For a model, shows which weights compress would quantise, and why the other tensors stay exact. The content of the
    file decides what kind it is, not its name. Long names are cut in the middle; --json has them whole.
    """
    if _first_bytes(file) == b"\x89CWB":
        _show_container(file, base, as_json)
        return
    if base is not None:
        raise UsageError(f"{file} is no .cwb file, and has no base")
    try:
        _show_plan(file, as_json)
    except ModelError:
        if file.suffix == ".cwb":  # its content is of neither kind: so its name decides
            _show_container(file, base, as_json)
        raise


def _first_bytes(path: Path) -> bytes:
    """The first four bytes, which tell a .cwb file, even one that a transfer in text mode has damaged."""
    try:
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _show_container(path: Path, base: Path | None, as_json: bool) -> None:
    from cerwu_onnx.container import deltas, reader
    from cerwu_onnx.container import format as f

    container = reader.read(path, base)
    rows = tensor_rows(container)
    metadata = container.metadata()
    container.check_sections()
    of_base = container.base
    identity = deltas.called(*deltas.identity(container.data, container.records))
    base_identity = None if of_base is None else deltas.called(*deltas.identity(of_base.data, of_base.records))
    sections = {"graph": 0, "metadata": 0}  # the tensors' names are part of the graph
    for record in container.records:
        if not record.is_tensor:
            kind = "graph" if record.kind == f.Kind.NAMES else record.kind.name.lower()
            sections[kind] = sections.get(kind, 0) + record.size
    coded = [row for row in rows if row.step is not None and not row.parameter and not row.table]
    parameters = [row for row in rows if row.parameter]
    weights, used = sum(row.weights for row in coded), sum(row.bytes for row in coded)
    exact = sum(row.bytes for row in rows if row.step is None or row.table)
    floats = sum(row.bytes for row in parameters)
    directory = len(container.data) - used - exact - floats - sum(sections.values())
    if as_json:
        body: dict[str, Any] = {
            "kind": "cwb",
            "file": str(path),
            "file_bytes": len(container.data),
            "format_version": container.version,
            "identity": identity,
            "base": base_identity,
            "weights": weights,
            "weight_bytes": used,
            "bits_per_weight": 8 * used / weights if weights else 0.0,
            "other_bytes": {"exact tensors": exact, "float parameters": floats, **sections, "directory": directory},
            "metadata": metadata,
            "tensors": [asdict(row) for row in rows],
        }
        console.show_json(body)
        return
    from .render import draw_container
    from .text import counted, shorten, size

    rate = f", {8 * used / weights:.2f} bits/weight" if weights else ""
    facts = [
        ("file", path.name),
        ("size", size(len(container.data))),
        ("format", f"version {container.version}"),
        ("as a base", identity) if base_identity is None else ("delta of", base_identity),
        ("quantised", f"{counted(len(coded), 'tensor')}, {weights:,} weights, {used:,} bytes{rate}"),
        ("exact", f"{counted(len(rows) - len(coded) - len(parameters), 'tensor')}, {exact:,} bytes"),
        (
            "the rest",
            ", ".join(f"{name} {count:,} bytes" for name, count in (sections | {"directory": directory}).items()),
        ),
    ]
    if parameters:
        facts.insert(4, ("parameters", f"{counted(len(parameters), 'float tensor')} coded too, {floats:,} bytes"))
    lossless, on_trellis = sum(row.table for row in rows), sum(row.trellis for row in rows)
    if lossless:
        facts.insert(5, ("lossless", f"{counted(lossless, 'table')} of integers coded, among the exact"))
    if on_trellis:
        facts.append(("T", f"{counted(on_trellis, 'tensor')} along a trellis"))
    about = metadata.get("about")
    if isinstance(about, dict):
        facts += [(str(key), shorten(str(value), 160)) for key, value in about.items()]
    texts = metadata.get("safetensors")
    if isinstance(texts, dict):
        facts.append(("safetensors", shorten(", ".join(f"{key}: {text}" for key, text in texts.items()), 160)))
    hidden = ("params", "tables", "about", "arrays", "safetensors")
    facts += [(key, shorten(str(value), 160)) for key, value in metadata.items() if key not in hidden]
    console.show(lambda width: draw_container(facts, rows, width))


def show_plans(paths: Sequence[Path], settings: Settings, *, as_json: bool) -> None:
    """Show what ``compress`` would do with models by these settings; JSON is a list if there are several models."""
    from cerwu_onnx.compression.prepare import prepare
    from cerwu_onnx.jobs.inputs import unchanged_inputs
    from cerwu_onnx.model.loading import model_size

    with unchanged_inputs() as check_inputs:
        plans = [(prepare(path, settings)[0], model_size(path), path) for path in paths]
        check_inputs()
    if as_json:
        bodies = [_plan(*plan) for plan in plans]
        console.show_json(bodies if len(bodies) > 1 else bodies[0])
        return
    from .render import draw_plan

    for plan in plans:
        console.show(partial(draw_plan, *plan))


def _show_plan(path: Path, as_json: bool) -> None:
    from cerwu_onnx.jobs.inputs import unchanged_inputs
    from cerwu_onnx.model.graph import analyse, load_model
    from cerwu_onnx.model.loading import model_size

    with unchanged_inputs() as check_inputs:
        graph = analyse(load_model(path))
        size = model_size(path)
        check_inputs()
    if as_json:
        console.show_json(_plan(graph, size, path))
        return
    from .render import draw_plan

    console.show(lambda width: draw_plan(graph, size, path, width))


def _plan(graph: Graph, size: int, path: Path) -> dict[str, Any]:
    """The plan in the form of the JSON."""
    from cerwu_onnx.compression.storage_order import storage

    layers = [
        {
            "name": layer.weight,
            "op": layer.op,
            "shape": layer.layout.shape,
            "type": graph.element(layer.weight).name.lower(),
            "weights": layer.layout.size,
            "trellis": storage(layer, "onnx").columns is not None,
            "statistics": bool(layer.sites),
            "price": layer.price,
            "bits": layer.bits,
            "nodes": layer.nodes,
            "parameters": layer.parameters,
        }
        for layer in graph.layers
    ]
    return {
        "kind": "onnx",
        "file": str(path),
        "file_bytes": size,
        "weights": sum(layer.layout.size for layer in graph.layers),
        "layers": layers,
        "kept": [asdict(tensor) for tensor in graph.kept],
    }
