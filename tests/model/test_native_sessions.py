"""Sessions by the graph in C are those of the model that Python rebuilds, and refuse what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cerwu_onnx
from cerwu_onnx import native
from cerwu_onnx.container.native_model import Model
from cerwu_onnx.errors import BaseError, CorruptFileError, ModelError, UsageError
from cerwu_onnx.jobs.threads import shared
from cerwu_onnx.model import native_sessions

from .. import models

pytestmark = pytest.mark.skipif(not native.available(), reason="no C library: install a C compiler to build it")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SAMPLE = Path(__file__).resolve().parents[2] / "sample_models/fashion_cnn"
NONE = SimpleNamespace(available=lambda: False)
"""What stands for the library where sessions are to be opened by Python."""
FEED = {"x": models.normal(3, 64, seed=1)}


def net(dtype: type = np.float32) -> onnx.ModelProto:
    """Gemm and MatMul with large weights, one that nothing reads, and a large table of integers."""
    tensors = {
        "w": models.normal(256, 64, seed=2),
        "v": models.normal(256, 80, seed=3),
        "unread": models.normal(300, 70, seed=4),
        "table": np.arange(300 * 70, dtype=np.int64).reshape(300, 70) % 1000,
        "rows": np.array([0, 2, 5]),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
        helper.make_node("Gather", ["table", "rows"], ["z"]),
    ]
    outputs = [models.value("y", ("N", 80)), models.value("z", (3, 70), TensorProto.INT64)]
    model = models.build(nodes, [models.value("x", ("N", 64))], outputs, tensors)
    if dtype is np.float16:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                half = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
                tensor.CopyFrom(half)
        model.graph.node[0].input[0] = model.graph.node[0].input[0] + "16"
        model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def compressed(folder: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, folder / "m.onnx")
    settings = cerwu_onnx.Settings(method="rtn", levels=16)
    cerwu_onnx.compress(folder / "m.onnx", folder / "m.cwb", settings=settings)
    return folder / "m.cwb"


def outputs(path: Path, **options: object) -> list[np.ndarray]:
    return cerwu_onnx.load_session(path, **options).run(None, FEED)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("apart", [1, 1 << 16, 1 << 40])
def test_the_same_outputs(dtype: type, apart: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is handed over beside the graph: all, large tensors, none."""
    path = compressed(tmp_path, net(dtype))
    monkeypatch.setattr(native_sessions, "APART", apart)
    found = outputs(path)
    monkeypatch.setattr("cerwu_onnx.runtime.native", NONE)
    for one, other in zip(found, outputs(path), strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_graph_is_that_of_python() -> None:
    for name in ("v1/model.cwb", "v2/model.cwb", "v2/base.cwb"):
        file = cerwu_onnx.open(GOLDEN / name)
        if not file.has_graph:
            continue
        model = Model((GOLDEN / name).read_bytes())
        content = model.frame()
        places = [content[tensor.offset : tensor.offset + tensor.size] for tensor in model.tensors]
        model.decode_list(range(len(places)), places)
        assert content.tobytes() == file.to_onnx().SerializeToString(deterministic=True)


def test_options_and_errors_of_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    path = compressed(tmp_path, net())
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = cerwu_onnx.load_session(path, sess_options=options, providers=["CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cerwu_onnx.load_session(path).get_session_options().intra_op_num_threads == 1
    broken = net()
    broken.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelError, match="onnxruntime cannot load the model: "):
        native_sessions.open_session(broken.SerializeToString(), options, {})


def test_damage_is_refused_as_python_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compressed(tmp_path, net())
    content = bytearray(path.read_bytes())
    record = next(record for record in cerwu_onnx.open(path).container.tensors if record.name == "v")
    for place in (5, record.offset + record.size // 2, len(content) - 3):
        damaged = bytearray(content)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=str(path)) as native_error:
            cerwu_onnx.load_session(path)
        assert place != record.offset + record.size // 2 or "'v'" in str(native_error.value)
        with monkeypatch.context() as patch:
            patch.setattr("cerwu_onnx.runtime.native", NONE)
            with pytest.raises(CorruptFileError):
                cerwu_onnx.load_session(path)


def test_what_is_no_model() -> None:
    with pytest.raises(UsageError, match="weights only"):
        cerwu_onnx.load_session(GOLDEN / "v2/forms.cwb")
    with pytest.raises(BaseError, match="needs its base"):
        cerwu_onnx.load_session(GOLDEN / "v2/delta.cwb")
    with pytest.raises(UsageError, match="No such file"):
        cerwu_onnx.load_session(GOLDEN / "none.cwb")


def test_arrays_of_another_size_are_not_written_to() -> None:
    model = Model((GOLDEN / "v2/model.cwb").read_bytes())
    with pytest.raises(ValueError, match="other sizes"):
        model.decode_list([0], [np.empty(1, np.uint8)])


def test_jobs_are_shared() -> None:
    assert shared([5, 9, 3, 3], 2) == [[1], [0, 2, 3]] or shared([5, 9, 3, 3], 2) == [[1, 3], [0, 2]]
    assert sorted(sum(shared([1, 2, 3], 5), [])) == [0, 1, 2]  # noqa: RUF017
