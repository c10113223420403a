"""Calibration: read the data, run the model on it, and measure what quantisation needs to know of each layer."""

from __future__ import annotations

from cerwu_onnx.calibration.answers import Answer
from cerwu_onnx.calibration.collect import collect
from cerwu_onnx.calibration.curvature import sensitivities
from cerwu_onnx.calibration.fisher import row_fishers
from cerwu_onnx.calibration.images import ImageOptions
from cerwu_onnx.calibration.kinds import answer_of, answers_of, comparable
from cerwu_onnx.calibration.opening import open_data
from cerwu_onnx.calibration.patches import columns, iter_columns
from cerwu_onnx.calibration.sensitivity import OutputLoss, noise_sensitivity
from cerwu_onnx.calibration.sequential import Step, walk
from cerwu_onnx.calibration.source import CalibrationSpec, Source, open_source
from cerwu_onnx.calibration.sums import identity_stats
from cerwu_onnx.model.tensors import InputInfo, model_inputs

__all__ = [
    "Answer",
    "CalibrationSpec",
    "ImageOptions",
    "InputInfo",
    "OutputLoss",
    "Source",
    "Step",
    "answer_of",
    "answers_of",
    "collect",
    "columns",
    "comparable",
    "identity_stats",
    "iter_columns",
    "model_inputs",
    "noise_sensitivity",
    "open_data",
    "open_source",
    "row_fishers",
    "sensitivities",
    "walk",
]
