"""The tables of ``make size``: on the terminal, in docs/mcu.md and in docs/benchmarks/size.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .size_rows import CODERS, CRC_TABLES, JSON, NO_TRELLIS, ROOT, SMALL, Row

PAGE = ROOT / "docs" / "mcu.md"
BEGIN, END = "<!-- make size: begin -->", "<!-- make size: end -->"

REFERENCE = (
    # coder, bits/weight, instructions per weight on M4 -O2 and M0 -Os, code bytes (M4 -Os), RAM bytes
    ("4-bit look-up table (lossy)", 4.00, 3.4, 6.4, 434, 0),
    ("Huffman, 12-bit table", 3.085, 13.1, 18.4, 556, 8_500),
    ("Golomb-Rice", 3.085, 34.5, 55.7, 206, 0),
    ("tANS, 2^10 states", 3.036, 15.7, 27.6, 280, 4_600),
    ("rANS, 32-bit state, 12-bit slots", 3.027, 15.8, 25.0, 404, 5_100),
    ("adaptive binary range coder", 3.055, 54.8, 104, 504, 68),
    ("deflate (miniz)", 3.657, 28, 36, 4_500, 8_400),
    ("deflate (tinf)", 3.657, 59, 88, 1_600, 0),
    ("heatshrink, window 8", 5.171, 107, 184, 1_200, 302),
    ("LZ4", 4.897, 7.3, 52, 960, 0),
    ("zstd -19", 3.099, 19.2, 56, 16_600, 96_000),
    ("Arm Vela mlw reference", 3.258, 162, 240, 1_800, None),
)
"""Other decoders: measured earlier in the same way on 65,536 Laplace weights, H = 3.018 bits, not by this program."""


def groups(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each target, coder and optimisation level, by payload."""
    made: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: list(CODERS).index(row.coder)):
        made.setdefault((row.coder, row.target, row.level), {})[row.payload] = row
    return list(made.values())


def no_trellis_table(rows: Sequence[Row]) -> list[list[str]]:
    """What it costs without a trellis: flash, and instructions per weight."""
    found = groups([row for row in rows if row.option == NO_TRELLIS])
    names = list(found[0]) if found else []
    table = [["coder", "target", "level", "least code", "+ const", "all code", "+ const", *names]]
    for group in found:
        row = next(iter(group.values()))
        sizes = [row.code, row.const, row.code_whole, row.const_whole]
        figures = [f"{group[name].instructions:.1f}" for name in names]
        table.append([row.coder, row.target, row.level, *(f"{size:,}" for size in sizes), *figures])
    return table


def small_table(rows: Sequence[Row]) -> list[list[str]]:
    """What builds for size cost: flash, and instructions per weight."""
    found = [(option, group) for option in SMALL for group in groups([row for row in rows if row.option == option])]
    names = list(found[0][1]) if found else []
    table = [["built with", "coder", "target", "level", "least code", "+ const", "all code", "+ const", *names]]
    for option, group in found:
        row = next(iter(group.values()))
        sizes = [row.code, row.const, row.code_whole, row.const_whole]
        figures = [f"{group[name].instructions:.1f}" for name in names]
        table.append([option, row.coder, row.target, row.level, *(f"{size:,}" for size in sizes), *figures])
    return table


def crc_table(rows: Sequence[Row]) -> list[list[str]]:
    """What checking takes, by the tables of CRCs: where both were measured, without checks and with them."""
    table = [["built with", "bytes of tables", "coder", "target", "level", "not checked", "checked"]]
    others = [row for row in rows if row.option in CRC_TABLES and row.option]
    measured = {(row.target, row.level, row.payload) for row in others}
    for row in sorted(rows, key=lambda row: (row.coder, row.target)):
        if row.option in CRC_TABLES and (row.target, row.level, row.payload) in measured:
            size = f"{CRC_TABLES[row.option]:,}"
            checked = f"{row.instructions_checked:.1f}"
            figures = [f"{row.instructions:.1f}", checked]
            table.append([row.option or "-", size, row.coder, row.target, row.level, *figures])
    return table


def payload_table(rows: Sequence[Row]) -> list[list[str]]:
    """What was decoded."""
    table = [["weights", "coder", "number", "entropy", "bits/weight", "RAM"]]
    for row in rows:
        if (row.target, row.level) == (rows[0].target, rows[0].level):
            entropy, bits = f"{row.entropy:.3f}", f"{row.bits_per_weight:.3f}"
            table.append([row.payload, row.coder, f"{row.weights:,}", entropy, bits, f"{row.ram:,}"])
    return table


def byte_table(rows: Sequence[Row]) -> list[list[str]]:
    """Flash and RAM."""
    table = [["coder", "target", "level", "least code", "+ const", "all code", "+ const", "stack", "stack, checked"]]
    for group in groups(rows):
        row = next(iter(group.values()))
        sizes = [row.code, row.const, row.code_whole, row.const_whole]
        stacks = [max(row.stack for row in group.values()), max(row.stack_checked for row in group.values())]
        table.append([row.coder, row.target, row.level, *(f"{size:,}" for size in sizes + stacks)])
    return table


def instruction_table(rows: Sequence[Row]) -> list[list[str]]:
    """Instructions per weight."""
    names = list(dict.fromkeys(row.payload for row in rows))
    checked = [name for name in names if any(row.payload == name and row.instructions_checked for row in rows)][-1]
    table = [["coder", "target", "level", *names, f"{checked}, checked", f"{checked}, float32"]]
    for group in groups(rows):
        row = group[checked]
        figures = [group[name].instructions for name in names] + [row.instructions_checked, row.instructions_float]
        table.append([row.coder, row.target, row.level, *(f"{figure:.1f}" for figure in figures)])
    return table


def reference_table() -> list[list[str]]:
    """The figures of others."""
    table = [["reference decoder", "bits/weight", "M4 -O2", "M0 -Os", "code (M4 -Os)", "RAM"]]
    for coder, bits, m4, m0, code, ram in REFERENCE:
        memory = "O(n)" if ram is None else f"{ram:,}"
        table.append([coder, f"{bits:.3f}", f"{m4:g}", f"{m0:g}", f"{code:,}", memory])
    return table


def markdown(table: Sequence[Sequence[str]], text_columns: int) -> str:
    """A table, its figures to the right."""
    rule = ["---"] * text_columns + ["---:"] * (len(table[0]) - text_columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in (table[0], rule, *table[1:]))


def show(console: Console, title: str, table: Sequence[Sequence[str]], text_columns: int) -> None:
    """Draw a table."""
    drawn = Table(title=title)
    for index, name in enumerate(table[0]):
        drawn.add_column(name, justify="left" if index < text_columns else "right")
    for line in table[1:]:
        drawn.add_row(*line)
    console.print(drawn)


def tables(rows: Sequence[Row]) -> list[tuple[str, list[list[str]], int]]:
    """Title, cells and number of text columns of each table."""
    full = [row for row in rows if not row.option]
    return [
        ("What was decoded", payload_table(full), 2),
        ("Instructions per weight", instruction_table(full), 3),
        ("Bytes", byte_table(full), 3),
        ("Built with CWB_NO_TRELLIS: bytes, and instructions per weight", no_trellis_table(rows), 3),
        ("Built for size: bytes, and instructions per weight", small_table(rows), 4),
        ("CRCs: instructions per weight, trellis", crc_table(rows), 1),
        ("Others, measured earlier: 65,536 Laplace weights, H = 3.018 bits", reference_table(), 1),
    ]


def publish(rows: Sequence[Row]) -> None:
    """Write docs/benchmarks/size.json and the tables of docs/mcu.md."""
    fields = ("coder", "bits_per_weight", "instructions_m4_O2", "instructions_m0_Os", "code", "ram")
    content = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "reference": [dict(zip(fields, line, strict=True)) for line in REFERENCE],
    }
    JSON.parent.mkdir(parents=True, exist_ok=True)
    JSON.write_text(json.dumps(content, indent=1) + "\n")
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    parts = [f"### {title}\n\n{markdown(table, columns)}" for title, table, columns in tables(rows)]
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{tail}")
