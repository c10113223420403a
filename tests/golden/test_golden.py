"""The golden files decode to what they held when they were written, and README.md says which features they use."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx

import cerwu_onnx
from cerwu_onnx.container import reader

from . import features
from .__main__ import forms_file, golden_model

FOLDER = Path(__file__).parent
FILES = {path.stem: reader.read(path) for path in sorted(FOLDER.glob("*.cwb"))}


def test_forms_decode_in_c_and_python() -> None:
    container = FILES["draft0_forms"]
    with np.load(FOLDER / "draft0_forms.npz") as stored:
        expected = [stored[name] for name in stored.files]
    assert len(container.tensors) == len(expected)
    for record, values in zip(container.tensors, expected, strict=True):
        assert container.decode(record).tobytes() == values.tobytes()
        assert container.decode_python(record).tobytes() == values.tobytes()


def test_forms_are_what_the_writer_writes() -> None:
    now, then = reader.parse(forms_file()[0]), FILES["draft0_forms"]
    assert [now.payload(record) for record in now.tensors] == [then.payload(record) for record in then.tensors]


def test_the_model_is_rebuilt() -> None:
    before, after = golden_model(), cerwu_onnx.decompress(FOLDER / "draft0_model.cwb")
    assert after == onnx.load(FOLDER / "draft0_model.onnx")
    exact = {"b", "q", "scale", "nibbles", "mask"}
    content = {tensor.name: tensor for tensor in after.graph.initializer}
    for tensor in before.graph.initializer:
        assert content[tensor.name].data_type == tensor.data_type
        if tensor.name in exact:
            assert content[tensor.name] == tensor


def test_every_feature_is_in_a_file_and_the_readme_says_in_which() -> None:
    found = set().union(*map(features.features, FILES.values()))
    assert found == set(features.FEATURES)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^\| feature .*\n(?:\|.*\n)+", text, re.MULTILINE)
    assert listed == features.table(FILES), "run python -m tests.golden, which writes that table"
