"""The program: its commands, its global options, and the message and exit code for each exception."""

from __future__ import annotations

import functools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
import typer.main

from cerwu_onnx import __version__
from cerwu_onnx.errors import CerwuError, CorruptFileError, raise_if_out_of_memory

from . import (
    calibrate,
    compare,
    compress,
    console,
    decompress,
    doctor,
    export_c,
    inspect,
    report,
    signals,
    sweep,
    verify,
)
from .options import Verbose
from .paged import Paged

NAME = "cerwu-onnx"

COMPLETE = "_CERWU_ONNX_COMPLETE"
"""Environment variable with which the script of --show-completion asks for completions."""

INTERNAL_ERROR = 70
BROKEN_PIPE = 141

EXIT_CODES = {
    0: "done",
    1: "a check, a target or a limit failed (compress, verify, compare, doctor)",
    2: "usage: unknown option, missing file, output exists (use -f)",
    3: "the model, the calibration data or the metric is invalid or unsupported; with --strict, any warning",
    4: "the .cwb file is damaged or too new",
    5: "a cluster does not answer, or its workers were lost again and again",
    6: "an input (model, its external data, calibration or metric data) changed during the run; nothing was written",
    INTERNAL_ERROR: "a bug in cerwu-onnx, or out of memory",
    **signals.CODES,
    BROKEN_PIPE: "the reader of stdout went away (| head)",
}

CONTINUED = " \\\n      "
"""Separates the lines of an example."""

_WIDTH = 76
"""The most columns of lines that help does not wrap; it indents them by at most four."""

_EPILOG = "\n".join(
    [
        "\b\nExit codes:",  # \b: leave the line breaks as they are
        *(
            textwrap.fill(meaning, _WIDTH, initial_indent=f"  {code:<4} ", subsequent_indent=" " * 7)
            for code, meaning in sorted(EXIT_CODES.items())
        ),
        "\n\b\nData goes to stdout, everything else to stderr. NO_COLOR is honoured.\n",
    ]
)

app = typer.Typer(
    name=NAME,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    """Answer ``--version``."""
    if wanted:
        console.write(f"{NAME} {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=_EPILOG)
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Make trained ONNX models small on disk.

    Weights are quantised where a bit saved costs the least output error, then entropy-coded into a .cwb file
    that decodes to float weights anywhere.

    Example: cerwu-onnx compress model.onnx model.cwb --calib calib.npz
    """
    if context.invoked_subcommand is None:
        console.write(f"{context.get_help()}\n")


def _as_typed(example: str) -> str:
    """An example in 80 columns: a line that is too long continues on the next one, as the shell accepts it."""
    if len(example) <= _WIDTH:
        return example
    words = re.sub(r" (?!-)", "\xa0", example)  # an option and its value stay together
    return CONTINUED.join(textwrap.wrap(words, _WIDTH - 6)).replace("\xa0", " ")


def _naming_its_file(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command name the file in errors about damage, also if damage shows only while tensors are decoded."""

    @functools.wraps(command)
    def named(**arguments: Any) -> None:
        try:
            with console.own_stdout():
                command(**arguments)
        except CorruptFileError as error:
            path = str(arguments.get("file", ""))
            if path in str(error):
                raise
            raise CorruptFileError(f"{path}: {error}") from error

    return named


for _function, _example in (
    (compress.compress, compress.EXAMPLE),
    (sweep.sweep, sweep.EXAMPLE),
    (decompress.decompress, decompress.EXAMPLE),
    (inspect.inspect, inspect.EXAMPLE),
    (verify.verify, verify.EXAMPLE),
    (report.report, report.EXAMPLE),
    (compare.compare, compare.EXAMPLE),
    (calibrate.calibrate, calibrate.EXAMPLE),
    (export_c.export_c, export_c.EXAMPLE),
    (doctor.doctor, doctor.EXAMPLE),
):
    _paged = Paged if _function in (compress.compress, sweep.sweep) else None
    app.command(epilog=f"\b\nExample:\n  {_as_typed(_example)}\n", cls=_paged)(_naming_its_file(_function))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; each failure is one line on stderr."""
    console.start()
    try:
        return _dispatch(sys.argv[1:] if arguments is None else arguments)
    except Exception as error:
        interrupt = _interrupt_behind(error)
        return _explain(error) if interrupt is None else _ended(interrupt)
    except KeyboardInterrupt as interrupt:
        return _ended(interrupt)


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that led to an exception: compiled modules turn one during their import into ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _ended(interrupt: KeyboardInterrupt) -> int:
    """Report an interrupt, and return its exit code."""
    code = signals.code_of(interrupt)
    console.say(signals.word_of(code))
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    """Parse and execute; without ``app()``, which would handle exceptions in its own way."""
    command = typer.main.get_command(app)
    if COMPLETE in os.environ:  # the shell asks for completions
        command.main(list(arguments), prog_name=NAME)
    try:
        with command.make_context(NAME, list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _explain(error: Exception) -> int:
    """Report an exception in one line on stderr, and return its exit code."""
    if console.is_verbose():
        console.print_traceback()
    if isinstance(error, BrokenPipeError):  # the reader of the output has closed it, as in `| head`
        console.silence_stdout()
        return BROKEN_PIPE
    try:
        raise_if_out_of_memory(error)
    except MemoryError as no_memory:
        error = no_memory
    if isinstance(error, CerwuError):
        console.note("error", str(error))
        return error.exit_code
    if hasattr(error, "format_message"):  # usage errors of typer, whose base class differs between versions
        context = getattr(error, "ctx", None)
        where = context.command_path if context else NAME
        console.note("error", f"{error.format_message().rstrip('.')} (see '{where} --help')")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError) and error.filename is not None:
        console.note("error", f"{error.filename}: {error.strerror}")
        return 2
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        console.note("error", f"out of memory: try a smaller --memory or --batch-size{detail}")
        return INTERNAL_ERROR
    hint = "" if console.is_verbose() else "; run again with -v for the traceback"
    console.note("error", f"unexpected {type(error).__name__}: {error}{hint}")
    return INTERNAL_ERROR
