"""``compress --out-dir``: compress many models, each by a run of the command in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from platform import node
from threading import Lock
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.jobs.parallel import Pool

from . import console
from .tables import Column, grid
from .text import counted

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning."""

OWN = ("out_dir", "jobs", "cluster", "as_json", "quiet")
"""Options of the whole batch; each run gets all others."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of a run: on more threads sums round differently, and several processes would share the cores."""

CRASHED = 70

PROGRAM = "import sys; sys.path[:] = filter(None, sys.path); from cerwu_onnx.cli import main; sys.exit(main())"
"""This program, run by ``python -c``: ``python -m`` would import modules of the working directory."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one model.

    Attributes:
        model: path of the ONNX file.
        output: path of the .cwb file.
        exit_code: exit code of its run.
        messages: its lines on stderr.
        report: the JSON of ``compress --json``; None if the run printed none.
    """

    model: str
    output: str
    exit_code: int
    messages: tuple[str, ...]
    report: dict[str, Any] | None


def outputs(models: Sequence[Path], folder: Path) -> list[Path]:
    """The file of each model in the folder.

    Raises:
        UsageError: two models would have the same file.
    """
    found: dict[Path, Path] = {}
    for model in models:
        output = folder / f"{model.stem}.cwb"
        if output in found:
            raise UsageError(f"{found[output]} and {model} would both give {output}: rename one of them")
        found[output] = model
    return list(found)


def forwarded(context: typer.Context) -> list[str]:
    """The options of the command line that each run gets."""
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


def compress_all(
    models: Sequence[Path],
    targets: Sequence[Path],
    options: Sequence[str],
    *,
    force: bool,
    jobs: int | None,
    cluster: str | None,
) -> list[Outcome]:
    """Compress each model, the largest first. If one fails, the others go on; all end when this process ends.

    Raises:
        WorkerError: the cluster does not answer, or its workers were lost again and again.
    """
    outcomes: dict[int, Outcome] = {}
    for index, (model, target) in enumerate(zip(models, targets, strict=True)):
        try:
            check_target(target, overwrite=force, source=model)
        except UsageError as error:
            outcomes[index] = _failed(model, target, error)
    asked = [index for index in range(len(models)) if index not in outcomes]
    here = os.getcwd()

    def load(number: int) -> _Run:
        return _Run(str(models[asked[number]]), _resumed(options, targets[asked[number]]), here)

    with Pool(jobs, cluster) as pool, tempfile.TemporaryDirectory(prefix="cerwu-") as scratch:
        children = _Children(scratch)
        try:
            for number, done in pool.results(children.compress, load, [_size(models[index]) for index in asked]):
                index = asked[number]
                outcomes[index] = _kept(models[index], targets[index], done, force=force)
        except BaseException:
            children.end()
            raise
    return [outcomes[index] for index in range(len(models))]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run to do: the model's path and the options, both relative to a working directory."""

    model: str
    options: tuple[str, ...]
    here: str


@dataclass(frozen=True, slots=True)
class _Done:
    """A finished run: exit code, stdout, stderr, and the bytes of the file, if there is one."""

    code: int
    out: str
    err: str
    content: bytes | None


class _Children:
    """The processes that are running; a copy on another machine begins with none.

    Args:
        scratch: folder for their temporary files; None takes the system's.
    """

    def __init__(self, scratch: str | None = None) -> None:
        self._scratch = scratch
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._over = False

    def __reduce__(self) -> tuple[type[_Children], tuple[()]]:
        return _Children, ()

    def compress(self, run: _Run) -> _Done:
        """Run the command to its end."""
        if not Path(run.here).is_dir():
            raise UsageError(
                f"{node()} has no folder {run.here}: workers read files under the same paths as this machine"
            )
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            output = Path(folder) / "model.cwb"
            command = ["compress", *run.options, "--json", "--", run.model, str(output)]
            code, out, err = self._run([sys.executable, "-c", PROGRAM, *command], run.here)
            return _Done(code, out, err, output.read_bytes() if output.exists() else None)

    def _run(self, command: list[str], here: str) -> tuple[int, str, str]:
        with self._lock:
            if self._over:
                return -signal.SIGTERM, "", ""
            process = subprocess.Popen(  # noqa: S603 - the command is this program itself
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | ONE_THREAD,
                cwd=here,
                encoding="utf-8",
                errors="replace",
            )
            self._running.add(process)
        out, err = process.communicate()
        with self._lock:
            self._running.remove(process)
        return process.returncode, out, err

    def end(self) -> None:
        """Ask all processes to end, and wait: they remove their temporary files. No new one starts."""
        with self._lock:
            self._over = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _resumed(options: Sequence[str], target: Path) -> tuple[str, ...]:
    """The options of a run. What it keeps for --resume goes beside the final file."""
    if "--resume" not in options or any(option.startswith("--cache=") for option in options):
        return tuple(options)
    return (*(option for option in options if option != "--resume"), f"--cache={_kept_beside(target)}")


def _kept_beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.resume")


def _size(model: Path) -> int:
    """Bytes of a model, which tell how long its run takes; 0 if there is no such file."""
    data = model.with_name(f"{model.name}.data")  # large models keep their weights here
    return sum(path.stat().st_size for path in (model, data) if path.is_file())


def _kept(model: Path, target: Path, done: _Done, *, force: bool) -> Outcome:
    """Write the file of a run, and return the result."""
    lines = [line for line in done.err.splitlines() if line.strip()]
    if done.code < 0:
        lines.append(f"error: the process was killed by signal {-done.code}")
    if done.content is not None:
        try:
            write_atomic(target, done.content, overwrite=force)
            shutil.rmtree(_kept_beside(target), ignore_errors=True)
        except UsageError as error:
            return _failed(model, target, error)
    report = json.loads(done.out) | {"output": str(target)} if done.out else None
    return Outcome(str(model), str(target), done.code if done.code >= 0 else CRASHED, tuple(lines), report)


def _failed(model: Path, target: Path, error: UsageError) -> Outcome:
    return Outcome(str(model), str(target), error.exit_code, (f"error: {error}",), None)


def show(outcomes: Sequence[Outcome], *, as_json: bool, quiet: bool) -> None:
    """Show the messages of the runs, and a table of the results."""
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
