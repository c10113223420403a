"""The warning about channels that vanish beside much larger ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx import Settings, compress, decompress
from cerwu_onnx.model.tensors import get_tensor

from ..models import build, normal, value


def depthwise(scales: np.ndarray) -> onnx.ModelProto:
    """A depthwise convolution whose channels have weights of these sizes."""
    weight = normal(len(scales), 1, 3, 3) * scales.astype(np.float32)[:, None, None, None]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", group=len(scales))
    shape = ["N", len(scales), 8, 8]
    return build([node], [value("x", shape)], [value("y")], {"w": weight})


def warnings(folder: Path, model: onnx.ModelProto, **options: object) -> list[str]:
    onnx.save(model, folder / "m.onnx")
    report = compress(folder / "m.onnx", folder / "m.cwb", **options)
    return [warning for warning in report.warnings if not warning.startswith("no calibration data")]


def test_channels_that_vanish_without_data(tmp_path: Path) -> None:
    model = depthwise(np.repeat([1.0, 1e-4], [24, 8]))
    (warning,) = warnings(tmp_path, model, settings=Settings(method="rtn", lambda_=0))
    assert warning.startswith("layer w: 8 of its 32 channels lose most of their weights, which are orders of magnitude")
    lost = get_tensor(decompress(tmp_path / "m.cwb"), "w").reshape(32, 9)
    assert not lost[24:].any()
    assert lost[:24].any(axis=1).all()


def test_rows_have_steps_of_their_own(tmp_path: Path) -> None:
    """The default method keeps channels that are orders of magnitude smaller, at a tenth of the others' precision."""
    model = depthwise(np.geomspace(1, 1e-4, 32))
    assert not warnings(tmp_path, model)
    original = get_tensor(model, "w").reshape(32, 9)
    error = np.linalg.norm(get_tensor(decompress(tmp_path / "m.cwb"), "w").reshape(32, 9) - original, axis=1)
    assert (error < 0.3 * np.linalg.norm(original, axis=1)).all()


@pytest.mark.parametrize(
    "scales",
    [
        pytest.param(np.ones(32), id="equal"),
        pytest.param(np.repeat([1.0, 0.3], [24, 8]), id="alike"),
        pytest.param(np.repeat([1.0, 0.0], [24, 8]), id="zero before"),
        pytest.param(np.repeat([1.0, 1e-4], [31, 1]), id="one of many"),
    ],
)
def test_no_warning(tmp_path: Path, scales: np.ndarray) -> None:
    assert not warnings(tmp_path, depthwise(scales))


def test_a_low_rate_loses_rows_without_a_warning(tmp_path: Path) -> None:
    assert not warnings(tmp_path, depthwise(np.repeat([1.0, 0.3], [24, 8])), settings=Settings(lambda_=8.0))
    lost = get_tensor(decompress(tmp_path / "m.cwb"), "w").reshape(32, 9)
    assert 2 <= (~lost.any(axis=1)).sum() < 24  # more than 5 %


def test_data_tells_what_matters(tmp_path: Path) -> None:
    model = depthwise(np.repeat([1.0, 1e-4], [24, 8]))
    assert not warnings(tmp_path, model, calib={"x": normal(40, 32, 8, 8) + normal(40, 1, 1, 1, seed=1)})
