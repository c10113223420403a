"""Draw tables that fit the width of the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .text import printable, shorten, shorten_all

_NARROWEST = 12
"""Names are never cut to fewer characters, however narrow the terminal is."""

_TELLING = 20
"""So many characters of a name are worth more than another column."""

_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: numbers are aligned to the right, and a ``flexible`` one takes the rest of the width."""

    head: str
    right: bool = False
    flexible: bool = False


def grid(
    columns: Sequence[Column],
    groups: Mapping[str, Sequence[Sequence[str]]],
    width: int,
    *,
    total: Sequence[str] = (),
) -> RenderableType:
    """A table that fits ``width``.

    Args:
        columns: heading and behaviour of each column.
        groups: rows (one string per column) under the heading of their group; the heading "" is not shown.
        width: columns of the terminal.
        total: a last row, set apart.
    """
    everything = [[printable(cell) for cell in row] for rows in groups.values() for row in rows]
    widths = _widths(columns, [*everything, total] if total else everything, width)
    cells = zip(*map(shorten_all, zip(*everything, strict=True), widths), strict=True)
    parts: list[RenderableType] = []
    for heading, rows in groups.items():
        if heading:
            parts.append(Text(printable(heading), style="bold"))
        table = _table(columns, widths, show_header=False)
        for row in islice(cells, len(rows)):
            table.add_row(*map(Text, row))
        parts.append(table)
    head = _table(columns, widths, show_header=True)
    if not total:
        return Group(head, *parts)
    foot = _table(columns, widths, show_header=False)
    foot.add_row(*map(Text, map(shorten, total, widths)), style="bold")
    return Group(head, *parts, foot)


def fits(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a table of such rows fits ``width`` with at least :data:`_TELLING` characters of each name."""
    cut = [
        [cell[:_TELLING] if column.flexible else cell for column, cell in zip(columns, row, strict=True)]
        for row in rows
    ]
    needed = sum(_widths(columns, cut, sys.maxsize)) + _GAP * (len(columns) - 1)
    return needed <= width


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The width of each column: all that it needs; flexible ones share the rest of ``width``."""
    widths = [
        max(len(line) for text in (column.head, *(row[index] for row in rows)) for line in text.split("\n"))
        for index, column in enumerate(columns)
    ]
    flexible = [index for index, column in enumerate(columns) if column.flexible]
    room = width - _GAP * (len(columns) - 1) - sum(widths) + sum(widths[index] for index in flexible)
    flexible.sort(key=widths.__getitem__)  # so that short ones leave their room to long ones
    for taken, index in enumerate(flexible):
        widths[index] = min(widths[index], max(_NARROWEST, room // (len(flexible) - taken)))
        room -= widths[index]
    return widths


def _table(columns: Sequence[Column], widths: Sequence[int], *, show_header: bool) -> Table:
    """An empty table of the given widths."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=show_header,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
        header_style="bold",
    )
    for column, cells in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.head), justify=justify, no_wrap=True, width=cells, vertical="bottom")
    return table


def facts(pairs: Sequence[tuple[str, str]]) -> Table:
    """Two columns without headings: name and value, which may take several lines."""
    table = Table.grid(padding=(0, _GAP))
    table.add_column(no_wrap=True, style="bold")
    for name, value in pairs:
        table.add_row(Text(shorten(name, 2 * _NARROWEST)), Text(printable(value)))
    return table
