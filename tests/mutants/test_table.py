"""The table of mutants is current."""

from __future__ import annotations

import pytest

from .mutant import ROOT, Mutant
from .table import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.where}: {mutant.text}")
def test_the_text_stands_there_once_and_the_tests_exist(mutant: Mutant) -> None:
    mutant.place()
    assert mutant.change != mutant.text
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_no_mutant_is_there_twice() -> None:
    assert len({(mutant.where, mutant.text, mutant.change) for mutant in MUTANTS}) == len(MUTANTS)


def test_every_room_has_mutants() -> None:
    rooms = {path.name for path in (ROOT / "cerwu_onnx").iterdir() if (path / "__init__.py").exists()}
    found = {mutant.room for mutant in MUTANTS}
    assert found == (rooms - {"cli"}) | {"cerwu_onnx", "cli", "decoder_c/src", "decoder_c/host"}
