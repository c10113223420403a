"""Open a model and its data for a compression: load, look for signs of wrong data, fold, find the layers."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from cerwu_onnx.calibration import CalibrationSpec, ImageOptions, Source, open_data
from cerwu_onnx.calibration.trust import Doubts, examine
from cerwu_onnx.compression.dequantize import with_float_weights
from cerwu_onnx.compression.layer_rules import apply_rules, rules_of
from cerwu_onnx.config import EFFORTS, Settings
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.fold import check_folding, fold_batch_norm
from cerwu_onnx.model.graph import Graph, analyse, load_model
from cerwu_onnx.model.tensors import constant_tensors

log = logging.getLogger(__name__)


def prepare(
    model: str | Path, settings: Settings, calib: CalibrationSpec | None = None, images: ImageOptions | None = None
) -> tuple[Graph, tuple[str, ...], Source | None]:
    """Load the model, open the calibration data, fold BatchNormalization if asked, and find the layers.

    If folding was not asked for explicitly and running both models cannot confirm it, nothing is folded.

    Returns:
        The graph as the rules of the settings leave it, the names of the folded BatchNormalization nodes, and the
        opened data (None without ``calib``).

    Raises:
        UsageError: a rule matches nothing.
    """
    loaded = load_model(model)
    if settings.requantize:
        loaded, requantized = with_float_weights(loaded)
        if not requantized:
            log.warning("nothing is quantised again: no DequantizeLinear of the model reads only constants")
    limit = EFFORTS[settings.effort].samples if settings.method == "trellis" else None
    source, doubts = None if calib is None else open_data(calib, loaded, images=images, limit=limit), Doubts()
    if source is not None and settings.method == "trellis":
        doubts = examine(loaded, source, settings.output_loss)
        source = None if doubts.useless else source
    graph, names = _layers_of(loaded, settings, source)
    if graph.layers:  # otherwise nothing depends on the data
        for warning in doubts.said:
            log.warning("%s", warning)
    return graph, names, source


def _layers_of(loaded: onnx.ModelProto, settings: Settings, source: Source | None) -> tuple[Graph, tuple[str, ...]]:
    """Fold BatchNormalization and find the layers; arguments and results as for :func:`prepare`."""
    rules = rules_of(constant_tensors(loaded), settings.rules)
    if not settings.folds_bn:
        return apply_rules(analyse(loaded), rules), ()
    folded, names = fold_batch_norm(loaded, {name for name, rule in rules.items() if rule.skip})
    if names:
        try:
            check_folding(loaded, folded, source.first() if source else None)
        except ModelError as error:
            if settings.fold_bn:
                raise
            log.warning("BatchNormalization is not folded: %s", error)
            folded, names = loaded, ()
    return apply_rules(analyse(folded), rules), names
