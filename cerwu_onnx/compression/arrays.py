"""``compress`` for files of named arrays: adapters, state dicts, tables (docs/arrays.md)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx._version import __version__
from cerwu_onnx.array_files.dtypes import DTYPES, FLOATS, Typed, from_raw, to_float32
from cerwu_onnx.array_files.files import read_arrays
from cerwu_onnx.array_files.masks import ABOUT, masks
from cerwu_onnx.compression.array_job import ERROR_PER_PRICE, ArrayJob, ArrayResult, layer_of, quantize_array
from cerwu_onnx.compression.array_plan import Plan, moments_of, plan_of
from cerwu_onnx.compression.storage_order import fits_element, raw_cost, stored_order
from cerwu_onnx.compression.target_search import BITS_PER_DOUBLING, Search
from cerwu_onnx.config import ARRAYS_FIDELITY, LayerRule, Settings, Target
from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.entropy.trellis import coded_entropy
from cerwu_onnx.errors import CheckFailed, ModelError, UsageError
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.jobs.inputs import unchanged_inputs
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import Clock, Progress, logged_warnings, silent
from cerwu_onnx.report import LayerReport, Point, Report
from cerwu_onnx.types import Kept, QuantizedTensor

log = logging.getLogger(__name__)

ELEMENTS = {name: f.ElementType[name.upper()] for name in FLOATS}
"""How the directory calls the types of floats."""

_BITS = {2: "float16", 4: "float32", 8: "float64"}
"""Where the bits of other types are kept, by the bytes of an element."""


@dataclass(frozen=True, slots=True)
class _Coded:
    """A file and what the report says of it."""

    content: bytes
    layers: tuple[LayerReport, ...]
    kept: tuple[Kept, ...]
    other: dict[str, int]


def compress_arrays(
    path: str | Path,
    output: str | Path,
    *,
    moments: str | Path | None = None,
    settings: Settings | None = None,
    target: Target | None = None,
    force: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compress a .npz or .safetensors file into a .cwb file that gives its arrays back by name.

    Args:
        path: of the arrays.
        output: path of the .cwb file.
        moments: path of a .npz or .safetensors file with the second moments ``(N, N)`` of the inputs that multiply the
            rows of arrays, by the arrays' names; N is the product of all axes but the first.
        settings: lambda, coder, max_decode_cost, damping, passes, rules and texts are used; the method is "trellis".
        target: a fidelity (:data:`~cerwu_onnx.config.ARRAYS_FIDELITY` if nothing else is given), a size, bits per
            weight, and a limit of size.
        force: overwrite ``output``.
        jobs: arrays quantised at a time; None takes OMP_NUM_THREADS or all cores.
        progress: called as the stages advance.

    Raises:
        UsageError: a path cannot be read or written, or something is asked for that needs a model.
        ModelError: the file of arrays is damaged, or exceeds the .cwb format.
        CalibrationError: moments do not fit their arrays.
        CheckFailed: no file is as small as asked for.
        InputChangedError: a file was replaced or written while it was in use.
    """
    settings, target, progress = settings or Settings(), target or Target(), progress or silent
    _refuse(settings, target)
    check_target(output, overwrite=force, source=path)
    clock = Clock()
    with Pool(jobs) as pool, logged_warnings() as warnings, unchanged_inputs() as check_inputs:
        with clock("load"):
            progress("load", 0, None, str(path))
            file = read_arrays(path)
            plan = plan_of(file.arrays, settings, {} if moments is None else moments_of(moments, file.arrays))
            metadata: dict[str, Any] = {
                "tool": f"cerwu-onnx {__version__}",
                "method": settings.method,
                "calibration": "data" if plan.moments else "none",
                "model": _digest(path),
            }
            metadata |= {"about": dict(settings.about)} if settings.about else {}
            metadata |= {ABOUT: dict(file.about)} if file.about else {}
        limit = None
        if not target.searches and settings.lambda_ is None:
            limit = 1 - (ARRAYS_FIDELITY if target.fidelity is None else target.fidelity)
        price = settings.lambda_ if settings.lambda_ is not None else (limit or 1 - ARRAYS_FIDELITY) / ERROR_PER_PRICE

        def attempt(price: float) -> tuple[Point, _Coded]:
            with clock("quantize"):
                found = _quantized(plan, price, limit, settings, pool, progress)
            with clock("encode"):
                coded = _encoded(plan, found, {**metadata, "lambda": price}, settings)
            weights = sum(layer.weights for layer in coded.layers)
            bits = 8 * sum(layer.coded_bytes for layer in coded.layers) / max(weights, 1)
            return Point(price, len(coded.content), bits), coded

        search: Search[_Coded] = Search(lambda prices: [attempt(price) for price in prices], None)
        weights = sum(plan.arrays[name].values.size for name in plan.names)
        if target.size is not None:
            doubling = max(weights * BITS_PER_DOUBLING / 8, 1.0)
            search.to_size(lambda point: point.file_bytes, target.size, price, doubling)
        elif target.bits_per_weight is not None:
            search.to_size(lambda point: point.bits_per_weight, target.bits_per_weight, price, BITS_PER_DOUBLING)
        else:
            search.at(price)
        point, coded = search.best
        _check_size(point, target)
        _warn(plan, coded, limit)
        if settings.strict and warnings:
            raise ModelError(f"strict: {warnings[0]}")
        check_inputs()
        write_atomic(output, coded.content, overwrite=force)
    return Report(
        model_bytes=Path(path).stat().st_size,
        file_bytes=len(coded.content),
        method=settings.method,
        lambda_=point.lambda_,
        levels=None,
        calibration="data" if plan.moments else "none",
        calibration_samples=0,
        output_loss=None,
        folded=(),
        layers=coded.layers,
        parameters=(),
        kept=coded.kept,
        other_bytes=coded.other,
        warnings=tuple(dict.fromkeys(warnings)),
        seconds=clock.seconds,
        search=tuple(search.points) if target.searches else (),
        array_error=None if limit is None else float(limit**0.5),
    )


def _quantized(
    plan: Plan, price: float, limit: float | None, settings: Settings, pool: Pool, progress: Progress
) -> dict[str, ArrayResult]:
    """Quantise the arrays at a price, or with a relative squared error of at most the limit."""
    names, plain = plan.names, LayerRule("*")

    def load(index: int) -> ArrayJob:
        name = names[index]
        rule = plan.rules.get(name, plain)
        own = None if limit is None else limit * rule.price
        values = to_float32(plan.arrays[name])
        largest = (1 << rule.bits - 1) - 1
        return ArrayJob(name, values, plan.moments.get(name), price * rule.price, own, largest, settings)

    progress("quantize", 0, len(names), "")
    sizes = [float(plan.arrays[name].values.size) for name in names]
    found = {}
    for done, (index, result) in enumerate(pool.results(quantize_array, load, sizes), 1):
        progress("quantize", done, len(names), names[index])
        found[names[index]] = result
    return found


def _encoded(plan: Plan, found: Mapping[str, ArrayResult], metadata: Mapping[str, Any], settings: Settings) -> _Coded:
    """Code the arrays and the names; what coding does not make smaller stays exact."""
    parts, layers, kept = list[writer.Encoded](), list[LayerReport](), list(plan.kept)
    tables = set()
    for name, array in plan.arrays.items():
        part = None
        if name in found:
            part = _coded_part(name, found[name].tensor, array, settings)
            if part is None:
                reason = "its coded form would not be smaller, or exceeds its type"
                kept.append(Kept(name, array.values.shape, array.dtype, array.values.nbytes, reason))
            else:
                layers.append(_layer_report(found[name], part))
        if part is None:
            part = exact_part(name, array, settings.coder)
            if part.record.is_coded:
                tables.add(name)
        parts.append(part)
    names = list(plan.arrays)
    marks = masks({name: array.dtype for name, array in plan.arrays.items()}, tables)
    metadata_part = writer.metadata_section({**metadata, **marks})
    content = writer.assemble([*parts, writer.names_section(names), metadata_part])
    weights = sum(layer.coded_bytes for layer in layers)
    other = {
        "exact tensors": sum(part.record.value_bytes for part in parts) - weights,
        "float parameters": 0,
        "graph": 0,
        "metadata": metadata_part.record.value_bytes,
    }
    other["directory"] = len(content) - sum(other.values()) - weights
    return _Coded(content, tuple(layers), tuple(kept), other)


def _coded_part(name: str, tensor: QuantizedTensor, array: Typed, settings: Settings) -> writer.Encoded | None:
    """A quantised array; None if it is better left exact."""
    element = ELEMENTS[array.dtype]
    order = stored_order(layer_of(name, array.values.shape), "onnx", tensor)
    if not fits_element(tensor, element):
        return None
    part = writer.encode_tensor(writer.CodedTensor(name, tensor, settings.coder, order, settings.max_decode_cost))
    return part if part.cost < raw_cost(element, array.values.shape) else None


def exact_part(name: str, array: Typed, coder: str) -> writer.Encoded:
    """An array that comes back bit for bit: floats as they are, small integers coded, others by their bits.

    Raises:
        ModelError: it exceeds the format.
    """
    size = np.dtype(DTYPES[array.dtype]).itemsize
    found = []
    if array.values.size == 0 or size in _BITS:
        dtype = array.dtype if array.dtype in FLOATS else _BITS.get(size, "float32")
        found.append(writer.encode_tensor(writer.RawTensor(name, ELEMENTS[dtype], from_raw(array.values, dtype))))
    if array.values.size and array.dtype not in FLOATS:
        least, most = int(array.values.min()), int(array.values.max())
        if max(-least, most) <= f.MAX_SYMBOL:
            exact = QuantizedTensor(array.values.astype(np.int32), 1.0, 0.0, 0.0, 0.0)
            found.append(writer.encode_tensor(writer.CodedTensor(name, exact, coder)))
    return min(found, key=lambda part: part.cost)


def _layer_report(result: ArrayResult, part: writer.Encoded) -> LayerReport:
    """The report on one quantised array."""
    tensor, record = result.tensor, part.record
    bits = 8 * record.value_bytes / tensor.symbols.size
    return LayerReport(
        name=record.name,
        op="array",
        shape=tensor.symbols.shape,
        weights=tensor.symbols.size,
        coder=record.kind.name.lower(),
        coded_bytes=record.value_bytes,
        bits_per_weight=bits,
        entropy=coded_entropy(record.order.store(tensor.symbols), tensor.run),
        step=tensor.step,
        symbols=len(np.unique(tensor.symbols)),
        relative_error=tensor.distortion / tensor.energy if tensor.energy else 0.0,
        damping=tensor.damping,
        above_bound=bits - result.bound,
    )


def _warn(plan: Plan, coded: _Coded, limit: float | None) -> None:
    """Warn of arrays whose error is larger than asked for, and if nothing was quantised."""
    prices = {name: rule.price for name, rule in plan.rules.items()}
    missed = [
        layer.name
        for layer in coded.layers
        if limit is not None and layer.relative_error > limit * prices.get(layer.name, 1.0)
    ]
    if missed:
        log.warning("%d arrays have a larger error than asked for, %s among them", len(missed), missed[0])
    if not coded.layers:
        log.warning("no array was quantised: %s", coded.kept[0].reason if coded.kept else "the file holds none")


def _check_size(point: Point, target: Target) -> None:
    """Refuse a file that is larger than asked for.

    Raises:
        CheckFailed: it is larger.
    """
    found: tuple[tuple[str, float | None, Callable[[Point], float]], ...] = (
        ("bytes", target.size, lambda point: point.file_bytes),
        ("bits per weight", target.bits_per_weight, lambda point: point.bits_per_weight),
        ("bytes", target.fail_above, lambda point: point.file_bytes),
    )
    for unit, most, size in found:
        if most is not None and size(point) > most:
            raise CheckFailed(
                f"no file of at most {most:,.6g} {unit}: the smallest found has {size(point):,.6g} (lambda "
                f"{point.lambda_:g}); nothing was written"
            )


def _refuse(settings: Settings, target: Target) -> None:
    """Refuse what needs a model.

    Raises:
        UsageError: it is asked for.
    """
    if target.metric is not None or target.max_drop is not None or target.fail_drop is not None:
        raise UsageError("a file of arrays is no model that a metric could score: give --fidelity or --target-size")
    if settings.method != "trellis":
        raise UsageError(f"arrays are quantised by the method trellis, not {settings.method}")
    asked = [name for name in ("requantize", "in_place") if getattr(settings, name)]
    if settings.weight_layout != "onnx":
        asked.append("weight_layout")
    if asked:
        raise UsageError(f"--{asked[0].replace('_', '-')} is for models, not for files of arrays")
    if (target.searches and settings.lambda_ is not None) or (
        target.fidelity is not None and settings.lambda_ is not None
    ):
        raise UsageError("lambda and a target exclude each other: the search finds lambda")


def _digest(path: str | Path) -> str:
    """The first 16 digits of the SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:16]


__all__ = ["compress_arrays"]
