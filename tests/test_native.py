"""The ctypes binding, on files of tests/c/make_cwb.py."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.errors import CorruptFileError

from .c import make_cwb as cwb

TABLE = [3, 5, 3]
ROOT = Path(__file__).resolve().parents[1]

needs_library = pytest.mark.skipif(
    not native.available(), reason=f"the C decoder is not available: {native.unavailable_reason()}"
)


def records() -> list[cwb.Record]:
    rng = np.random.default_rng(3)
    table = cwb.random_table(rng, 201)
    return [
        cwb.ans("conv.weight", (10, 3, 3), cwb.random_symbols(rng, table, 90), table, step=0.01),
        cwb.raw("biaß", 1, (2,), b"\0\0\x80\x3f" * 2),
        cwb.ans("fc.weight", (), [1], TABLE, step=3.0),
        cwb.Record(cwb.GRAPH, b"graph"),
    ]


@needs_library
class TestDecoding:
    def test_values_and_symbols(self) -> None:
        made = records()
        data = cwb.build(made)
        for index in (0, 2):
            values, symbols = native.decode_f32(data, index), native.decode_symbols(data, index)
            assert (values.dtype, symbols.dtype) == (np.float32, np.int16)
            assert values.tobytes() == made[index].decoded
            assert np.array_equal(symbols, made[index].symbols)

    def test_directory(self) -> None:
        file = native.File(cwb.build(records()))
        assert [file.name(i) for i in range(len(file))] == ["conv.weight", "biaß", "fc.weight"]

    def test_verify(self) -> None:
        native.verify(cwb.build(records()))
        native.verify(cwb.build([]))

    def test_any_buffer(self, tmp_path: Path) -> None:
        data = cwb.build(records())
        expected = native.decode_f32(data, 0)
        (tmp_path / "f").write_bytes(data)
        with (
            (tmp_path / "f").open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            assert np.array_equal(native.decode_f32(mapped, 0), expected)
            assert np.array_equal(native.decode_f32(memoryview(mapped), 0), expected)
        assert np.array_equal(native.decode_f32(bytearray(data), 0), expected)
        assert np.array_equal(native.decode_f32(memoryview(b"x" + data)[1:], 0), expected)

    def test_input_is_not_copied(self) -> None:
        data = bytearray(cwb.build(records()))
        file = native.File(data)
        data[data.index(b"conv")] = ord("k")
        with pytest.raises(CorruptFileError, match="payload is damaged"):
            file.name(0)

    def test_raw_tensor(self) -> None:
        with pytest.raises(ValueError, match="biaß"):
            native.decode_f32(cwb.build(records()), 1)

    @pytest.mark.parametrize("index", [-1, 3, 2**32])
    def test_no_such_tensor(self, index: int) -> None:
        with pytest.raises(IndexError):
            native.decode_f32(cwb.build(records()), index)

    def test_size_is_bounded_before_allocation(self) -> None:
        data = cwb.build([cwb.ans("bomb", (2**31 - 1,), [], [1], words=b"")])
        with pytest.raises(CorruptFileError, match=r"'bomb': 2147483647 elements exceed the limit of 536870912"):
            native.decode_f32(data, 0)
        with pytest.raises(CorruptFileError, match=r"exceed the limit of 10$"):
            native.decode_symbols(data, 0, max_elements=10)
        data = cwb.build([cwb.ans("w", (3,), [0, 1, 0], [3, 5, 3])])
        assert native.decode_symbols(data, 0, max_elements=3).tolist() == [0, 1, 0]
        with pytest.raises(CorruptFileError, match=r"3 elements exceed the limit of 2$"):
            native.decode_symbols(data, 0, max_elements=2)


@needs_library
class TestDamage:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "the file is shorter than its header says"),
            (b"PK\3\4" * 5, "not a .cwb file"),
            (cwb.build(records())[:-1], "the file is shorter than its header says"),
            (cwb.build([], version=3), "written in a newer version of the format, or a delta"),
            (
                cwb.build([cwb.ans("w", (1,), [0], TABLE, step=0.0)]),
                "step, exponents or largest symbol of a tensor not allowed",
            ),
            (
                cwb.build([cwb.ans("w", (1,), [-1], [3, 5, 3], words=cwb.encode([1], cwb.frequencies(TABLE, 1)))]),
                "tensor 'w': the payload is damaged (CRC)",
            ),
            (
                cwb.build([cwb.Record(cwb.GRAPH, b"g", crc=1)]),
                "graph section: the payload is damaged (CRC)",
            ),
            (
                cwb.build([cwb.Record(cwb.METADATA, b"m", crc=1)]),
                "metadata section: the payload is damaged (CRC)",
            ),
            (
                cwb.build([cwb.ans("w", (1,), [0], TABLE)], named=b"\1a\1b"),
                "names of tensors not allowed, or not one for each",
            ),
        ],
    )
    def test_verify_says_what_and_where(self, data: bytes, message: str) -> None:
        with pytest.raises(CorruptFileError) as caught:
            native.verify(data)
        assert str(caught.value) == message

    def test_decoding_says_what_and_where(self) -> None:
        data = cwb.build([cwb.ans("w", (1,), [0], TABLE, words=b"\1\2\3\4\5\6\7\7")])
        for decode in (native.decode_f32, native.decode_symbols):
            with pytest.raises(CorruptFileError, match=r"^tensor 'w': the coded stream is damaged$"):
                decode(data, 0)


class TestLibrary:
    @pytest.fixture(autouse=True)
    def _forget(self) -> Iterator[None]:
        """Load anew in the test and after it."""
        native._load.cache_clear()
        yield
        native._load.cache_clear()

    @needs_library
    def test_what_it_is(self) -> None:
        assert native.unavailable_reason() is None
        path = native.library_path()
        assert path is not None
        assert path.is_file()
        header = (ROOT / "decoder_c/cwb.h").read_text()
        assert f'#define CWB_VERSION "{native.version()}"' in header
        assert f"#define CWB_FORMAT_VERSION {native.FORMAT_VERSION} " in header

    def test_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native, "library_path", lambda: None)
        assert not native.available()
        assert native.version() is None
        assert "was not built" in str(native.unavailable_reason())
        with pytest.raises(RuntimeError, match="was not built"):
            native.decode_f32(b"", 0)

    def test_not_a_library(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "libcwb.so").write_bytes(b"not a library")
        monkeypatch.setattr(native, "library_path", lambda: tmp_path / "libcwb.so")
        assert not native.available()
        assert "does not load" in str(native.unavailable_reason())

    def test_another_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native, "library_path", lambda: Path("libcwb.so"))
        monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
        assert not native.available()
        assert "does not load" in str(native.unavailable_reason())

    @pytest.mark.parametrize(("abi", "format_version"), [(native.ABI + 1, 1), (native.ABI, 9)])
    def test_stale(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abi: int, format_version: int) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler")
        source = tmp_path / "stale.c"
        source.write_text(
            f"unsigned cwb_host_abi(void) {{ return {abi}; }}\n"
            f"unsigned cwb_host_format_version(void) {{ return {format_version}; }}\n"
        )
        library = tmp_path / "libcwb.so"
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
        monkeypatch.setattr(native, "library_path", lambda: library)
        assert not native.available()
        assert "is stale" in str(native.unavailable_reason())
        assert "reinstall" in str(native.unavailable_reason())
