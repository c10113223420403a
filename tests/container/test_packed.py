"""Packed sections, by both implementations, and what damage to them leads to."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cerwu_onnx import native
from cerwu_onnx.container import packed
from cerwu_onnx.container.format import varint
from cerwu_onnx.container.prediction import LIMIT, SQUASHED, STRETCHED, Model
from cerwu_onnx.container.primer import PRIMER
from cerwu_onnx.errors import CorruptFileError

from .. import make_primer
from ..golden.packed import FILE, contents

VECTORS = {name: tuple(map(b64decode, pair)) for name, pair in json.loads(FILE.read_text()).items()}
MOST = 2**31 - 1
NATIVE = pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")


def part(text: bytes) -> bytes:
    return len(text).to_bytes(2, "little") + text


TAGS = st.sampled_from([b"\x3a\x05", b"\x0a\x03", b"\x2a\x02ab", b"\x80", b"\x12\x00", b"\x0d", b"\x09", b"\x18\x81"])
MESSAGES = st.lists(TAGS, max_size=20).map(lambda tags: b"\x08\x01\x3a\x30" + b"".join(tags))
"""Of a graph, with ends in the middle of tags and numbers."""

TEXTS = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda start, size: PRIMER[start : start + size], st.integers(0, len(PRIMER)), st.integers(0, 120)),
    st.builds(
        lambda parts: b"".join(parts), st.lists(st.sampled_from([b"\x0a", b"\x12\x03", b"ab.", b"\xff", b"\x08"]))
    ),
)


def test_primer_is_up_to_date_and_frozen() -> None:
    assert make_primer.make() == PRIMER, "python -m tests.make_primer"
    assert (len(PRIMER), zlib.crc32(PRIMER)) == (30028, 0x2AE54E19), (
        "files written with the old primer become unreadable"
    )


@pytest.mark.parametrize("name", VECTORS)
def test_golden_vectors(name: str) -> None:
    content, payload = VECTORS[name]
    assert contents()[name] == content
    assert packed.pack(content) == payload
    assert packed.unpack(payload, len(content)) == content


def test_python_reads_and_writes_golden_vectors() -> None:
    for name in ("metadata", "names", "messages"):
        content, payload = VECTORS[name]
        code = payload[1 if len(content) < 128 else 2 :]
        assert packed.encode_plain(content, PRIMER) == code
        assert packed.decode_plain(code, len(content), PRIMER) == content


@given(st.lists(TEXTS, max_size=4).map(b"".join))
def test_round_trip(content: bytes) -> None:
    payload = packed.pack(content)
    assert len(payload) <= len(content) + 1
    assert packed.unpack(payload, len(content)) == content


@NATIVE
@given(TEXTS, st.one_of(MESSAGES, st.lists(TEXTS, max_size=3).map(b"".join)))
def test_both_implementations_agree(primer: bytes, content: bytes) -> None:
    primer = part(primer) + part(content[::2])
    code = native.pack(content, primer)
    assert packed.encode_plain(content, primer) == code
    assert packed.decode_plain(code, len(content), primer) == content
    assert native.unpack(code, len(content), primer) == content


@NATIVE
@given(TEXTS, st.binary(max_size=12), st.integers(0, 80))
def test_both_implementations_agree_on_noise(primer: bytes, code: bytes, size: int) -> None:
    found = native.unpack(code, size, part(primer))
    assert packed.decode_plain(code, size, part(primer)) == found
    if found is not None:
        assert native.pack(found, part(primer)) == code  # a content has one code


@NATIVE
def test_both_implementations_agree_without_a_primer() -> None:
    assert packed.encode_plain(b"abcabc", b"") == native.pack(b"abcabc", b"")


@given(st.sampled_from(sorted(VECTORS)), st.data())
def test_damage_is_refused_or_changes_the_content(name: str, data: st.DataObject) -> None:
    content, payload = VECTORS[name]
    damaged = bytearray(payload)
    at = data.draw(st.integers(0, len(payload) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        assert packed.unpack(bytes(damaged), 2 * len(content) + 100) != content
    except CorruptFileError:
        assume(True)


@pytest.mark.parametrize("name", ["metadata", "graph", "messages"])
def test_bytes_left_over_are_refused(name: str) -> None:
    content, payload = VECTORS[name]
    for more in (b"\0", b"\1", bytes(3) + b"\1", bytes(8) + b"\1", bytes(9)):
        for size in (len(content), 1):
            code = payload[1 if len(content) < 128 else 2 :] + more
            with pytest.raises(CorruptFileError, match="damaged"):
                packed.unpack(varint(size) + code, MOST)
            assert size > 1 or packed.decode_plain(code, size, PRIMER) is None


def test_a_code_that_ends_elsewhere_is_refused() -> None:
    """What CRCs are for is not asked of the code: most shorter codes are those of other contents."""
    content, payload = VECTORS["metadata"]
    for size in range(1, len(content) // 4):
        with pytest.raises(CorruptFileError, match="damaged"):
            packed.unpack(varint(size) + payload[1:], MOST)


@pytest.mark.parametrize(
    "payload", [b"", b"\x80", b"\x80\x00", b"\x80\x80\x80\x80\x10\x01", b"\xff\xff\xff\xff\xff\x01"]
)
def test_a_size_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptFileError, match="begin with its size"):
        packed.unpack(payload, MOST)


def test_sizes_are_refused_before_anything_is_decoded() -> None:
    content, payload = VECTORS["graph"]
    with pytest.raises(CorruptFileError, match="more than"):
        packed.unpack(payload, len(content) - 1)
    with pytest.raises(CorruptFileError, match="more than"):
        packed.unpack(b"\0abc", 2)
    assert packed.unpack(b"\0abc", 3) == b"abc"
    size = packed.most_content(5) + 1
    with pytest.raises(CorruptFileError, match=f"{size} bytes, more than {size - 1}"):
        packed.unpack(varint(size) + b"\1\1", MOST)


@NATIVE
def test_what_expands_too_much_is_stored() -> None:
    content = bytes(2**16 + 1024 * 100)
    assert packed.pack(content) == b"\0" + content
    assert len(packed.pack(content[: 2**16])) < 50


@example(0)
@given(st.integers(0, 2**20))
def test_strange_messages_are_followed(seed: int) -> None:
    """Levels deeper than the stack, ends that are not reached, lengths beyond the end."""
    nested = b"\x3a\x7f" + b"\x0a\x7f\x2a\x7f\x32\x7f" * 15
    content = b"\x08\x08" + nested + seed.to_bytes(3, "big") + nested[: seed % 40] + b"\x0a\xff\xff\xff\xff\xff\xff\x01"
    assert packed.unpack(packed.pack(content), len(content)) == content


def test_stretched_probabilities() -> None:
    assert SQUASHED[LIMIT] == 32768
    assert [SQUASHED[0], SQUASHED[-1]] == [1, 65535]
    assert sorted(SQUASHED) == SQUASHED
    assert STRETCHED[2047:2049] == [0, 1]
    assert sorted(STRETCHED) == STRETCHED


def test_a_model_gets_better_at_what_it_has_read() -> None:
    model, other = Model(), Model()
    model.read(b"kernel_shape" * 3)
    sizes = []
    for each in (model, other):
        each.begin_text(12)
        likely = 1.0
        for byte in b"kernel_shape":
            for shift in range(7, -1, -1):
                p = each.predict() / 65536
                likely *= p if byte >> shift & 1 else 1 - p
                each.update(byte >> shift & 1)
        sizes.append(likely)
    assert sizes[0] > 2**40 * sizes[1]
