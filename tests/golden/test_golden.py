"""The golden files decode to what they held when they were written, and README.md says which features they use."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx.container import reader

from . import features
from .__main__ import files, forms_file, golden_file, golden_model

HERE = Path(__file__).parent
FILES = files()
VERSIONS = ("v1", "v2")


DIGESTS = {
    "v1/forms.cwb": "3312b7d1da98ceca2e23e92c2354df5a9f9fda377419ee93df75b58368526e48",
    "v1/kinds.cwb": "7b4e83ffe85dcc2f1ba523485e172a80f92f1457596f68f9888c53916fcc9162",
    "v1/model.cwb": "40f2328e0e04c8c73744ac95ec83bf8a034731cf1b3ddd939b9e447f4d070e46",
    "v1/model.onnx": "7f6c9e9774f5cec15e325950bc7cc4daeab843817f5a291f27d50ebcf60a1adf",
    "v2/base.cwb": "4bbad7017afe419d070a00681b031cbbe300532b563565aed6f53e79c7751124",
    "v2/delta.cwb": "ed1946956fb16834d29848bbc42f9ad602b6020681e4e08e32b6e966b84a8d75",
    "v2/forms.cwb": "40cf06f85fea31325fa4569ea8ee38d79e4d0acd3b0de8718c5a005f34f2a2f6",
    "v2/kinds.cwb": "44710bdade0c38d9c5f37b3acf50f22e05680594636fbf2bea6e82f7e1466d6c",
    "v2/model.cwb": "c7c771b214810ad0c7e6482341c99021d9f3554f20b57b1586a1793c41340cde",
    "v2/model.onnx": "929669ea6ce1630f3709b3c877578afcfa66aeef507f29fc1b5c5d9fdee85816",
}
"""SHA-256 of files that nobody may write again."""


def test_files_are_those_of_the_day_their_version_was_frozen() -> None:
    found = {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in DIGESTS}
    assert found == DIGESTS
    assert {f"{name}.cwb" for name in FILES} <= found.keys()


@pytest.mark.parametrize("name", [name for name in FILES if (HERE / f"{name}.npz").exists()])
def test_tensors_decode_in_c_and_python(name: str) -> None:
    container = FILES[name]
    with np.load(HERE / f"{name}.npz") as stored:
        expected = [stored[name] for name in stored.files]
    assert len(container.tensors) == len(expected)
    for record, values in zip(container.tensors, expected, strict=True):
        assert container.decode(record).tobytes() == values.tobytes()
        assert container.decode_python(record).tobytes() == values.tobytes()


def test_encoders_choose_the_same_on_every_machine() -> None:
    """Coded tensors; zlib builds differ, so sections are not compared. A better encoder has another digest."""
    files = [reader.parse(make()[0]) for make in (golden_file, forms_file)]
    payloads = b"".join(bytes(file.payload(record)) for file in files for record in file.tensors)
    assert hashlib.sha256(payloads).hexdigest() == "a9b4ccb7c9ce999e335fb2c592a86e505089d9c1b9aeec7c8904572fd9603f7d"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_model_is_rebuilt(version: str) -> None:
    before, after = golden_model(), cerwu_onnx.decompress(HERE / version / "model.cwb")
    assert after == onnx.load(HERE / version / "model.onnx")
    exact = {"b", "q", "scale", "nibbles", "mask"}
    content = {tensor.name: tensor for tensor in after.graph.initializer}
    for tensor in before.graph.initializer:
        assert content[tensor.name].data_type == tensor.data_type
        if tensor.name in exact:
            assert content[tensor.name] == tensor


def test_every_feature_is_in_a_file_and_the_readme_says_in_which() -> None:
    found = set().union(*map(features.features, FILES.values()))
    assert found == set(features.FEATURES)
    text = (HERE / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^\| feature .*\n(?:\|.*\n)+", text, re.MULTILINE)
    assert listed == features.table(FILES), "run python -m tests.golden, which writes that table"
