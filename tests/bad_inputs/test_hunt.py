"""A short form of the hunt for "unexpected": ``python -m tests.bad_inputs.hunt`` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cerwu_onnx.cli import inspect

from ..cli.conftest import run, small_model
from .hunt import Hunt, bases, data_for, hunt, metadata_forged, mutated

__all__ = ["run"]


@pytest.mark.usefixtures("run")
def test_nothing_is_unexpected(tmp_path: Path) -> None:
    """Each 16th model and hostile file, once."""
    found = hunt(tmp_path, [], 1, 5, every=16)
    assert not found.failures, found.failures
    assert found.runs > 60


@pytest.mark.usefixtures("run")
def test_the_hunt_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    found = Hunt(tmp_path)
    monkeypatch.setattr(inspect, "_first_bytes", fail)
    found.file("good", (tmp_path / "good.cwb").read_bytes())
    assert [failure.call[0] for failure in found.failures.values()] == ["inspect"]
    assert "error: unexpected ZeroDivisionError" in next(iter(found.failures.values())).said


def test_mutations_change_something_and_are_repeated() -> None:
    base = small_model()
    first, again = ([mutated(base, random.Random(seed)).SerializeToString() for seed in range(40)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 30
    names = [name for name, _ in bases()]
    assert len(names) == len(set(names)) > 100
    assert set(data_for(base, random.Random(1))) == {"x"}


@pytest.mark.usefixtures("run")
def test_forged_metadata_is_read_or_refused(tmp_path: Path) -> None:
    """Every key says what it must not; right CRCs are around it."""
    found = Hunt(tmp_path)
    good = (tmp_path / "good.cwb").read_bytes()
    for seed in range(12):
        found.file(str(seed), metadata_forged(good, random.Random(seed)))
    assert not found.failures, found.failures


@pytest.mark.parametrize("element", [0, 77])
def test_inputs_of_no_type(tmp_path: Path, element: int) -> None:
    from cerwu_onnx.errors import ModelError
    from cerwu_onnx.model.tensors import model_inputs

    model = small_model()
    model.graph.input[0].type.tensor_type.elem_type = element
    with pytest.raises(ModelError, match=f"input 'x' has the unknown element type {element}"):
        model_inputs(model)
