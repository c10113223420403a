"""Whole models on emulated machines: outputs as onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
pytest.importorskip("emx_onnx_cgen", reason="no C generator: pip install -e '.[inference]'")

from cerwu_onnx.inference import split
from cerwu_onnx.opened import CompressedModel

from ..inference.programs import compressed, firmware, net, written
from ..models import normal
from . import inference
from .targets import RUNNERS, Target

SAMPLE = Path(__file__).resolve().parents[2] / "sample_models" / "fashion_dscnn"


@pytest.mark.parametrize("target", RUNNERS, ids=lambda target: target.name)
def test_a_model_on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setattr(split, "TILE", 200)
    container = compressed(net(), tmp_path, coder="adaptive" if target.name == "RV32IMC" else "auto")
    folder = written(firmware(container), tmp_path / "c")
    model = inference.Model(target, inference.program(target, folder, tmp_path), 144, 5)
    values = normal(1, 1, 12, 12, seed=4)
    (theirs,) = ort.InferenceSession(CompressedModel(container).to_onnx().SerializeToString()).run(None, {"x": values})
    ours = model.run(values).output
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    counted = model.run(values, count=True)
    np.testing.assert_array_equal(counted.output, ours)  # a run leaves nothing behind that changes the next
    assert sum(counted.instructions[name] for name in counted.instructions if name.startswith("node")) > 144 * 8 * 9
    assert 0 < counted.stack < 2048
