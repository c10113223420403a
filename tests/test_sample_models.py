"""Checks of the committed sample models: they are what their README says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[1] / "sample_models"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/meta.json"))
MAX_BYTES = 1_000_000

pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def load_eval(folder: Path) -> ModuleType:
    """Import the metric script of a model."""
    spec = importlib.util.spec_from_file_location(f"{folder.name}_eval", folder / "eval.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_meta(folder: Path) -> dict[str, Any]:
    """Read the description of a model."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert isinstance(meta, dict)
    return meta


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an ``.npz`` file."""
    with np.load(path) as arrays:
        return dict(arrays)


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return the shape of a graph input or output, names for open dimensions."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_every_file_is_small(folder: Path) -> None:
    """No committed file reaches one megabyte."""
    for name in ("model.onnx", "calib.npz", "test.npz", "eval.py", "meta.json"):
        assert (folder / name).stat().st_size < MAX_BYTES, name


def test_model_is_valid(folder: Path) -> None:
    """The model passes the checker and is float32, opset 17, for any batch."""
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert dimensions(value)[0] == "batch"
    assert not any(tensor.name.startswith("onnx::") for tensor in model.graph.initializer)


def test_model_has_the_nodes_it_stands_for(folder: Path) -> None:
    """Each sample shows the compressor something the others do not."""
    model = onnx.load(folder / "model.onnx")
    operators = {node.op_type for node in model.graph.node}
    depthwise = any(
        attribute.name == "group" and attribute.i > 1 for node in model.graph.node for attribute in node.attribute
    )
    assert depthwise == (folder.name == "fashion_dscnn")
    assert ("BatchNormalization" in operators) == (folder.name == "fashion_cnn")
    assert ("GRU" in operators) == (folder.name == "sequence_gru")


def test_calibration_fits_the_model(folder: Path) -> None:
    """Calibration arrays are named and shaped like the graph inputs."""
    graph = onnx.load(folder / "model.onnx").graph
    calibration = load_arrays(folder / "calib.npz")
    assert set(calibration) == {value.name for value in graph.input}
    for value in graph.input:
        array = calibration[value.name]
        assert array.dtype == np.float32
        assert list(array.shape[1:]) == dimensions(value)[1:]
        assert len(array) == load_meta(folder)["calibration_samples"]


def test_calibration_and_test_do_not_overlap(folder: Path) -> None:
    """No test input is a calibration sample as well."""
    test_inputs = load_eval(folder).preprocess(load_arrays(folder / "test.npz")["inputs"])
    (calibration,) = load_arrays(folder / "calib.npz").values()
    assert test_inputs.dtype == calibration.dtype
    assert test_inputs.shape[1:] == calibration.shape[1:]
    seen = {sample.tobytes() for sample in calibration}
    assert not any(sample.tobytes() in seen for sample in test_inputs)


def test_score_is_reproduced(folder: Path) -> None:
    """The metric script gives the score on record, and obeys its limit."""
    evaluation = load_eval(folder)
    meta = load_meta(folder)
    model = str(folder / "model.onnx")
    assert evaluation.evaluate(model) == pytest.approx(meta["float_score"], abs=0.005)
    assert evaluation.evaluate(model, limit=1) in (0.0, 1.0)


def test_record_matches_the_files(folder: Path) -> None:
    """Counts in ``meta.json`` are those of the files."""
    meta = load_meta(folder)
    initializers = onnx.load(folder / "model.onnx").graph.initializer
    test_arrays = load_arrays(folder / "test.npz")
    assert meta["name"] == folder.name
    assert meta["weights"] == sum(int(np.prod(tensor.dims)) for tensor in initializers)
    assert len(test_arrays["inputs"]) == len(test_arrays["labels"]) == meta["test_samples"]
    assert meta["test_samples"] <= 2000
