"""Files of named arrays through the whole tool: what comes back, how far from what went in, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cerwu_onnx
from cerwu_onnx import Settings, Target
from cerwu_onnx.array_files.dtypes import DTYPES, FLOATS, Typed, from_float32, to_float32
from cerwu_onnx.array_files.files import ArrayFile, read_arrays, write_arrays
from cerwu_onnx.array_files.masks import masks
from cerwu_onnx.compression.arrays import exact_part
from cerwu_onnx.config import LayerRule
from cerwu_onnx.container import reader, writer
from cerwu_onnx.errors import CalibrationError, CheckFailed, CorruptFileError, ModelError, UsageError
from cerwu_onnx.opened import CompressedModel

from ..cli.conftest import Run, run

__all__ = ["run"]  # the fixture

RANDOM = np.random.default_rng(11)
SAMPLE: dict[str, Typed] = {
    "a": Typed(RANDOM.normal(size=(24, 40)).astype(np.float32), "float32"),
    "half": Typed((RANDOM.normal(size=(40, 24)) / 50).astype(np.float16), "float16"),
    "brain": Typed(from_float32(RANDOM.normal(size=(16, 4, 3, 3)).astype(np.float32), "bfloat16"), "bfloat16"),
    "double": Typed(RANDOM.normal(size=(8, 33)), "float64"),
    "zero": Typed(np.zeros((32, 32), np.float32), "float32"),
    "vector": Typed(RANDOM.normal(size=300).astype(np.float32), "float32"),
    "small": Typed(RANDOM.normal(size=(5, 5)).astype(np.float32), "float32"),
    "infinite": Typed(np.where(np.eye(17) > 0, np.inf, 1.0).astype(np.float32), "float32"),
    "large": Typed(np.array(2**40 + 1), "int64"),
    "byte": Typed(np.arange(256, dtype=np.uint8).reshape(4, 64), "uint8"),
    "eighth": Typed(np.arange(6, dtype=np.uint8), "float8_e4m3fn"),
    "none": Typed(np.zeros((3, 0), np.int16), "int16"),
}  # fmt: skip
QUANTISED = {"a", "half", "brain", "double", "zero"}


def saved(path: Path, arrays: dict[str, Typed], about: dict[str, str] | None = None) -> Path:
    with path.open("wb") as stream:
        write_arrays(stream, path, ArrayFile(arrays, about or {}))
    return path


def difference(one: Typed, other: Typed) -> float:
    """Root of squared error over energy."""
    a, b = (to_float32(array).astype(np.float64) for array in (one, other))
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-300))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("sample") / "x.safetensors", SAMPLE, {"format": "pt"})


def test_arrays_come_back_by_name_with_the_error_that_was_stated(sample: Path, tmp_path: Path) -> None:
    report = cerwu_onnx.compress(sample, tmp_path / "x.cwb")
    assert {layer.name for layer in report.layers} == QUANTISED
    assert report.array_error == pytest.approx(0.001**0.5)
    assert report.warnings == ()
    assert sum(report.other_bytes.values()) + report.weight_bytes == report.file_bytes
    opened = cerwu_onnx.open(tmp_path / "x.cwb")
    assert list(opened) == list(SAMPLE)
    opened.verify()
    opened.save_arrays(tmp_path / "y.safetensors")
    back = read_arrays(tmp_path / "y.safetensors")
    assert dict(back.about) == {"format": "pt"}
    for name, array in SAMPLE.items():
        found = back.arrays[name]
        assert (found.dtype, found.values.shape) == (array.dtype, array.values.shape)
        assert opened[name].tobytes() == found.values.tobytes()
        if name in QUANTISED - {"zero"}:
            assert 0.02 < difference(array, found) < 0.001**0.5 + 2.0**-8 * (array.dtype == "bfloat16")
        else:
            assert found.values.tobytes() == array.values.tobytes()
    for layer in report.layers:
        assert layer.relative_error <= 0.001
        assert layer.bits_per_weight < 5.5 or layer.name in {"double"}


def test_a_larger_error_takes_fewer_bits(sample: Path, tmp_path: Path) -> None:
    bits = []
    for fidelity in (0.999, 0.99, 0.9):
        report = cerwu_onnx.compress(sample, tmp_path / "x.cwb", target=Target(fidelity=fidelity), force=True)
        assert all(layer.relative_error <= 1 - fidelity for layer in report.layers)
        bits.append(next(layer.bits_per_weight for layer in report.layers if layer.name == "a"))
    assert np.allclose(np.diff(bits), -np.log2(10) / 2, atol=0.25), "a tenth of the squared error is 1.66 bits"


def test_sizes_and_prices(sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.cwb"
    report = cerwu_onnx.compress(sample, output, target=Target(size=4000))
    assert 3800 < output.stat().st_size <= 4000
    assert report.array_error is None
    priced = cerwu_onnx.compress(sample, output, settings=Settings(lambda_=report.lambda_), force=True)
    assert priced.file_bytes == report.file_bytes
    bits = cerwu_onnx.compress(sample, output, target=Target(bits_per_weight=3), force=True).bits_per_weight
    assert 2.9 < bits <= 3
    before = output.read_bytes()
    for target in (Target(size=100), Target(fail_above=100)):
        with pytest.raises(CheckFailed, match="nothing was written"):
            cerwu_onnx.compress(sample, output, target=target, force=True)
    assert output.read_bytes() == before


def test_the_number_of_jobs_changes_nothing(sample: Path, tmp_path: Path) -> None:
    contents = []
    for jobs in (1, 3):
        cerwu_onnx.compress(sample, tmp_path / "x.cwb", jobs=jobs, force=True)
        contents.append((tmp_path / "x.cwb").read_bytes())
    assert contents[0] == contents[1]


def test_moments_move_the_error_where_inputs_are_small(tmp_path: Path) -> None:
    """The error of products is bounded, and costs fewer bits than that of weights; brute force says what it is."""
    weight = RANDOM.normal(size=(48, 64)).astype(np.float32)
    inputs = RANDOM.normal(size=(500, 64)) * np.geomspace(0.01, 3, 64) @ np.linalg.qr(RANDOM.normal(size=(64, 64)))[0]
    np.savez(tmp_path / "w.npz", w=weight)
    np.savez(tmp_path / "moments.npz", w=inputs.T @ inputs / 500)
    plain = cerwu_onnx.compress(tmp_path / "w.npz", tmp_path / "plain.cwb")
    report = cerwu_onnx.compress(tmp_path / "w.npz", tmp_path / "w.cwb", calib=tmp_path / "moments.npz")
    assert report.calibration == "data"
    assert report.bits_per_weight < plain.bits_per_weight - 0.7
    error = inputs @ (cerwu_onnx.open(tmp_path / "w.cwb")["w"] - weight).T
    share = (error**2).sum() / ((inputs @ weight.T) ** 2).sum()
    assert share == pytest.approx(report.layers[0].relative_error, rel=1e-3)
    assert share <= 0.001


def test_rules(sample: Path, tmp_path: Path) -> None:
    rules = (LayerRule("a", skip=True, where="--skip"), LayerRule("half", bits=4), LayerRule("double", price=9))
    report = cerwu_onnx.compress(sample, tmp_path / "x.cwb", settings=Settings(rules=rules))
    assert [kept.reason for kept in report.kept if kept.name == "a"] == ["left alone (--skip)"]
    errors = {layer.name: layer.relative_error for layer in report.layers}
    assert 0.007 < errors["double"] <= 0.009
    container = reader.read(tmp_path / "x.cwb")
    assert {record.name: record.largest for record in container.tensors if record.is_coded}["half"] <= 7
    assert any("larger error than asked for, half among them" in warning for warning in report.warnings)
    with pytest.raises(UsageError, match="matches no tensor"):
        cerwu_onnx.compress(sample, tmp_path / "y.cwb", settings=Settings(rules=(LayerRule("none*x"),)))


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ({"b": np.eye(40)}, "no array 'b'"),
        ({"a": np.eye(24)}, "needs \\(40, 40\\): rows are outputs"),
        ({"a": np.eye(40, dtype=int)}, "needs"),
        ({"vector": np.eye(1)}, "needs \\(0, 0\\)"),
        ({"a": np.triu(np.ones((40, 40)))}, "not symmetric"),
        ({"a": np.full((40, 40), np.nan)}, "not finite"),
        ({"a": -np.eye(40)}, "negative mean square"),
    ],
)
def test_moments_that_do_not_fit(moments: dict[str, Any], message: str, sample: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **moments)
    with pytest.raises(CalibrationError, match=message):
        cerwu_onnx.compress(sample, tmp_path / "x.cwb", calib=tmp_path / "m.npz")
    assert not (tmp_path / "x.cwb").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": Settings(method="rtn")}, "by the method trellis, not rtn"),
        ({"settings": Settings(weight_layout="cmsis")}, "--weight-layout is for models"),
        ({"settings": Settings(in_place=True)}, "--in-place is for models"),
        ({"target": Target(max_drop=0.1, metric="agreement", metric_data="x")}, "no model that a metric could score"),
        ({"settings": Settings(lambda_=1), "target": Target(size=1)}, "exclude each other"),
        ({"settings": Settings(lambda_=1), "target": Target(fidelity=0.9)}, "exclude each other"),
        ({"resume": True}, "no resume"),
        ({"base": "x.cwb"}, "know no base"),
        ({"calib": [1]}, "calib is the path"),
        ({"calib": "calib"}, "moments of inputs are a .npz"),
    ],
)
def test_what_needs_a_model_is_refused(arguments: dict[str, Any], message: str, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        cerwu_onnx.compress(sample, tmp_path / "x.cwb", **arguments)
    assert not (tmp_path / "x.cwb").exists()


def test_warnings(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", v=np.ones(3))
    report = cerwu_onnx.compress(tmp_path / "x.npz", tmp_path / "x.cwb")
    assert report.warnings == ("no array was quantised: a vector or a single number",)
    with pytest.raises(ModelError, match="strict: no array was quantised"):
        cerwu_onnx.compress(tmp_path / "x.npz", tmp_path / "y.cwb", settings=Settings(strict=True))
    np.savez(tmp_path / "empty.npz")
    report = cerwu_onnx.compress(tmp_path / "empty.npz", tmp_path / "e.cwb")
    assert report.warnings == ("no array was quantised: the file holds none",)
    assert len(cerwu_onnx.open(tmp_path / "e.cwb")) == 0


@given(st.sampled_from(sorted(set(DTYPES) - set(FLOATS))), st.data())
@settings(deadline=None, max_examples=80)
def test_integers_come_back_exactly(dtype: str, data: st.DataObject) -> None:
    bits = np.dtype(DTYPES[dtype])
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    small = hnp.from_dtype(bits) if bits.kind == "b" else st.integers(
        max(-2047, int(np.iinfo(bits).min)), min(2047, int(np.iinfo(bits).max))
    )  # fmt: skip
    array = Typed(data.draw(hnp.arrays(bits, shape, elements=data.draw(st.sampled_from([small, None])))), dtype)
    part = exact_part("x", array, "auto")
    metadata = writer.metadata_section(masks({"x": dtype}, {"x"} if part.record.is_coded else ()))
    file = CompressedModel(reader.parse(writer.assemble([part, writer.names_section(["x"]), metadata])))
    assert file["x"].dtype == bits
    assert file["x"].shape == array.values.shape
    assert file["x"].tobytes() == array.values.tobytes()


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"arrays": {"int8": "1"}}, "values that are none of int8"),
        ({"arrays": {"bool": "1"}}, "values that are none of bool"),
        ({"arrays": {"int64": "2"}}, "float32 elements for int64"),
        ({"arrays": {"int8": "4"}}, "the mask of int8"),
        ({"arrays": 3}, "no object of masks"),
        ({"arrays": {"float16": "1"}}, "values that float16 does not hold"),
    ],
)
def test_metadata_that_lie(marks: dict[str, Any], message: str) -> None:
    coded = cerwu_onnx.types.QuantizedTensor(np.array([[2000, -1]]), 100.0, 0, 0, 0)
    parts = [
        writer.encode_tensor(writer.CodedTensor("c", coded)),
        writer.encode_tensor(writer.RawTensor("r", reader.f.ElementType.FLOAT32, np.zeros(1, np.float32))),
        writer.names_section(["c", "r"]),
        writer.metadata_section(marks),
    ]
    file = CompressedModel(reader.parse(writer.assemble(parts)))
    with pytest.raises(CorruptFileError, match=message):
        list(file.values())


def test_the_command_line(sample: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("compress", str(sample), "x.cwb")
    assert done.code == 0
    assert "error of each array  at most 3.16% (root mean square, relative)" in done.out
    assert not done.err
    shown = run("inspect", "x.cwb").out
    assert "exact int64" in shown
    assert "format: pt" in shown
    assert run("verify", "x.cwb").code == 0
    assert run("decompress", "x.cwb", "y.safetensors").out.endswith("12 arrays\n")
    assert run("decompress", "x.cwb", "y.npz").err.count("give a .safetensors file") == 1  # float8
    assert not (tmp_path / "y.npz").exists()
    for words, message in (
        (("decompress", "x.cwb", "y.safetensors"), "exists"),
        (("decompress", "x.cwb", "y.onnx"), "weights only"),
        (("compress", "y.onnx.npz", "z.cwb"), "No such file"),
    ):
        failed = run(*words)
        assert (failed.code, failed.err.count("\n")) == (2, 1)
        assert message in failed.err
    (tmp_path / "bad.npz").write_bytes(b"x")
    failed = run("compress", "bad.npz", "z.cwb")
    assert (failed.code, failed.err) == (3, "error: bad.npz: not a readable .npz file: File is not a zip file\n")


def test_a_model_is_no_file_of_arrays(tmp_path: Path) -> None:
    model = Path(__file__).resolve().parents[2] / "tests/golden/v1/model.cwb"
    with pytest.raises(UsageError, match="holds a model"):
        cerwu_onnx.open(model).save_arrays(tmp_path / "x.npz")
    weights = Path(__file__).resolve().parents[2] / "tests/golden/v1/forms.cwb"
    assert cerwu_onnx.open(weights).save_arrays(tmp_path / "x.npz") == len(cerwu_onnx.open(weights))
    with np.load(tmp_path / "x.npz") as stored:
        assert all(np.array_equal(stored[name], array) for name, array in cerwu_onnx.open(weights).items())
