"""Write the report of a compression to a file: JSON, Markdown or a self-contained HTML page, by its suffix.

``compress`` reports everything; :func:`describe` reports what a .cwb file tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.report_files.html import to_html
from cerwu_onnx.report_files.json_text import to_json
from cerwu_onnx.report_files.markdown import to_markdown
from cerwu_onnx.report_files.page import Page, describe, page_of

__all__ = ["FORMATS", "Page", "check_paths", "describe", "page_of", "to_html", "to_json", "to_markdown", "write"]

FORMATS: dict[str, Callable[[Page], str]] = {".json": to_json, ".md": to_markdown, ".html": to_html}
"""Suffix of a report -> the function that makes its text."""


def check_paths(paths: Iterable[Path], *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Check before long work that reports can be written.

    Raises:
        UsageError: a suffix is unknown, or a path cannot be written, is given twice or is one of ``sources``.
    """
    taken = {path.resolve() for path in sources}
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"report {path}: the suffix must be one of {', '.join(FORMATS)}")
        if path.resolve() in taken:
            raise UsageError(f"report {path} would overwrite another file of this run: give another name")
        check_target(path, overwrite=overwrite)
        taken.add(path.resolve())


def write(page: Page, paths: Iterable[Path], *, overwrite: bool) -> None:
    """Write a report to each path, in the format of its suffix.

    Raises:
        UsageError: as for :func:`check_paths`.
    """
    paths = list(paths)
    check_paths(paths, overwrite=overwrite)
    for path in paths:
        write_atomic(path, FORMATS[path.suffix.lower()](page).encode(), overwrite=overwrite)
