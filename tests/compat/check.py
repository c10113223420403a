"""One graph through the whole tool, with and without calibration data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import cerwu_onnx
from cerwu_onnx import Settings, native
from cerwu_onnx.container import reader
from cerwu_onnx.errors import CerwuError
from cerwu_onnx.model.fold import fold_batch_norm
from cerwu_onnx.model.graph import analyse, load_model
from cerwu_onnx.report import Report

from .case import Case, Feed, Sample
from .contents import Contents, differing, float_elements

BLIND_PRICE, PRICE = 1e-7, 2e-8
"""Lambda without and with calibration data: rates so high that errors above a thousandth are a fault.

No weight costs more loss than all its bits are worth, 32 lambda over all layers together. Without data a relative
squared error counts thirtyfold (:data:`cerwu_onnx.compression.walk_quantizer.BLIND`)."""


LARGEST_SHARE = 0.05
"""Of labels, flags and texts that may differ at a high rate: decisions fall at ties."""


class Failed(Exception):
    """A promise that is not kept; the first word says which."""


@dataclass
class Row:
    """A line of the table.

    Attributes:
        graph: its name.
        source: where it comes from.
        operator: type of the only operator; empty for graphs of several.
        operators: types of the operators that read float constants.
        weights: elements of float tensors.
        coded: how many of them are on a grid at the default lambda.
        errors: the largest over outputs: at a high rate without calibration data, with it, and at the default lambda.
            None where there is no such data, or onnxruntime cannot run the graph.
        status: "ok", or what happened: "refused", "lost", "changed", "crashed", "error above ...".
        note: what else is to be known.
        seconds: wall time.
    """

    graph: str
    source: str
    operator: str = ""
    operators: list[str] = field(default_factory=list)
    weights: int = 0
    coded: int = 0
    errors: list[float | None] = field(default_factory=list)
    status: str = "ok"
    note: str = ""
    seconds: float = 0.0


def check(case: Case) -> Row:
    """Take one graph through the tool.

    Raises:
        Skipped: it cannot be made here.
    """
    row = Row(case.name, case.source)
    start = time.perf_counter()
    sample = case.make()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _check(sample, Path(folder), row)
    except Failed as failure:
        row.status = str(failure)
    except CerwuError as error:
        row.status = f"refused: {error}"
    except Exception as error:  # whatever the library lets escape belongs in the table
        row.status = f"crashed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    row.seconds = time.perf_counter() - start
    return row


def _check(sample: Sample, folder: Path, row: Row) -> None:
    path = sample.model if isinstance(sample.model, Path) else folder / "model.onnx"
    if isinstance(sample.model, onnx.ModelProto):
        onnx.save(sample.model, path)  # tensors that are marked as external go to a file of their own
    original = onnx.load(path)
    contents = Contents(original)
    row.operator = original.graph.node[0].op_type if len(original.graph.node) == 1 else ""
    row.operators, row.weights = sorted(contents.readers), float_elements(contents)
    data = list(sample.feeds) if _calibrates(sample) else None
    notes = [] if sample.runs else ["onnxruntime cannot run it"]
    if sample.runs and data is None:
        notes.append("no calibration")
    runs = [(None, Settings(lambda_=BLIND_PRICE, float_params="exact"))]
    if data is not None:
        runs.append((data, Settings(lambda_=PRICE, effort="fast")))
    for feeds, settings in runs:
        _, rebuilt = _round_trip(path, folder, feeds, settings)
        error = output_error(original, rebuilt, sample.feeds) if sample.runs else None
        row.errors.append(error)
        if error is not None and not error <= sample.largest_error:
            raise Failed(f"error above {sample.largest_error:g} {'with' if feeds else 'without'} calibration data")
    if data is None:
        row.errors.append(None)
    report, rebuilt = _round_trip(path, folder, data, Settings())
    row.coded = report.weights + sum(int(np.prod(parameter.shape)) for parameter in report.parameters)
    row.errors.append(output_error(original, rebuilt, sample.feeds, strict=False) if sample.runs else None)
    if report.folded:
        notes.append(f"{len(report.folded)} folded")
    row.note = ", ".join(notes)


def _calibrates(sample: Sample) -> bool:
    """Whether the feeds are what ``compress`` takes as calibration data: arrays, floats among them finite."""
    arrays = [array for feed in sample.feeds for array in feed.values()]
    return (
        sample.runs
        and bool(arrays)
        and all(isinstance(array, np.ndarray) for array in arrays)
        and all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")
    )


def _round_trip(
    path: Path, folder: Path, data: list[Feed] | None, settings: Settings
) -> tuple[Report, onnx.ModelProto]:
    """Compress, verify by both decoders, decompress, compare with the original.

    Raises:
        Failed: a difference.
    """
    packed, rebuilt = folder / "model.cwb", folder / "rebuilt.onnx"
    report = cerwu_onnx.compress(path, packed, calib=data, settings=settings, force=True)
    _check_decoders(packed)
    model = cerwu_onnx.decompress(packed, rebuilt, force=True)
    _check_model(rebuilt, path)
    original = load_model(path)
    reference = fold_batch_norm(original)[0] if report.folded else original
    before, after = Contents(reference), Contents(onnx.load(rebuilt))
    if before.structure != after.structure:
        pairs = zip(before.structure, after.structure, strict=False)
        first = next((f"{ours!r:.60} became {theirs!r:.60}" for ours, theirs in pairs if ours != theirs), "its length")
        raise Failed(f"lost: the graph differs: {first}")
    free = {layer.name for layer in report.layers} | {parameter.name for parameter in report.parameters}
    if settings.float_params == "auto":  # a bias takes up mean errors, whether it is coded or not
        free |= set(analyse(reference).parameters)
    if touched := [name for name in differing(before, after) if name not in free]:
        raise Failed(f"changed: tensors that are not quantised: {', '.join(touched[:3])}")
    return report, model


def _check_decoders(packed: Path) -> None:
    """Every check of the format, by the C decoder and by the Python one; both give the same bits.

    Raises:
        Failed: they differ.
    """
    cerwu_onnx.open(packed).verify()
    if native.available():
        native.verify(packed.read_bytes())
    container = reader.read(packed)
    for record in container.tensors:
        if container.decode(record).tobytes() != container.decode_python(record).tobytes():
            raise Failed(f"changed: C and Python decode {record.name!r} differently")


def _check_model(rebuilt: Path, original: Path) -> None:
    """The rebuilt model is as valid as the original: onnx.checker, with shape inference where the original allows it.

    Raises:
        Failed: it is not.
    """
    try:
        onnx.checker.check_model(str(original), full_check=True)
        full = True
    except Exception:
        full = False
    try:
        onnx.checker.check_model(str(rebuilt), full_check=full)
    except Exception as error:
        raise Failed(f"lost: onnx.checker refuses the rebuilt model: {str(error).splitlines()[0]}") from error


def output_error(
    original: onnx.ModelProto, rebuilt: onnx.ModelProto, feeds: Sequence[Feed], *, strict: bool = True
) -> float | None:
    """The error of the worst output: root of (squared error / energy) over all feeds. NaN and infinity must stay.

    Of labels, flags and text it is the share of entries that differ, which counts where there are no other outputs.

    Raises:
        Failed: an output has another shape or type, NaN or infinity elsewhere, or more than :data:`LARGEST_SHARE` of
            its labels differ; None then if not ``strict``.
    """
    sessions = [session(model) for model in (original, rebuilt)]
    outputs = [_Comparison(info.name) for info in original.graph.output]
    try:
        for feed in feeds or [{}]:
            for output, *values in zip(outputs, *(s.run(None, feed) for s in sessions), strict=True):
                output.add(*([*_arrays([value])] for value in values))
        for output in outputs:
            if output.differing > LARGEST_SHARE * output.labels:
                raise Failed(f"changed: {output.differing} of {output.labels} labels of output {output.name!r}")
    except Failed:
        if strict:
            raise
        return None
    relative = [output.relative for output in outputs if not output.labels]
    return max(relative or [output.differing / output.labels for output in outputs], default=0.0)


@dataclass
class _Comparison:
    """Sums over one output in both models."""

    name: str
    error: float = 0.0
    energy: float = 0.0
    differing: int = 0
    labels: int = 0

    @property
    def relative(self) -> float:
        return float(np.sqrt(self.error / self.energy)) if self.energy else float(self.error > 0)

    def add(self, reference: list[np.ndarray], value: list[np.ndarray]) -> None:
        """Add the arrays of one feed."""
        kinds = [[(array.dtype, array.shape) for array in arrays] for arrays in (reference, value)]
        if kinds[0] != kinds[1]:
            raise Failed(f"changed: output {self.name!r} is {kinds[1]} instead of {kinds[0]}")
        for ours, theirs in zip(reference, value, strict=True):
            if ours.dtype.kind != "f":
                self.differing += int((ours != theirs).sum())
                self.labels += ours.size
                continue
            wide, other = ours.astype(np.float64), theirs.astype(np.float64)
            finite = np.isfinite(wide)
            if (
                not np.array_equal(wide[~finite], other[~finite], equal_nan=True)
                or not np.isfinite(other[finite]).all()
            ):
                raise Failed(f"changed: output {self.name!r} holds NaN or infinity elsewhere")
            self.error += float(np.square(wide[finite] - other[finite]).sum())
            self.energy += float(np.square(wide[finite]).sum())


def _arrays(values: Any) -> Any:
    """The arrays in what onnxruntime returns: tensors, and those inside sequences and maps; not absent ones."""
    for value in values:
        if isinstance(value, dict):
            yield np.array(list(value.keys()))
            yield np.array(list(value.values()))
        elif isinstance(value, list):
            yield from _arrays(value)
        elif value is not None:
            yield np.asarray(value)


def runs(model: onnx.ModelProto, feeds: Sequence[Feed]) -> bool:
    """Whether onnxruntime can run a model here."""
    try:
        session(model).run(None, feeds[0])
    except Exception:  # onnxruntime's exceptions have no common base but this
        return False
    return True


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """An onnxruntime session on one core, without its optimisations: they round differently for different constants."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
