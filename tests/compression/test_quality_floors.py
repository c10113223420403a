"""How good the compressor is, as constants: a worse quantiser or coder fails here, not only in a benchmark.

Each floor is about a file that the tool writes: at most so many bytes, and at most so much loss at the model's outputs
on samples that calibration has not seen. Both are what was measured when the floor was written, which its comment
says, with a margin: 1.5 % for bytes, 10 to 12 % for the loss.

The margins are for other machines. Sums round differently in other kernels of BLAS and onnxruntime; then a few weights
fall on the other side of a decision, and the layers behind them see other inputs. Bytes hardly feel that, for they are
a sum over all weights. The loss is a small difference between two models, and other errors of the same size give
another one. (BLAS is not the one to fear: its kernels for processors of 1999 and of 2017 gave the same bytes and
losses.) Lower a floor when the compressor gets better.

What it is worth to have a part of the method is told beside a floor that breaks without it, measured with the part
taken out as tests/bench/sweeps.py does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import Settings
from cerwu_onnx.calibration import answer_of

from ..models import run
from ..test_sample_models import ROOT, load_eval

SAMPLES = 1000
"""Of each model's test data, on which the loss is measured: KL divergence in nats."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a file may have at most.

    Attributes:
        model: folder in sample_models/.
        bytes: of the file.
        loss: at the model's outputs.
        settings: that differ from the default.
        data: whether the model's calibration data is used.
    """

    model: str
    bytes: int
    loss: float
    settings: dict[str, Any]
    data: bool = True


FLOORS = {
    # 5085 bytes, 0.0354. (Of 5665 bytes and 0.0203, at another scale of sensitivities: with ANS alone 6004 bytes; loss
    # without row feedback 0.0364, trellis 0.213; without steps of rows 5862 bytes, 0.0189.)
    "depthwise": Floor("fashion_dscnn", 5161, 0.0393, {"lambda_": 0.2}),
    # 6031 bytes, 0.0947. (Of 6199 bytes and 0.0938: loss without cross-validated damping 0.112, repair 0.106, trellis
    # 0.274.)
    "recurrent": Floor("sequence_gru", 6122, 0.1051, {"lambda_": 0.2}),
    # 6981 bytes, 0.0654. (Of 9060 bytes and 0.0393, at another scale of sensitivities: loss without row feedback
    # 0.0615, trellis 0.175, cross-validated damping 0.128, repair 0.0497.)
    "convolutions": Floor("fashion_cnn", 7086, 0.0726, {"lambda_": 0.2}),
    # 5062 bytes, 0.0348. Rows of convolutions lie in the order of taps, then channels, and the trellis follows them.
    "order of CMSIS-NN": Floor("fashion_dscnn", 5138, 0.0386, {"lambda_": 0.2, "weight_layout": "cmsis"}),
    # 6110 bytes, 0.0947.
    "ANS": Floor("sequence_gru", 6202, 0.1051, {"lambda_": 0.2, "coder": "ans"}),
    # 5327 bytes, 0.0299.
    "fast": Floor("fashion_dscnn", 5407, 0.0332, {"lambda_": 0.2, "effort": "fast"}),
    # 18929 bytes, 0.00116.
    "without data": Floor("fashion_dscnn", 19213, 0.0013, {"lambda_": 0.2}, data=False),
}


@pytest.mark.parametrize("name", FLOORS)
def test_no_file_is_larger_or_worse(name: str, tmp_path: Path) -> None:
    floor = FLOORS[name]
    folder = ROOT / floor.model
    calib = folder / "calib.npz" if floor.data else None
    report = cerwu_onnx.compress(
        folder / "model.onnx", tmp_path / "model.cwb", calib=calib, settings=Settings(**floor.settings)
    )
    original = onnx.load(folder / "model.onnx")
    inputs = load_eval(folder).preprocess(np.load(folder / "test.npz")["inputs"])[:SAMPLES]
    feed = {original.graph.input[0].name: inputs}
    before, after = (run(model, feed)[:1] for model in (original, cerwu_onnx.decompress(tmp_path / "model.cwb")))
    loss = answer_of(before).loss(before, after)
    print(f"{name}: {report.file_bytes} bytes, loss {loss:.3g}")  # what pytest shows of a test that fails
    assert report.file_bytes <= floor.bytes
    assert loss <= floor.loss
