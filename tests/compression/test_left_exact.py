"""The warning about floats that stay exact: when it is due, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx import compress
from cerwu_onnx.config import LayerRule, Settings

from ..models import build, normal, value


def model(columns: int, small: int = 64) -> onnx.ModelProto:
    """A product with 64 x 64 weights, and two operators of a foreign domain with 64 x columns weights each."""
    tensors = {"w": normal(64, 64), "s": normal(64, small)}
    tensors |= {name: normal(64, columns, seed=i) for i, name in enumerate(("strange", "other"))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="mm"),
        helper.make_node("Special", ["a", "strange"], ["b"], name="first", domain="my.company"),
        helper.make_node("Special", ["b", "other"], ["c"], name="second", domain="my.company"),
        helper.make_node("MatMul", ["c", "s"], ["y"], name="last"),
    ]
    return build(nodes, [value("x", ["N", 64])], [value("y")], tensors, domains=["my.company"])


def warnings(folder: Path, made: onnx.ModelProto, settings: Settings | None = None) -> list[str]:
    onnx.save(made, folder / "m.onnx")
    report = compress(folder / "m.onnx", folder / "m.cwb", settings=settings, force=True)
    return [warning for warning in report.warnings if not warning.startswith("no calibration data")]


def test_one_warning_with_share_and_reason(tmp_path: Path) -> None:
    assert warnings(tmp_path, model(64)) == [
        "32,768 of the 65,536 bytes of tensors (50 %) are floats that stay exact, most of them like 'strange': operand "
        "of Special 'first' of the domain 'my.company'; cerwu-onnx inspect lists all"
    ]


@pytest.mark.parametrize(
    ("made", "rules"),
    [
        (model(8), ()),  # 4,096 of 36,864 bytes
        (model(64), (LayerRule("strange", skip=True), LayerRule("other", skip=True))),
    ],
    ids=["share", "asked for"],
)
def test_no_warning(tmp_path: Path, made: onnx.ModelProto, rules: tuple[LayerRule, ...]) -> None:
    assert not warnings(tmp_path, made, Settings(rules=rules))


def test_a_few_bytes_are_not_worth_it(tmp_path: Path) -> None:
    made = model(4, small=4)
    made.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((64, 1), np.float32), "w"))
    assert not warnings(tmp_path, made)
