"""The numbers of docs/format.md are those of both implementations: the package's modules and decoder_c's sources."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from cerwu_onnx.container import dictionary
from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import adaptive, step, tables, trellis

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/format.md").read_text(encoding="utf-8").partition("## Worked example")[0]
FLAT = " ".join(PAGE.split())
C = "".join((ROOT / "decoder_c" / name).read_text(encoding="utf-8") for name in ("cwb.h", "cwb.c"))

WORDS: dict[str, tuple[str, str | None, int]] = {
    # what it is: the words of the page, how the C sources name it, the value in Python
    "version": (r"# The \.cwb format, version (\d+)", "CWB_FORMAT_VERSION", f.VERSION),
    "version in the header": (r"\| u16 \| format version, (\d+)", "CWB_FORMAT_VERSION", f.VERSION),
    "header": (r"## Header: (\d+) bytes", None, f.HEADER.size),
    "records": (r"\| it exceeds (\d+) \|", "CWB_MAX_RECORDS", f.MAX_RECORDS),
    "rank": (r"as many as the rank says, 0 to (\d)", "CWB_MAX_RANK", f.MAX_RANK),
    "elements": (r"is at most 2\^(\d+) - 1; 0 is allowed in raw", None, f.MAX_ELEMENTS.bit_length()),
    "symbols": (r"at most (\d+); at most \d+ on a trellis", "CWB_MAX_SYMBOL", f.MAX_SYMBOL),
    "indices": (r"at most \d+; at most (\d+) on a trellis", None, f.MAX_INDEX),
    "names": (r"length of its name in bytes \(1 to (\d+)\)", "MAX_NAME", f.MAX_NAME),
    "coded tensors": (r"\| (\d+) to 191 \|", "CODED", f.CODED),
    "graph": (r"\| (\d+) \| \| graph \|", None, f.Kind.GRAPH),
    "metadata": (r"\| (\d+) \| \| metadata \|", None, f.Kind.METADATA),
    "section of names": (r"\| (\d+) \| \| names \|", None, f.Kind.NAMES),
    "margins": (r"\| (\d+) \| \| margins \|", None, f.Kind.MARGINS),
    "slots": (r"missing from a sum of (\d+)", "SLOTS", tables.TOTAL),
    "octaves": (r"levels outside 0 to (\d+) \* 2\^r", None, tables.OCTAVES),
    "after an odd index": (r"xor \((\d+) if k is odd\)", None, trellis.TRELLIS.odd_index),
    "after the odd grid": (r"xor \((\d+) if grid = 1\)", None, trellis.TRELLIS.odd_grid),
    "bins": (r"if m = (\d+): b = 0;", "BINS", adaptive.BINS),
    "lean of signs": (r"32768 \+ (\d+) \* \(e", None, adaptive.FIRST_LEAN),
    "bits of escapes": (r"b = 0; while b < (\d+) and", None, adaptive.MAX_ESCAPE_BITS),
    "far": (r"f = 1 if c = 1 and m >= (\d)", None, adaptive.FAR),
    "first rate": (r"The learning rate u begins with (\d)", None, adaptive.FIRST_RATE),
    "last rate": (r"as long as it is below (\d),", None, adaptive.LAST_RATES[0]),
    "last rate with t": (r"as long as it is below \d, or (\d) if", None, adaptive.LAST_RATES[1]),
    "least range": (r"while range < 2\^(\d+):", None, adaptive.LEAST_RANGE.bit_length() - 1),
    "dictionary": (r"dictionary\.py` \((\d+) bytes", None, len(dictionary.DICTIONARY)),
}


def constant(name: str) -> int:
    """A ``#define`` or enumerator of the C sources."""
    (found,) = re.findall(rf"(?:#define {name} |\b{name} = )(?:UINT32_C\()?(\w+)", C)
    return int(found, 0)


@pytest.mark.parametrize("name", WORDS)
def test_numbers(name: str) -> None:
    words, symbol, value = WORDS[name]
    found = re.search(words, FLAT)
    assert found is not None, f"docs/format.md does not say {words!r} any more: put the new words here"
    assert int(found[1]) == value
    assert symbol is None or constant(symbol) == value


def test_heads_of_coded_tensors() -> None:
    found = re.findall(r"\| (\d+) to (\d+) \| (\d+) \+ 8 x form \+ rank \|", PAGE)
    assert [tuple(map(int, row)) for row in found] == [
        (f.CODED, f.CODED + f.CODER - 1, f.CODED),
        (f.CODED + f.CODER, 255, f.CODED + f.CODER),
    ]
    assert constant("CODER") == f.CODER


def test_magic() -> None:
    (text,) = re.findall(r"magic `([0-9A-F ]+)`", PAGE)
    assert bytes.fromhex(text) == f.MAGIC == constant("MAGIC").to_bytes(4, "little")


def test_element_types() -> None:
    (listed,) = re.findall(r"element type (0 float32, [^|]+) \|", PAGE)
    named = {int(number): name for number, name in re.findall(r"(\d) (\w+)", listed)}
    assert named == {number: element.name.lower() for number, element in enumerate(f.ELEMENT_CODES)}
    (types,) = re.findall(r"types\[4\] = \{(.*?)\}", C)
    assert types.split(", ") == [f"CWB_{element.name}" for element in f.ELEMENT_CODES]
    assert [constant(f"CWB_{element.name}") for element in f.ELEMENT_CODES] == list(f.ELEMENT_CODES)


def test_forms() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \| (none|last axis|all but the first) \| (\d) \|", PAGE, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(len(f.FORMS)))
    orders = {
        "row-major": f.Order.ROW_MAJOR,
        "axis 1 has been": f.Order.AXIS1_LAST,
        "axis 0 has been": f.Order.AXIS0_LAST,
        "last two axes": f.Order.LAST_TWO_SWAPPED,
    }
    stored: list[f.Order] = []
    for _, words, run, rank in rows:
        same = re.fullmatch(r"as (\d)", words)
        stored.append(stored[int(same[1])] if same else [order for key, order in orders.items() if key in words][-1])
        form = f.FORMS[len(stored) - 1]
        assert form.order == stored[-1]
        assert form.run == {"none": "", "last axis": "last", "all but the first": "rest"}[run]
        assert form.min_rank == int(rank)
    (ranks,) = re.findall(r"least_rank\[8\] = \{(.*?)\}", C)
    assert [int(rank) for rank in ranks.split(",")] == [form.min_rank for form in f.FORMS]


def test_steps() -> None:
    """The formula of short steps, and the limits of others."""
    (formula,) = re.findall(r"stands for (.*?), 0 for any other float32", PAGE)
    assert formula == "(1 + (b mod 8) / 8) x 2^(floor(b / 8) - 25)"
    for b in range(1, 256):
        assert step.to_bytes((1 + b % 8 / 8) * 2.0 ** (b // 8 - 25)) == bytes([b])
    assert constant("SHORT_STEP") == step.SHORT
    low, high = map(int, re.findall(r"the latter at least 2\^(-\d+) and below 2\^(\d+)", PAGE)[0])
    assert (step.bits_of(2.0**low), step.bits_of(2.0**high)) == (step.LEAST, step.BEYOND)
    assert constant("LEAST_STEP") == step.LEAST
    assert int(re.findall(r"#define STEPS \(UINT32_C\((\w+)\) - LEAST_STEP", C)[0], 0) == step.BEYOND


def test_the_step_before_the_first_short_one_is_long() -> None:
    """Number 0 says that a float follows."""
    assert step.to_bytes(2.0**-25) == bytes([0, 0, 0, 0, 0x33])
    assert step.to_bytes(2.0**-25 * 1.125) == bytes([1])


def test_tables_of_numbers() -> None:
    (mantissas,) = re.findall(r"and M = ([\d, ]+)", PAGE)
    (of_c,) = re.findall(r"mantissas\[4\] = \{(.*?)\}", C)
    assert mantissas == of_c == ", ".join(map(str, tables.MANTISSAS))
    assert re.findall(r"grows by 1 after ([\d, and]+) symbols", FLAT) == ["32, 64, 128 and 256"]
    assert re.findall(r"slows down after ([\d, ]+) symbols", C) == ["32, 64, 128, 256"]
    assert adaptive.LAST_RATES[1] - adaptive.FIRST_RATE == 4


def test_checksums() -> None:
    assert re.findall(r"polynomial (\w+), initial value and final xor (\w+)\.", FLAT) == [("0xEDB88320", "0xFFFFFFFF")]
    assert f.crc32(b"123456789") == 0xCBF43926  # the check value of that CRC
    (crc,) = re.findall(r"bytes, CRC-32 (0x[0-9A-F]{8})\)", PAGE)
    assert zlib.crc32(dictionary.DICTIONARY) == int(crc, 16)
