"""``compress`` of many models: each one is a run of its own, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cerwu_onnx.errors import UsageError

from . import console
from .tables import Column, counted, grid

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning."""

OWN = ("out_dir", "jobs", "as_json", "quiet")
"""Options of the whole; the runs get all others."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Sums round differently on more threads; and several processes of many threads take the cores from each other."""

CRASHED = 70


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one model.

    Attributes:
        model: path of the ONNX file.
        output: path of the .cwb file.
        exit_code: of a run by itself.
        messages: what it said on stderr, line by line.
        report: as ``compress --json``; None where that printed none.
    """

    model: str
    output: str
    exit_code: int
    messages: tuple[str, ...]
    report: dict[str, Any] | None


def outputs(models: Sequence[Path], folder: Path) -> list[Path]:
    """The file of each model in the folder, which is made if it is not there.

    Raises:
        UsageError: two models would have the same file, or there can be no such folder.
    """
    found: dict[Path, Path] = {}
    for model in models:
        output = folder / f"{model.stem}.cwb"
        if output in found:
            raise UsageError(f"{found[output]} and {model} would both become {output}: rename one of them")
        found[output] = model
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out-dir {folder}: {error.strerror}") from None
    return list(found)


def forwarded(context: typer.Context) -> list[str]:
    """The options of the command line, as each run gets them."""
    found = []
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.param_type_name != "option" or option.name in OWN or getattr(source, "name", "") != "COMMANDLINE":
            continue
        value = context.params[str(option.name)]
        name = max(option.opts, key=len)
        if option.is_flag:  # type: ignore[attr-defined]
            found.append(name if value else option.secondary_opts[0])
        else:
            found += [f"{name}={item}" for item in (value if isinstance(value, (list, tuple)) else [value])]
    return found


def compress_all(models: Sequence[Path], targets: Sequence[Path], options: Sequence[str], jobs: int) -> list[Outcome]:
    """Compress each model, ``jobs`` at a time; the failure of one stops no other, but they end when this does."""
    pool, children = ThreadPoolExecutor(jobs), _Children()
    try:
        return list(pool.map(lambda model, output: _run(model, output, options, children), models, targets))
    except BaseException:
        children.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Children:
    """Processes that are running."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._over = False

    def run(self, command: list[str]) -> tuple[int, str, str]:
        """Run a command to its end; exit code, stdout and stderr."""
        with self._lock:
            if self._over:
                return -signal.SIGTERM, "", ""
            process = subprocess.Popen(  # noqa: S603 - the command is this program itself
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | ONE_THREAD,
                encoding="utf-8",
                errors="replace",
            )
            self._running.add(process)
        out, err = process.communicate()
        with self._lock:
            self._running.remove(process)
        return process.returncode, out, err

    def end(self) -> None:
        """Ask all of them to end, which they do without leaving anything; none begins any more."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.terminate()


def _run(model: Path, output: Path, options: Sequence[str], children: _Children) -> Outcome:
    command = [sys.executable, "-m", "cerwu_onnx.cli", "compress", *options, "--json", "--", str(model), str(output)]
    code, out, err = children.run(command)
    lines = [line for line in err.splitlines() if line.strip()]
    if code < 0:
        lines.append(f"error: the process was killed by signal {-code}")
    report = json.loads(out) if out else None
    return Outcome(str(model), str(output), code if code >= 0 else CRASHED, tuple(lines), report)


def show(outcomes: Sequence[Outcome], *, as_json: bool, quiet: bool) -> None:
    """What the runs said, and a table of what became of each."""
    for outcome in outcomes:
        for line in outcome.messages:
            kind, colon, text = line.partition(": ")
            kind, text = (kind, text) if colon and kind in ("warning", "error") else ("info", line)
            named = text.startswith(f"{outcome.model}: ")
            console.note(kind, text if named else f"{outcome.model}: {text}")
    if as_json:
        console.show_json({"schema": SCHEMA, "models": [asdict(outcome) for outcome in outcomes]})
    elif not quiet:
        console.show(lambda width: _table(outcomes, width))


def _table(outcomes: Sequence[Outcome], width: int) -> RenderableType:
    columns = [
        Column("model", flexible=True),
        Column("before", right=True),
        Column("after", right=True),
        Column("times\nsmaller", right=True),
        Column("bits/\nweight", right=True),
        Column("exit\ncode", right=True),
    ]
    rows, before, after = [], 0, 0
    for outcome in outcomes:
        report = outcome.report
        if report is None:
            rows.append((outcome.model, "", "", "", "", str(outcome.exit_code)))
            continue
        sizes = report["model_bytes"], report["file_bytes"]
        before, after = before + sizes[0], after + sizes[1]
        rate = f"{report['bits_per_weight']:.2f}"
        rows.append((outcome.model, *_sizes(*sizes), rate, str(outcome.exit_code)))
    failed = sum(outcome.report is None for outcome in outcomes)
    total = (counted(len(rows) - failed, "file"), *_sizes(before, after), "", "")
    parts: list[RenderableType] = [grid(columns, {"": rows}, width, total=total)]
    if failed:
        parts.append(Text(f"{counted(failed, 'model')} without a file: see the errors", style="bold"))
    return Group(*parts)


def _sizes(before: int, after: int) -> tuple[str, str, str]:
    return f"{before:,}", f"{after:,}", f"{before / after:.2f}" if after else ""
