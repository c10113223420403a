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
from cerwu_onnx.model.elements import floats_of
from cerwu_onnx.model.loading import file_digest, load_model
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


def cache(folder: Path, location: str = "data/weights.bin", *, model_is_a_link: bool = True) -> Path:
    """A model in a cache as Hugging Face's hub lays it out: a snapshot consists of links to ``blobs``."""
    snapshot, blobs = folder / "models--a--b/snapshots/0123/onnx", folder / "models--a--b/blobs"
    blobs.mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    made = external(blobs, location=location)
    (blobs / "weights.bin").rename(blobs / "beef")
    (snapshot / "data/weights.bin").symlink_to("../../../../blobs/beef")
    if model_is_a_link:
        made.rename(blobs / "cafe")
        (snapshot / "model.onnx").symlink_to("../../../blobs/cafe")
    else:
        made.rename(snapshot / "model.onnx")
    return snapshot / "model.onnx"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("model_is_a_link", [True, False])
def test_links_within_a_cache(tmp_path: Path, model_is_a_link: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache(tmp_path, model_is_a_link=model_is_a_link)
    (path.parent / "data/weights.bin").resolve().write_bytes(np.arange(1000, dtype=np.float32).tobytes())
    first = load_model(path).graph.initializer[0]
    assert np.array_equal(floats_of(first).ravel()[:5], np.arange(5))
    before = file_digest(path)
    (path.parent / "data/weights.bin").resolve().write_bytes(bytes(4000))
    assert file_digest(path) != before
    monkeypatch.chdir(path.parent)
    assert not floats_of(load_model("model.onnx").graph.initializer[0]).any()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_out_of_a_cache(tmp_path: Path) -> None:
    """Neither a link past the blobs, nor blobs that are a link, nor a path that leaves the snapshot by itself."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/beef").write_bytes(bytes(4000))
    for number, location in enumerate(("data/weights.bin", "data/weights.bin", "../../../blobs/beef")):
        path = cache(tmp_path / str(number), location, model_is_a_link=False)
        link, blobs = path.parent / "data/weights.bin", path.parents[3] / "blobs"
        if number == 0:
            link.unlink()
            link.symlink_to(tmp_path / "secret/beef")
        elif number == 1:
            (blobs / "beef").unlink()
            blobs.rmdir()
            blobs.symlink_to(tmp_path / "secret")
        with pytest.raises(ModelError, match="lies outside the model's folder"):
            load_model(path)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_a_model_finds_the_data_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = external(tmp_path / "there", location="weights.bin")
    (tmp_path / "here.onnx").symlink_to(target)
    assert load_model(tmp_path / "here.onnx").graph.initializer[0].raw_data


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
