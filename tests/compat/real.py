"""Trained models: ``sample_models`` and, where they are at hand, those of ``../shared/models``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx

from cerwu_onnx.model.tensors import model_inputs

from ..bench.models import BenchModel, sample_models, shared_models
from .case import Case, Feed, Sample

SAMPLES = 32
"""Of the calibration data; more tell nothing about whether a model goes through."""


def cases() -> Iterator[Case]:
    """One case per folder."""
    for model in sample_models() + shared_models():
        yield Case(model.name, "trained", partial(_sample, model))


def _sample(model: BenchModel) -> Sample:
    inputs = model_inputs(onnx.load(model.onnx))
    with np.load(model.calib) as arrays:
        data = {name: arrays[name][:SAMPLES] for name in arrays.files}
    single = {info.name: info.shape is not None and len(info.shape) == data[info.name].ndim - 1 for info in inputs}
    feeds: list[Feed] = []
    for start in range(SAMPLES):
        rows = {name: array[start : start + 1] for name, array in data.items()}
        feeds.append({name: rows[name][0] if single[name] else rows[name] for name in rows})
    return Sample(model.onnx, feeds)
