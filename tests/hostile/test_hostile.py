"""Every hostile file meets its error in C and in Python, in little time and memory."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader as container_reader
from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.model import bounds
from cerwu_onnx.runtime import CompressedModel, load_session

from ..fuzz import reader
from ..fuzz.campaign import ERRORS
from .__main__ import README, updated
from .make import Case, cases

CASES = list(cases())
MANY = 65_536
needs_library = pytest.mark.skipif(
    not native.available(), reason=f"the C decoder is not available: {native.unavailable_reason()}"
)


def parametrize() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def first_error(data: bytes) -> str:
    """The C decoder's, as README.md describes it."""
    library = native.loaded_library()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    handle = ctypes.create_string_buffer(library.cwb_host_file_bytes())
    code = library.cwb_host_open(handle, ctypes.addressof(buffer), len(data), None)
    info, name, size = (ctypes.c_uint32 * 3)(), ctypes.c_void_p(), ctypes.c_size_t()
    out = ctypes.c_int16()
    for index in range(0 if code else min(library.cwb_host_tensors(handle), 100)):
        code = code or library.cwb_host_tensor(handle, index, info)
        code = code or library.cwb_host_name(handle, index, ctypes.byref(name), ctypes.byref(size))
        if info[2] > MANY:
            code = code or library.cwb_host_decode_i16(handle, index, ctypes.addressof(out), 1)
        else:
            code = code or library.cwb_host_check_tensor(handle, index)
    for kind in range(32, 128):
        code = code or library.cwb_host_check_section(handle, kind)
    return ERRORS[-code]


def read_everything(data: bytes) -> None:
    """Whatever the reader does with a file."""
    container = container_reader.parse(data)
    container.margins()
    for record in container.tensors:
        container.decode_python(record)
    model = CompressedModel(container)
    model.verify()
    if any(record.kind is f.Kind.GRAPH for record in container.records):
        model.to_onnx()


@needs_library
@parametrize()
def test_in_c(case: Case) -> None:
    assert first_error(case.data) == case.c


@parametrize()
def test_in_python(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is bounded by the file's size: 20 lines of Python for each byte, and each field that it may be."""
    fields = bounds.most_fields(len(case.data)) if case.name in ("graph-bomb", "graph-nodes") else 0
    monkeypatch.setattr(reader, "MAX_LINES", 200_000 + 20 * (len(case.data) + fields))
    monkeypatch.setattr(reader, "digest", lambda data, plain: read_everything(data))
    with reader.tracing():
        result, why = reader.outcome(case.data, None)
    assert (result, why) == (("harmless", "") if case.python == "OK" else ("detected", CorruptFileError.__name__))
    if case.python != "OK":
        with pytest.raises(CorruptFileError, match=case.python):
            read_everything(case.data)


def has_graph(data: bytes) -> bool:
    return any(record.kind is f.Kind.GRAPH for record in container_reader.parse(data).records)


@parametrize()
def test_as_a_session(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What cannot be a session is an error of the package, and nothing is printed."""
    path = tmp_path / "hostile.cwb"
    path.write_bytes(case.data)
    try:
        session = load_session(path)
    except CorruptFileError:
        assert case.python != "OK"
    except UsageError:  # weights only, whatever they are
        assert not has_graph(case.data)
    except ModelError:  # onnxruntime refuses the graph
        assert case.python == "OK"
    else:
        assert case.python == "OK"
        assert session.get_outputs()
    assert capfd.readouterr() == ("", "")


def test_numbers_and_names_are_those_of_the_table() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert README.read_text() == updated(README.read_text()), "python -m tests.hostile"


def test_files_are_small() -> None:
    assert max(len(case.data) for case in CASES) < 1 << 20
    assert sum(len(case.data) > 1000 for case in CASES) < 14
