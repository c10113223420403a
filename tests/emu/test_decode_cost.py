"""cerwu_onnx/entropy/decode_cost.py against instructions that are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from cerwu_onnx.entropy import decode_cost

pytest.importorskip("ziglang", reason="pip install ziglang unicorn")
pytest.importorskip("unicorn", reason="pip install ziglang unicorn")

from tests.bench.decode_cost import counted, tensors

from . import build
from .decoder import ALL
from .targets import M4


@pytest.mark.parametrize(
    ("coder", "costs"), [("ans", decode_cost.ANS), ("adaptive", decode_cost.ADAPTIVE)], ids=["ans", "adaptive"]
)
def test_the_model_tells_what_is_counted(tmp_path: Path, coder: str, costs: dict[str, float]) -> None:
    program = build.program(M4, tmp_path, "-Os", ALL)
    for values, run in tensors(1, 12):
        work, instructions = counted(program, values, run, coder)
        assert decode_cost.instructions(work, costs) == pytest.approx(instructions, rel=0.12)
