"""Write a .cwb file as a plain ONNX file of integers, and measure what that gains and costs."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from cerwu_onnx.calibration import CalibrationSpec, ImageOptions, open_data
from cerwu_onnx.config import Target
from cerwu_onnx.errors import UsageError
from cerwu_onnx.evaluate.metrics import open_scorer
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.jobs.inputs import unchanged_inputs
from cerwu_onnx.jobs.progress import Progress, silent
from cerwu_onnx.opened import open as open_file
from cerwu_onnx.runtime import INSIDE
from cerwu_onnx.stock.activations import quantised_activations
from cerwu_onnx.stock.side_by_side import FOLD, Candidate, Form, side_by_side
from cerwu_onnx.stock.weights import WIDTHS, integer_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        file_bytes: size of the ONNX file.
        nodes: number of its nodes.
        weights: number of coded weights by their type with integer weights, the narrowest first.
        forms: the float model, the one with integer weights, as it is and with its weights made floats when it is
            loaded, and, if asked for, the QDQ model; empty without data.
    """

    file_bytes: int
    nodes: int
    weights: dict[str, int]
    forms: tuple[Form, ...]


def export(
    path: str | Path,
    output: str | Path,
    *,
    weights: str = "auto",
    qdq: bool = False,
    data: CalibrationSpec | None = None,
    target: Target | None = None,
    images: ImageOptions | None = None,
    base: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a .cwb file as an ONNX file with integer weights.

    Args:
        path: of the .cwb file.
        output: path of the ONNX file.
        weights: one of :data:`~cerwu_onnx.stock.weights.WIDTHS`.
        qdq: quantise activations to 8 bits, too; weights then have 8 bits.
        data: samples like those of calibration: ranges of activations come from them, and the forms of the model are
            measured on them. Without data nothing is measured.
        target: a metric with its data, whose score is measured, too.
        images: how a directory of images becomes inputs.
        base: the base of the file, if that is a delta.
        force: overwrite ``output``.
        progress: called as the stages advance.

    Raises:
        UsageError: a path cannot be read or written, the file holds no graph or an operator set that is too old, or
            ``qdq`` or a metric comes without data.
        ModelError: onnxruntime cannot quantise or load a form of the model.
        BaseError, CorruptFileError, CalibrationError: a file or the data are at fault.
        InputChangedError: a file was replaced or written while it was in use.
    """
    progress = progress or silent
    if weights not in WIDTHS:
        raise UsageError(f"weights {weights!r} are unknown: choose one of {', '.join(WIDTHS)}")
    if data is None and (qdq or (target is not None and target.metric is not None)):
        raise UsageError("ranges of activations and scores need data: give --calib")
    for source in (path,) if base is None else (path, base):
        check_target(output, overwrite=force, source=source)
    with tempfile.TemporaryDirectory() as folder, unchanged_inputs() as check_inputs:
        progress("decode", 0, None, str(path))
        compressed = open_file(path, base=base)
        integers = integer_weights(compressed, weights)
        model, forms = integers.model, list[Form]()
        if data is not None:
            name = "integer weights" if weights == "auto" else f"{weights} weights"
            candidates = [
                Candidate("float", compressed.to_onnx()),
                Candidate(name, model),
                Candidate(f"{name}, folded", model, folds=True),
            ]
            samples = open_data(data, candidates[0].model, images=images)
            if qdq:
                progress("quantize", 0, None, "activations")
                candidates.append(Candidate("QDQ", quantised_activations(compressed, samples)))
            progress("measure", 0, None, "")
            scorer = None
            if target is not None and target.metric is not None:
                reference = Path(folder) / "float.onnx"
                reference.write_bytes(_content(candidates[0].model))
                scorer = open_scorer(target, reference, images)
            forms = side_by_side(candidates, samples, scorer, Path(folder))
            model = candidates[-1].model
        content = _content(model)
        check_inputs()
        write_atomic(output, content, overwrite=force)
    if forms and forms[-1].hurts:
        log.warning("%s: %s: give --weights without --qdq", forms[-1].name, forms[-1].hurts)
    if forms and (written := forms[-1] if qdq else forms[1]).is_slower:
        log.warning(
            "%s: %.2f times the speed of the float model on this machine; %s",
            written.name,
            written.speed,
            "8-bit kernels are not always faster"
            if qdq
            else f"with the session's entry {FOLD[0]} = {FOLD[1]}, "
            f"onnxruntime makes floats of the weights once, when it loads them: {forms[2].speed:.2f} times",
        )
    return Exported(len(content), len(model.graph.node), integers.counts(), tuple(forms))


def _content(model: onnx.ModelProto) -> bytes:
    """A model's file.

    Raises:
        UsageError: it would exceed protobuf's limit.
    """
    if model.ByteSize() > INSIDE:
        raise UsageError("the model exceeds 2 GB, which one ONNX file cannot hold: decompress it to floats instead")
    return bytes(model.SerializeToString(deterministic=True))


__all__ = ["Exported", "export"]
