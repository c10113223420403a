"""What goes wrong has a code and a sentence: at both doors the same."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from cerwu_onnx.container.format import varint

from .conftest import Door
from .site import ROOT, Site

FILE = (ROOT / "tests/golden/v1/model.cwb").read_bytes()
WEIGHTS = (ROOT / "tests/golden/v1/forms.cwb").read_bytes()

CATCH = """
    try {
        await cwb[args[0]](args[1], { workers: 0, ...args[2] });
    } catch (error) {
        return [error instanceof cwb.CwbError, error.name, error.code, error.message];
    }
    return 'no error';
"""


def with_crc(data: bytes) -> bytes:
    """The file with the right CRC of its header and directory."""
    (directory,) = struct.unpack_from("<I", data, 8)
    return data[:16] + struct.pack("<I", zlib.crc32(data[:16] + data[20 : 20 + directory])) + data[20:]


def changed(at: int, value: int) -> bytes:
    return FILE[:at] + bytes([value]) + FILE[at + 1 :]


def zeros(count: int, room: int = 1 << 16) -> bytes:
    """A tensor of so many zeros, which takes no bytes, and bytes in a raw one that make the number credible."""
    raw = bytes(room)
    directory = bytes([128 + 1]) + varint(0) + bytes(4) + varint(count) + bytes([100]) + varint(0)
    directory += bytes([1]) + varint(room) + struct.pack("<I", zlib.crc32(raw)) + varint(room // 4)
    size = 20 + len(directory) + room
    return with_crc(b"\x89CWB" + struct.pack("<HHIII", 2, 2, len(directory), size, 0) + directory + raw)


CASES: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "not-cwb", "not a .cwb file"),
    "a page": (b"<!doctype html><title>Not found</title>", "not-cwb", "not a .cwb file"),
    "a short text": (b"Not found", "not-cwb", "not a .cwb file"),
    "half a header": (FILE[:11], "truncated", "truncated"),
    "half a directory": (FILE[:60], "truncated", f"60 of its {len(FILE)} bytes"),
    "half a file": (FILE[: len(FILE) // 2], "truncated", f"{len(FILE) // 2} of its {len(FILE)} bytes"),
    "a byte less": (FILE[:-1], "truncated", "truncated"),
    "a byte more": (FILE + b"x", "damaged", "longer"),
    "a newer version": (changed(4, 3), "too-new", "newer"),
    "a directory of another file": (changed(30, FILE[30] ^ 1), "damaged", "directory is damaged"),
    "a bit of a tensor": (changed(400, FILE[400] ^ 1), "damaged", "tensor 0: "),
    "a bit of the graph": (changed(len(FILE) - 40, FILE[-40] ^ 1), "damaged", "damaged"),
    "more elements than memory": (zeros(2**31 - 1), "memory", "exceeds 2 GB"),
    "more elements than is credible": (zeros(2**29 - 1, room=0), "damaged", "do not trust it"),
    "three gigabytes": (with_crc(FILE[:12] + struct.pack("<I", 3 << 30) + FILE[16:]), "memory", "2 GB"),
}


FUNCTIONS = ("verifyCwb", "decodeCwb", "unpackCwb")


@pytest.fixture(scope="session")
def outcomes(door: Door, site: Site) -> dict[str, dict[str, object]]:
    """The errors of all cases by function and case: one start of Node, or one page, for all."""
    for name, (body, _, _) in CASES.items():
        site.answers[f"/{name.replace(' ', '-')}.cwb"] = (200, {}, body)
    body = f"""
        const one = async (...args) => {{ {CATCH} }};
        const found = {{}};
        for (const name of args[0]) {{
            found[name] = {{}};
            for (const address of args[1]) found[name][address] = await one(name, address, {{}});
        }}
        return found;
    """
    addresses = [f"{site.address}/{name.replace(' ', '-')}.cwb" for name in CASES]
    found = door(body, FUNCTIONS, addresses)
    return {name: dict(zip(CASES, of.values(), strict=True)) for name, of in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_files(case: str, outcomes: dict[str, dict[str, object]]) -> None:
    _, code, words = CASES[case]
    for function in FUNCTIONS:
        is_one, name, found, message = outcomes[function][case]  # type: ignore[misc]
        assert (is_one, name, found) == (True, "CwbError", code), message
        assert words in str(message)


def test_a_file_of_weights_makes_no_session(door: Door, site: Site) -> None:
    site.answers["/weights.cwb"] = (200, {}, WEIGHTS)
    with_ort = CATCH.replace("...args[2]", "ort")
    assert door(with_ort, "unpackCwb", f"{site.address}/weights.cwb")[2] == "no-graph"
    assert door(with_ort, "loadCwb", f"{site.address}/weights.cwb")[2] == "no-graph"


def test_a_page_that_does_not_know_onnxruntime_web(in_chromium: Door, site: Site) -> None:
    _, _, code, message = in_chromium(CATCH, "loadCwb", f"{site.address}/weights.cwb")
    assert (code, "npm install onnxruntime-web" in message) == ("no-runtime", True)


def test_the_network(door: Door, site: Site) -> None:
    _, _, code, message = door(CATCH, "decodeCwb", f"{site.address}/none.cwb")
    assert (code, "none.cwb answers 404" in message) == ("network", True)
    _, _, code, message = door(CATCH, "decodeCwb", "http://127.0.0.1:9/none.cwb")
    assert code == "network"
    site.answers["/broken.cwb"] = (200, {"Content-Length": str(len(FILE))}, FILE[:500])
    _, _, code, message = door(CATCH, "decodeCwb", f"{site.address}/broken.cwb")
    assert (code, "the connection broke" in message) == ("network", True)


def test_another_origin_that_does_not_allow_it(in_chromium: Door, site: Site) -> None:
    other = site.address.replace("127.0.0.1", "localhost")
    site.answers["/other.cwb"] = (200, {}, FILE)
    _, _, code, message = in_chromium(CATCH, "decodeCwb", f"{other}/other.cwb")
    assert (code, "CORS" in message) == ("network", True)


def test_paths_in_node(in_node: Door, tmp_path: Path) -> None:
    _, _, code, message = in_node(CATCH, "decodeCwb", str(tmp_path / "none.cwb"))
    assert (code, "none.cwb" in message) == ("network", True)
    (tmp_path / "a b.cwb").write_bytes(FILE)
    sizes = "return [(await cwb.decodeCwb(args[0])).size, (await cwb.decodeCwb(new URL(args[1]))).size];"
    assert in_node(sizes, str(tmp_path / "a b.cwb"), (tmp_path / "a b.cwb").as_uri()) == [9, 9]


ABORT = """
    const outcome = async (promise) => promise.then(() => 'no error', (error) => error.name ?? String(error));
    const early = outcome(cwb.decodeCwb(args[0], { signal: AbortSignal.abort() }));
    const middle = new AbortController();
    const onprogress = () => middle.abort();
    const late = new AbortController();
    const stalled = new Response(new ReadableStream({ pull() { return new Promise(() => {}); } }));
    setTimeout(() => late.abort(), 50);
    return [await early, await outcome(cwb.decodeCwb(args[0], { signal: middle.signal, onprogress })),
        await outcome(cwb.decodeCwb(stalled, { signal: late.signal }))];
"""


def test_signals_end_it(door: Door, site: Site) -> None:
    site.answers["/model.cwb"] = (200, {}, FILE)
    assert door(ABORT, f"{site.address}/model.cwb") == ["AbortError"] * 3


def test_errors_of_onprogress_come_out(door: Door, site: Site) -> None:
    site.answers["/model.cwb"] = (200, {}, FILE)
    body = (
        "return cwb.decodeCwb(args[0], { onprogress() { throw new Error('mine'); } }).catch(({ message }) => message);"
    )
    assert door(body, f"{site.address}/model.cwb") == "mine"


def test_a_page_that_forbids_webassembly(site: Site, in_chromium: Door, tab: object) -> None:
    policy = "default-src 'self'"
    page = site.answers["/page.html"]
    site.answers["/page.html"] = (200, page[1] | {"Content-Security-Policy": policy}, page[2])
    try:
        site.answers["/model.cwb"] = (200, {}, FILE)
        _, _, code, message = in_chromium(CATCH, "decodeCwb", f"{site.address}/model.cwb")
    finally:
        site.answers["/page.html"] = page
    assert (code, "'wasm-unsafe-eval'" in message) == ("no-wasm", True)
