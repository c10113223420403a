"""ONNX files that were made to harm: what they name, what they declare, damage to their bytes."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from cerwu_onnx.calibration import open_source
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.model.loading import load_model
from cerwu_onnx.model.tensors import model_inputs

from .. import models
from ..fuzz.reader import hurt
from ..hostile.make import graph, nested


def external(folder: Path, dims: tuple[int, ...] | None = None, **entries: str) -> Path:
    """A model whose first tensor keeps its data in another file."""
    model = models.conv_net()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    if dims is not None:
        tensor.ClearField("dims")
        tensor.dims.extend(dims)
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    (folder / "weights.bin").write_bytes(bytes(4000))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret", "outside the model's folder"),
        ("weights.bin/../../secret", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("", "outside the model's folder"),
        (".", "is missing beside the model"),
        ("a\0b", "cannot be a file"),
        ("a" * 5000, "cannot be a file"),
    ],
)
def test_a_model_reads_no_file_but_those_beside_it(tmp_path: Path, location: str, message: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(4000))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=message):
        load_model(external(folder, location=location))


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights on Windows")
def test_links_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "out").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    for location in ("circle", "out/hostname", "pipe"):
        with pytest.raises(ModelError):
            load_model(external(tmp_path, location=location))


@pytest.mark.parametrize("dims", [(-1,), (-5, 3), (2**40, 2**40), (2**31,)])
def test_declared_sizes_are_held_against_the_file(tmp_path: Path, dims: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="a negative dimension" if min(dims) < 0 else "does not hold them"):
        load_model(external(tmp_path, dims, location="weights.bin"))


@pytest.mark.parametrize("offset", ["-1", "9" * 5000, str(2**70), "1e3"])
def test_offsets(tmp_path: Path, offset: str) -> None:
    with pytest.raises(ModelError):
        load_model(external(tmp_path, location="weights.bin", offset=offset))


def test_deep_graphs(tmp_path: Path) -> None:
    (tmp_path / "deep.onnx").write_bytes(graph(nested(5000)))
    with pytest.raises(ModelError, match="not an ONNX model"):
        load_model(tmp_path / "deep.onnx")


def test_calibration_data_is_never_unpickled(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    np.savez(tmp_path / "data.npz", x=np.array([Harm()], dtype=object))
    model = models.conv_net()
    with pytest.raises(CalibrationError):
        list(open_source(tmp_path / "data.npz", model_inputs(model)).batches(1))
    assert not (tmp_path / "harm").exists()


def test_damaged_models_are_named_errors_or_models(tmp_path: Path) -> None:
    rng = random.Random(1)
    model = models.conv_net().SerializeToString()
    path = tmp_path / "model.onnx"
    seen: Counter[str] = Counter()
    for _ in range(1500):
        path.write_bytes(hurt(model, rng))
        try:
            load_model(path)
            seen["reads"] += 1
        except ModelError:
            seen["ModelError"] += 1
    assert min(seen["reads"], seen["ModelError"]) > 50


@pytest.mark.parametrize("more", [-1, 1, 4])
def test_elements_of_another_number_of_bytes_than_the_shape_takes(tmp_path: Path, more: int) -> None:
    model = models.conv_net()
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.raw_data = bytes(size + more)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=f"'conv.w' has {size + more} bytes for the {size} that its shape takes"):
        load_model(tmp_path / "model.onnx")
