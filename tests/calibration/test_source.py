"""Calibration data from everywhere, and one clear line for each way it can be wrong."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx.calibration import ImageOptions, open_source
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.model.graph import InputInfo

from ..models import normal


def info(name: str = "x", shape=("N", 3), dtype=np.float32) -> InputInfo:
    return InputInfo(name, np.dtype(dtype), shape)


X = [info()]
XY = [info("x"), info("y", ("N", 2), np.int64)]


def everything(source, size: int = 4) -> dict[str, np.ndarray]:
    feeds = list(source.batches(size))
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


# Arrays and .npz files


@given(st.integers(1, 9), st.integers(1, 12))
@settings(deadline=None, max_examples=30)
def test_batches_of_an_array(samples: int, size: int) -> None:
    x = normal(samples, 3)
    source = open_source({"x": x}, X)
    feeds = list(source.batches(size))
    assert source.samples == samples
    assert [len(feed["x"]) for feed in feeds[:-1]] == [size] * (len(feeds) - 1)
    assert [source.count(feed) for feed in feeds] == [len(feed["x"]) for feed in feeds]
    assert np.array_equal(everything(source, size)["x"], x)
    assert np.array_equal(source.first()["x"], x[:1])
    assert np.array_equal(open_source(x, X).first()["x"], x[:1])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save) -> None:
    x, y = normal(7, 3), np.arange(14).reshape(7, 2)
    save(tmp_path / "c.npz", x=x, y=y)
    source = open_source(str(tmp_path / "c.npz"), XY)
    for _ in range(2):
        found = everything(source, 3)
        assert np.array_equal(found["x"], x)
        assert np.array_equal(found["y"], y)
    assert source.samples == 7
    assert open_source(tmp_path / "c.npz", XY, limit=5).samples == 5
    assert len(everything(open_source(tmp_path / "c.npz", XY, limit=5))["y"]) == 5


def test_npz_is_read_at_first_use(tmp_path: Path) -> None:
    path = npz(tmp_path / "c.npz", x=normal(7, 3))
    source = open_source(path, X)
    path.unlink()
    with pytest.raises(CalibrationError, match=r"c\.npz: cannot be read"):
        source.first()
    path = npz(tmp_path / "c.npz", x=normal(7, 3))
    source.first()
    path.unlink()
    assert len(everything(source)["x"]) == 7  # kept in memory from then on


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": 1}, r"c\.npz misses 'x': it holds 'y', the model's inputs are 'x' float32 \(N, 3\), 'y' int64"),
        ({}, r"c\.npz misses 'x', 'y': it holds nothing"),
        ({"x": 1, "y": 1, "z": 1}, "has the unknown key 'z': it holds 'x', 'y', 'z'"),
        ({"x": normal(4, 5), "y": 1}, r"'x' has shape \(4, 5\), the model needs 'x' float32 \(N, 3\) with samples"),
        ({"x": normal(3), "y": 1}, r"'x' has shape \(3,\)"),
        ({"x": np.float32(3), "y": 1}, r"'x' has shape \(\)"),
        ({"x": normal(4, 3).astype(int), "y": 1}, "'x' is int64, the model needs float32: convert it and scale it"),
        ({"x": 1, "y": normal(4, 2)}, "'y' is float32, the model needs int64$"),
        ({"x": 1, "y": np.ones((4, 2), bool)}, "'y' is bool, the model needs int64"),
        ({"x": 1, "y": np.ones((4, 2), complex)}, "'y' is complex128, the model needs int64"),
        ({"x": normal(3, 3), "y": 1}, "different numbers of samples: 'x' 3, 'y' 4; give an input"),
        ({"x": normal(0, 3), "y": np.ones((0, 2), int)}, r"c\.npz holds 0 samples"),
        ({"x": np.array([[None] * 3]), "y": 1}, "not a readable .npz file: arrays of Python objects"),
    ],
)
def test_npz_that_does_not_fit(tmp_path: Path, arrays, message: str) -> None:
    good = {"x": normal(4, 3), "y": np.ones((4, 2), int), "z": normal(4)}
    arrays = {name: good[name] if isinstance(array, int) else array for name, array in arrays.items()}
    with pytest.raises(CalibrationError, match=message) as caught:
        open_source(npz(tmp_path / "c.npz", **arrays), XY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 but cut"])
def test_damaged_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"c\.npz: not a readable \.npz file"):
        open_source(tmp_path / "c.npz", X)


def test_values_that_do_not_fit() -> None:
    x = normal(9, 3)
    for bad, kind in [(np.nan, "NaN"), (np.inf, "an infinite value")]:
        x[6, 1] = bad
        with pytest.raises(CalibrationError, match=f"calibration data: 'x' holds {kind} in sample 6"):
            list(open_source({"x": x}, X).batches(4))
    wide = np.zeros((9, 3))
    wide[5] = 1e300
    with pytest.raises(CalibrationError, match="an infinite value in sample 5"):
        list(open_source({"x": wide}, X).batches(4))
    whole = np.zeros((3, 3), np.int64)
    whole[2, 0] = 300
    with pytest.raises(CalibrationError, match="'x' is int64 and holds a value in sample 2 that does not fit uint8"):
        list(open_source({"x": whole}, [info(dtype=np.uint8)]).batches(4))


def test_casts_that_lose_nothing_that_matters() -> None:
    cases = [
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.int64, np.int32),
        (np.uint8, np.int64),
        (">f4", np.float32),
    ]
    for have, want in cases:
        source = open_source({"x": np.arange(6).reshape(2, 3).astype(have)}, [info(dtype=want)])
        feed = source.first()
        assert feed["x"].dtype == want
        assert np.array_equal(feed["x"], [[0, 1, 2]])
    source = open_source({"x": np.array([["a", "b", "c"]])}, [info(dtype=object)])
    assert source.first()["x"].dtype == object


def test_fixed_batch(caplog: pytest.LogCaptureFixture) -> None:
    x = normal(10, 3)
    with caplog.at_level(logging.WARNING):
        source = open_source({"x": x}, [info(shape=(4, 3))])
    assert "batch size is fixed to 4: the last 2 of 10 calibration samples are not used" in caplog.text
    assert source.samples == 8
    assert [feed["x"].shape for feed in source.batches(100)] == [(4, 3), (4, 3)]
    assert np.array_equal(everything(source)["x"], x[:8])
    assert [feed["x"].shape for feed in open_source({"x": x}, [info(shape=(1, 3))]).batches(9)] == [(1, 3)] * 10
    with pytest.raises(CalibrationError, match="holds 3 samples; the model needs 4 at a time"):
        open_source({"x": x[:3]}, [info(shape=(4, 3))])
    both = [info("x", (2, 3)), info("y", ("N", 2), np.int64)]
    feeds = list(open_source({"x": x, "y": np.zeros((10, 2), int)}, both).batches(9))
    assert [feed["y"].shape for feed in feeds] == [(2, 2)] * 5


def test_whole_inputs_stacked_on_a_further_axis() -> None:
    inputs = [info("x", (1, 3)), info("state", (2, 1, 4)), info("rate", (), np.int64)]
    data = {"x": normal(5, 3), "state": normal(5, 2, 1, 4), "rate": np.arange(5)}
    source = open_source(data, inputs)
    feeds = list(source.batches(8))
    assert len(feeds) == source.samples == 5
    assert [feed["rate"] for feed in feeds] == [0, 1, 2, 3, 4]
    assert feeds[3]["state"].shape == (2, 1, 4)
    assert np.array_equal(feeds[3]["x"], data["x"][3:4])
    assert source.count(feeds[0]) == 1
    data["state"] = normal(10, 1, 4)
    with pytest.raises(
        CalibrationError, match=r"different batch sizes: give 'state' float32 \(2, 1, 4\) one axis more"
    ):
        open_source({"x": data["x"], "state": normal(5, 1, 4)}, inputs[:2])


def test_unknown_rank_takes_anything() -> None:
    assert open_source({"x": normal(5, 2, 2)}, [info(shape=None)]).first()["x"].shape == (1, 2, 2)


# Folders


def test_folder_of_npz(tmp_path: Path) -> None:
    x, y = normal(10, 3), np.arange(20).reshape(10, 2)
    for number, (start, stop) in enumerate([(0, 1), (1, 8), (8, 10)]):
        npz(tmp_path / f"{number}.npz", x=x[start:stop], y=y[start:stop])
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / ".hidden.npy").write_text("ignored")
    source = open_source(tmp_path, XY)
    assert source.samples == 10
    assert [len(feed["x"]) for feed in source.batches(4)] == [4, 4, 2]
    for _ in range(2):
        assert np.array_equal(everything(source)["y"], y)
    assert np.array_equal(everything(open_source(tmp_path, XY, limit=3))["x"], x[:3])
    x[9, 0] = np.nan
    npz(tmp_path / "2.npz", x=x[8:], y=y[8:])
    with pytest.raises(CalibrationError, match=r"2\.npz: 'x' holds NaN in sample 1"):
        everything(source)


def test_folder_of_npz_with_varying_shapes(tmp_path: Path) -> None:
    for number, length in enumerate([5, 5, 7, 5]):
        npz(tmp_path / f"{number}.npz", x=normal(2, length))
    source = open_source(tmp_path, [info(shape=("N", "T"))])
    assert [feed["x"].shape for feed in source.batches(100)] == [(4, 5), (2, 7), (2, 5)]


def test_npy(tmp_path: Path) -> None:
    x = normal(6, 3)
    for number, rows in enumerate([x[0], x[1:4], x[4:6]]):
        np.save(tmp_path / f"{number}.npy", rows)
    source = open_source(tmp_path, X)
    assert source.samples == 6
    assert np.array_equal(everything(source)["x"], x)
    assert np.array_equal(everything(open_source(tmp_path, [info(shape=(2, 3))]))["x"], x)
    assert np.array_equal(everything(open_source(tmp_path / "1.npy", X))["x"], x[1:4])
    for what in (tmp_path, tmp_path / "1.npy"):
        with pytest.raises(CalibrationError, match=r"feeds one input, but the model has 2 \(x, y\): use \.npz"):
            open_source(what, XY)
    np.save(tmp_path / "3.npy", normal(2, 4))
    with pytest.raises(CalibrationError, match=r"3\.npy: 'x' has shape \(2, 4\)"):
        open_source(tmp_path, X)
    (tmp_path / "3.npy").write_bytes(b"junk")
    with pytest.raises(CalibrationError, match=r"3\.npy: not a readable \.npy file"):
        open_source(tmp_path, X)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"holds no \.npz, \.npy, \.png"):
        open_source(tmp_path, X)
    np.save(tmp_path / "a.npy", normal(3))
    npz(tmp_path / "b.npz", x=normal(1, 3))
    with pytest.raises(CalibrationError, match=r"holds \.npz and \.npy files; keep one kind"):
        open_source(tmp_path, X)
    (tmp_path / "b.npz").unlink()
    np.save(tmp_path / "b.npy", normal(1, 2, 3))
    with pytest.raises(CalibrationError, match=r"b\.npy: 'x' has another number of axes than in other files"):
        open_source(tmp_path, X)


# Functions, iterables and names


def feeds_of(x: np.ndarray):
    return [{"x": row[None]} for row in x]


def test_callables_and_lists_are_read_again() -> None:
    x = normal(4, 3)
    for spec in (lambda: iter(feeds_of(x)), feeds_of(x), [row[None] for row in x]):
        source = open_source(spec, X)
        assert source.samples is None
        assert np.array_equal(source.first()["x"], x[:1])
        for _ in range(2):
            assert np.array_equal(everything(source)["x"], x)
        assert len(everything(open_source(spec, X, limit=3))["x"]) == 3


def test_feeds_are_given_as_they_are() -> None:
    source = open_source([{"x": normal(5, 3)}, {"x": normal(2, 3)}], X)
    assert [source.count(feed) for feed in source.batches(1)] == [5, 2]
    scalar = open_source([np.float32(1), np.float64(2)], [info(shape=())])
    assert [(feed["x"].dtype.name, scalar.count(feed)) for feed in scalar.batches(1)] == [("float32", 1)] * 2
    cache = open_source([{"x": np.zeros((0, 3), np.float32)}], X)
    assert [cache.count(feed) for feed in cache.batches(1)] == [1], "a feed is run, however empty it is"


@pytest.mark.parametrize(
    ("shapes", "samples"),
    [
        ([(5, 3), (1, 1, 4)], 1),
        ([(5, 3), (2, 5, 4)], 5),
        ([(5, 3), (5, 4)], 5),
        ([(5, 3), (1,), ()], 5),
        ([(1, 3), (2, 1, 4)], 1),
    ],
    ids=["a series", "states", "both", "scalars", "one"],
)
def test_the_first_axis_is_of_samples_if_other_inputs_have_one_so_long(
    shapes: list[tuple[int, ...]], samples: int
) -> None:
    """A series of 156 windows beside its initial state was taken for 156 samples, and 64 of them for a single one."""
    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [info(name, shape=(None,) * len(shape)) for name, shape in zip(names, shapes, strict=True)]
    feed = {name: normal(*shape) for name, shape in zip(names, shapes, strict=True)}
    source = open_source([feed], inputs)
    assert source.count(source.first()) == samples


def test_an_iterator_is_read_once_and_kept() -> None:
    """Even one that fills the same array again and again, and whose first pass ends early."""
    x = normal(4, 3)
    drawn = []

    def feeds():
        array = np.empty((1, 3), np.float32)
        for row in x:
            array[:] = row
            drawn.append(row)
            yield {"x": array}

    source = open_source(feeds(), X)
    assert np.array_equal(source.first()["x"], x[:1])
    assert np.array_equal(source.first()["x"], x[:1])
    started = source.batches(1)
    assert [next(started)["x"].tolist() for _ in range(2)] == x[:2, None].tolist()
    for _ in range(2):
        assert np.array_equal(everything(source)["x"], x)
    assert len(drawn) == 4


def raise_something():
    yield {"x": normal(1, 3)}
    raise KeyError("inside")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "calibration data: yields no feed"),
        ([{"y": normal(1, 3)}], "calibration data, feed 0 misses 'x': it holds 'y'"),
        ([{"x": normal(1, 3)}, {"x": normal(1, 4)}], r"feed 1: 'x' has shape \(1, 4\), the model needs 'x' float32"),
        ([{"x": normal(3)}], r"feed 0: 'x' has shape \(3,\)"),
        ([{"x": np.ones((1, 3), int)}], "feed 0: 'x' is int64, the model needs float32"),
        ([{"x": np.full((1, 3), np.nan)}], "feed 0: 'x' holds NaN in sample 0"),
        (raise_something, "raise_something: failed with KeyError: 'inside'"),
        (lambda: 5, "failed with TypeError: 'int' object is not iterable"),
    ],
)
def test_feeds_that_do_not_fit(spec, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        everything(open_source(spec, X))


def test_bare_arrays_need_a_single_input() -> None:
    with pytest.raises(CalibrationError, match="feed 0: is a ndarray, not a mapping"):
        everything(open_source([normal(1, 3)], XY))


def test_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy as np\ndef feeds():\n    yield {'x': np.ones((2, 3), np.float32)}\nnothing = 5\n"
    file = tmp_path / "calibration_feeds.py"
    file.write_text(code)
    assert everything(open_source(f"{file}:feeds", X))["x"].shape == (2, 3)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert everything(open_source("calibration_feeds:feeds", X))["x"].shape == (2, 3)
    for spec, message in [
        (f"{file}:other", "has no function 'other'"),
        (f"{file}:nothing", "has no function 'nothing'"),
        (f"{tmp_path / 'gone.py'}:feeds", r"gone\.py: no such Python file"),
        ("no_such_package.module:feeds", r"there is no module 'no_such_package\.module'"),
        ("calibration_feeds.sub:feeds", "there is no module|importing"),
        ("gone.npz", r"gone\.npz: no such file or folder"),
        ("gone.npz:not a name", "no such file or folder"),
    ]:
        with pytest.raises((UsageError, CalibrationError), match=message):
            open_source(spec, X)
    for body, message in [("import no_such_thing", "No module named 'no_such_thing'"), ("1 / 0", "ZeroDivisionError")]:
        (tmp_path / "broken.py").write_text(body)
        with pytest.raises(CalibrationError, match=f"importing .*broken.* failed: .*{message}"):
            open_source(f"{tmp_path / 'broken.py'}:feeds", X)
    sys.modules.pop("calibration_feeds", None)


def test_specs_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a int"):
        open_source(5, X)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        open_source({"x": normal(1, 3)}, X, limit=0)
    with pytest.raises(CalibrationError, match="no input to feed"):
        open_source({}, [])
    with pytest.raises(CalibrationError, match=r"an array feeds one input, but the model has 2"):
        open_source(normal(1, 3), XY)
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(CalibrationError, match=r"data\.csv: calibration data is a \.npz or \.npy file, a folder"):
        open_source(tmp_path / "data.csv", X)


# Images

IMAGE = [info(shape=("N", 3, 4, 6))]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for number, (mode, size, colour) in enumerate(
        [("RGB", (6, 4), (255, 0, 51)), ("RGB", (12, 8), (255, 0, 51)), ("L", (6, 4), 102)]
    ):
        image.new(mode, size, colour).save(tmp_path / f"{number}.{('png', 'bmp', 'png')[number]}")
    return tmp_path


def test_images(pictures: Path) -> None:
    source = open_source(pictures, IMAGE)
    assert source.samples == 3
    x = everything(source)["x"]
    assert x.shape == (3, 3, 4, 6)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, :, 2, 3], [[1, 0, 0.2], [1, 0, 0.2], [0.4, 0.4, 0.4]], atol=1e-6)
    options = ImageOptions(mean=(0.5, 0, 0.1), std=(0.5, 1, 0.1))
    scaled = everything(open_source(pictures, IMAGE, images=options))["x"]
    np.testing.assert_allclose(scaled[0, :, 0, 0], [1, 0, 1], atol=1e-6)
    raw = everything(open_source(pictures, IMAGE, images=ImageOptions(std=(1 / 255,))))["x"]
    np.testing.assert_allclose(raw[0, :, 0, 0], [255, 0, 51], rtol=1e-6)


def test_image_layouts(pictures: Path) -> None:
    last = everything(open_source(pictures, [info(shape=(1, 5, 6, 3))]))["x"]
    np.testing.assert_allclose(last[0, 1, 2], [1, 0, 0.2], atol=1e-6)
    grey = everything(open_source(pictures, [info(shape=("N", 1, 5, 6))]))["x"]
    assert grey.shape == (3, 1, 5, 6)
    as_bytes = everything(open_source(pictures, [info(shape=("N", 5, 6, 3), dtype=np.uint8)]))["x"]
    assert as_bytes[0, 0, 0].tolist() == [255, 0, 51]
    free = list(open_source(pictures, [info(shape=("N", 3, "H", "W"))]).batches(8))
    assert [feed["x"].shape for feed in free] == [(1, 3, 4, 6), (1, 3, 8, 12), (1, 3, 4, 6)]
    chosen = open_source(pictures, [info(shape=("N", 3, 4, 3))], images=ImageOptions("NHWC"))
    assert chosen.first()["x"].shape == (1, 3, 4, 3)


def test_images_that_do_not_fit(pictures: Path) -> None:
    for shape, message in [
        (("N", 3, 4, 3), "cannot tell whether .* channels first or last: say layout NCHW or NHWC"),
        (("N", 7, 4, 5), "cannot tell whether"),
        (("N", 3), "cannot tell whether|4 axes"),
    ]:
        with pytest.raises(CalibrationError, match=message):
            open_source(pictures, [info(shape=shape)])
    with pytest.raises(CalibrationError, match="images have 1, 3 or 4 channels; as NCHW"):
        open_source(pictures, [info(shape=("N", 5, 4, 3))], images=ImageOptions("NCHW"))
    with pytest.raises(CalibrationError, match="images feed float or uint8 inputs"):
        open_source(pictures, [info(shape=("N", 3, 4, 6), dtype=np.int32)])
    with pytest.raises(UsageError, match="mean needs 1 or 3 numbers, got 2"):
        open_source(pictures, IMAGE, images=ImageOptions(mean=(1, 2)))
    with pytest.raises(UsageError, match="std must not be 0"):
        open_source(pictures, IMAGE, images=ImageOptions(std=(1, 0, 1)))
    with pytest.raises(UsageError, match="mean and std do not apply"):
        open_source(pictures, [info(shape=("N", 3, 4, 6), dtype=np.uint8)], images=ImageOptions(std=(1,)))
    with pytest.raises(CalibrationError, match="feeds one input"):
        open_source(pictures, XY)
    (pictures / "3.png").write_bytes(b"no image")
    with pytest.raises(CalibrationError, match=r"3\.png: not a readable image"):
        everything(open_source(pictures, IMAGE))


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_images_that_cannot_be_read(pictures: Path) -> None:
    """Each is one line with its name; none becomes pixels that were not there."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)  # Pillow's own has no seed
    photo = image.fromarray(noise)
    png = encoded(photo)
    for name, content, message in (
        ("a.jpg", encoded(photo, "JPEG")[:800], "truncated"),
        ("a.JPG", encoded(photo, "JPEG")[:800], "truncated"),
        ("a.png", png[: len(png) // 2], "truncated"),
        ("a.png", png[:200] + bytes([png[200] ^ 4]) + png[201:], "data stream"),
        ("a.png", b"", "cannot identify"),
        ("a.bmp", b"BM" + bytes(52), "header"),
        ("a.png", encoded(image.new("1", (20000, 20000))), "exceeds limit"),
        ("a.png", encoded(image.new("I;16", (6, 4), 4000)), r"more than 8 bits \(I;16\): convert"),
    ):
        (pictures / name).write_bytes(content)
        with pytest.raises(CalibrationError, match=message) as caught:
            everything(open_source(pictures, IMAGE))
        assert str(caught.value).startswith(f"{pictures / name}: not a readable image: ")
        assert "\n" not in str(caught.value)
        (pictures / name).unlink()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_images_of_other_modes(mode: str, pictures: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    grey = image.new("RGB", (6, 4), (255, 255, 255)).convert(mode)
    options = {"transparency": bytes(range(256))} if mode == "P" else {}
    (pictures / "9.png").write_bytes(encoded(grey, kind, **options))
    assert everything(open_source(pictures, IMAGE))["x"][-1] == pytest.approx(1, abs=0.02)


def test_images_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(CalibrationError, match=r"needs Pillow: pip install cerwu-onnx\[images\]"):
        open_source(tmp_path, IMAGE)
