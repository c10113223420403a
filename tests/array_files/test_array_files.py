"""Files of named arrays: what is written comes back, and hostile files end in one error each."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx.array_files import ArrayFile, read_arrays, write_arrays
from cerwu_onnx.array_files.dtypes import DTYPES, FLOATS, Typed, from_float32, to_float32
from cerwu_onnx.array_files.masks import dtypes, masks
from cerwu_onnx.errors import ModelError, UsageError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@st.composite
def typed(draw: st.DrawFn) -> Typed:
    """An array of any type, any bits and up to three axes."""
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    bits = np.dtype(DTYPES[dtype])
    size = int(np.prod(shape, dtype=int)) * bits.itemsize
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    content = content & 1 if dtype == "bool" else content
    return Typed(content.view(bits).reshape(shape), dtype)


def saved(folder: Path, suffix: str, arrays: dict[str, Typed], about: dict[str, str] | None = None) -> Path:
    path = folder / f"arrays{suffix}"
    with path.open("wb") as stream:
        write_arrays(stream, path, ArrayFile(arrays, about or {}))
    return path


@given(st.dictionaries(NAMES, typed(), max_size=4), st.dictionaries(NAMES, st.text(max_size=5), max_size=2))
@settings(deadline=None, max_examples=60)
def test_safetensors_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Typed], about: dict[str, str]
) -> None:
    arrays.pop("__metadata__", None)
    path = saved(tmp_path_factory.mktemp("x"), ".safetensors", arrays, about)
    back = read_arrays(path)
    assert dict(back.about) == about
    assert list(back.arrays) == list(arrays)
    for name, array in arrays.items():
        assert (back.arrays[name].dtype, back.arrays[name].values.shape) == (array.dtype, array.values.shape)
        assert back.arrays[name].values.tobytes() == array.values.tobytes()


@given(st.dictionaries(st.text("abc.é/", min_size=1, max_size=6), typed(), max_size=4))
@settings(deadline=None, max_examples=60)
def test_npz_come_back_as_numpy_reads_them(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Typed]) -> None:
    arrays = {name: array for name, array in arrays.items() if "float8" not in array.dtype}
    path = saved(tmp_path_factory.mktemp("x"), ".npz", arrays)
    back = read_arrays(path).arrays
    with np.load(path, allow_pickle=False) as stored:
        for name, array in arrays.items():
            expected = to_float32(array) if array.dtype == "bfloat16" else array.values
            assert stored[name].tobytes() == back[name].values.tobytes() == expected.tobytes()
            assert stored[name].shape == back[name].values.shape == array.values.shape


def test_numpy_writes_what_is_read(tmp_path: Path) -> None:
    """Compressed archives, other byte orders, Fortran order."""
    arrays = {
        "big": np.arange(6, dtype=">f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.int8(-3),
        "long": np.array([1, 2], np.longlong),
    }
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    back = read_arrays(tmp_path / "x.npz").arrays
    for name, array in arrays.items():
        assert np.array_equal(back[name].values, array)
        assert back[name].dtype == np.asarray(array).dtype.newbyteorder("=").name


@given(st.sampled_from(sorted(FLOATS)), st.integers(0, 2**32 - 1))
def test_floats_are_rounded_to_nearest(dtype: str, bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    if not np.isfinite(value).all() or abs(value[0]) > 6e4:
        return
    found = to_float32(Typed(from_float32(value, dtype), dtype)).astype(np.float64)
    relative, absolute = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}.get(dtype, (0.0, 0.0))
    assert abs(found[0] - float(value[0])) <= max(relative * abs(float(value[0])), absolute)


def header(*entries: object, length: int | None = None, data: bytes = b"", text: bytes | None = None) -> bytes:
    """A .safetensors file with these entries a, b, ... in its header."""
    text = json.dumps(dict(zip("abc", entries, strict=False))).encode() if text is None else text
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


FOUR = bytes(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a header of 0 bytes in a file of 0"),
        (b"1234567", "in a file of 7"),
        (header(length=1 << 62), "a header of 4611686018427387904 bytes"),
        (header(text=b"[1]"), "no JSON object"),
        (header(text=b'{"a'), "Unterminated"),
        (header(text=b"\xff\xfe"), "decode"),
        (header(text=b"[" * 100_000), "nested too deeply"),
        (header(text=b'{"a":{},"a":{}}'), "stands in the header twice"),
        (header(text=b'{"__metadata__":{"a":1}}'), "no object of strings"),
        (header(text=b'{"__metadata__":[]}'), "no object of strings"),
        (header(3), "no dtype, shape and data_offsets"),
        (header(entry(extra=1), data=FOUR), "no dtype, shape and data_offsets"),
        (header(entry("F31"), data=FOUR), "the type 'F31'"),
        (header(entry(["F32"]), data=FOUR), "the type"),
        (header(entry(shape=[-1]), data=FOUR), "no size"),
        (header(entry(shape=[True]), data=FOUR), "no size"),
        (header(entry(shape=[1.0]), data=FOUR), "no size"),
        (header(entry(shape="1"), data=FOUR), "no size"),
        (header(entry(offsets=[0]), data=FOUR), "of 4 bytes at"),
        (header(entry(offsets=[4, 0]), data=FOUR), "of 4 bytes at"),
        (header(entry(shape=[2**62, 2**62]), data=FOUR), "bytes at"),
        (header(entry(offsets=[2, 6]), data=bytes(6)), "begins at byte 2, where 0 was to be"),
        (header(entry(), entry(), data=FOUR), "begins at byte 0, where 4 was to be"),
        (header(entry(), data=bytes(5)), "arrays of 4 bytes in a file that has 5"),
        (header(entry(), data=bytes(3)), "arrays of 4 bytes in a file that has 3"),
        (header(entry("BOOL", [4]), data=b"\0\1\2\0"), "other numbers than 0 and 1"),
    ],
)
def test_hostile_safetensors(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not a readable \.safetensors file") as found:
        read_arrays(path)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def claimed(shape: str) -> bytes:
    """An .npy of four bytes whose header claims another shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + FOUR


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def patched(content: bytes, change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(content)
    change(data)
    return bytes(data)


def flip_data(data: bytearray) -> None:
    data[60] ^= 255


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (b"PK\x03\x04" + bytes(30), "not a zip file"),
        (archive(a=b"no npy"), "magic string"),
        (archive(a=npy(np.array([{}], object))), "arrays of the type object"),
        (archive(a=npy(np.array(["text"]))), "arrays of the type <U4"),
        (archive(a=npy(np.zeros(2, complex))), "arrays of the type complex128"),
        (archive(a=npy(np.zeros(2, "f4,i4"))), "arrays of the type"),
        (archive(a=claimed("(2,)")), "an array of shape (2,) and type float32 in 4 bytes"),
        (archive(a=claimed("(4611686018427387904, 16)")), "in 4 bytes"),
        (archive(a=claimed("(-1, -1)")), "in 4 bytes"),
        (archive(a=claimed("'x'")), "shape is not valid"),
        (archive(a=npy(np.zeros(2)))[:-30], "not a zip file"),
        (patched(archive(a=npy(np.arange(99.0))), flip_data), ""),
    ],
)
def test_hostile_npz(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not a readable \.npz file") as found:
        read_arrays(path)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_damage_anywhere_is_an_error_or_other_values(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever byte changes, nothing but the named error comes out."""
    suffix = data.draw(st.sampled_from([".npz", ".safetensors"]))
    arrays = {"a": Typed(np.arange(5, dtype=np.float32), "float32"), "b": Typed(np.array(True), "bool")}
    path = saved(tmp_path_factory.mktemp("x"), suffix, arrays, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 1, len(content) // 2]))])
    try:
        message = "" if read_arrays(path) else "nothing"
    except ModelError as error:
        message = str(error)
    assert not message or f"not a readable {suffix} file" in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("x.npz", "x.safetensors"):
        with pytest.raises(UsageError, match="No such file"):
            read_arrays(tmp_path / name)


@given(st.dictionaries(NAMES, st.sampled_from(sorted(DTYPES)), max_size=9))
def test_masks_say_the_types(types: dict[str, str]) -> None:
    entries = json.loads(json.dumps(masks(types, set(list(types)[::2]))))
    assert dtypes(entries, list(types)) == types
    assert dtypes({}, list(types)) is None


@pytest.mark.parametrize(
    "entry", [[], "x", {"float31": "1"}, {"int8": 1}, {"int8": "4"}, {"int8": "-1"}, {"int8": "x"}, {"int8": "1" * 99},
              {"int8": "1", "bool": "1"}]
)  # fmt: skip
def test_damaged_masks(entry: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        dtypes({"arrays": entry}, ["a", "b"])
