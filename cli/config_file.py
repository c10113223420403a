"""Read defaults of ``compress`` from a TOML file: cerwu.toml, or ``[tool.cerwu-onnx]`` of pyproject.toml."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any

import typer

from cerwu_onnx.config import METRICS, LayerRule
from cerwu_onnx.errors import UsageError

OWN, SHARED, TABLE = "cerwu.toml", "pyproject.toml", "cerwu-onnx"

COMMAND_LINE = (
    "config",
    "dry_run",
    "out_dir",
    "jobs",
    "cluster",
    "report_paths",
    "skip",
    "about",
    "force",
    "as_json",
    "quiet",
    "verbose",
    "help_all",
)
"""Options for a single run, which may not be in a file."""

PLACES = ("cache",)
"""Options that say where to write: of a file that was found, not named, they do not count."""

CODE_OR_DATA = ("calib", "metric", "metric_data")
"""Options that may name a function: of a file that was found, not named, only what is data counts."""

AIMS = ("lambda_", "fidelity", "target_size", "target_bpw", "max_drop")
"""Options that exclude each other: one on the command line replaces those in the file."""

_UNSWEPT = ("lambda", "fidelity", "target-size", "target-bpw", "max-drop", "confidence", "fail-above", "fail-drop")
"""Keys for the targets and limits of a single file, which a sweep ignores."""

_TYPES: dict[str | None, tuple[tuple[type, ...], str]] = {
    None: ((bool,), "true or false"),
    "N": ((int,), "an integer"),
    "NUMBER": ((int, float), "a number"),
    "SIZE": ((str, int), "a string like '64KiB', or bytes"),
    "P%": ((str, int, float), "a string like '1%', or a share of 1"),
}
"""Types of values, by the metavar of their option; all others are strings."""

_RULE_TYPES = {"skip": _TYPES[None], "price": _TYPES["NUMBER"], "bits": _TYPES["N"]}
"""Types of the values of a rule for layers."""

_RULES = "cerwu_onnx.compression.layer_rules"
_UNNAMED = "cerwu_onnx.config.unnamed"


def read_config(context: typer.Context, given: Path | None) -> Path | None:
    """Take the defaults of the command line from a file; this is the callback of an eager option.

    Without ``--config``, the file is cerwu.toml or, if it has the table, pyproject.toml in the working directory.
    Nobody vouches for such a file, which may have come with a clone: it neither runs code nor says where to write.

    Raises:
        UsageError: the file cannot be read, or it has an unknown key or a wrong value.
    """
    if context.resilient_parsing:  # only to complete a command line, not to run it
        return given
    path, body = _found() if given is None else (given, _table(given, _parse(given)))
    if path is None or body is None:
        if given is not None:
            raise UsageError(f"{given} has no table [tool.{TABLE}]")
        return None
    layers = body.pop("layers", {})
    options = {
        _key(option): option
        for option in context.command.params
        if option.param_type_name == "option" and option.name not in COMMAND_LINE and option.name != "help"
    }
    if context.command.name == "sweep":
        body = {key: value for key, value in body.items() if key not in _UNSWEPT}
    for key in body:
        if key not in options:
            raise UsageError(f"{path}: unknown key {key!r}{_like(key, [*options, 'layers'])}")
    values = {options[key].name: _value(path, key, body[key], options[key]) for key in body}
    context.default_map = values
    context.meta[_RULES] = _rules(path, layers)
    context.meta[_UNNAMED] = path if given is None else None
    return path


def refuse_unnamed(context: typer.Context) -> None:
    """Refuse code to run and places to write that stand in a file which the user has not named.

    What the command line says instead counts, and is not refused.

    Raises:
        UsageError: the file says so.
    """
    path = context.meta.get(_UNNAMED)
    for option in context.command.params if path is not None else ():
        name = str(option.name)
        if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT_MAP":
            continue
        key, value = _key(option), context.params[name]
        if fault := _needs_trust(name, str(value)):
            raise UsageError(
                f"{path}: {key} = {str(value)!r} {fault}, which a file may do only if you name it: "
                f"add --config {path} if you trust it, or give --{key} yourself"
            )


def rules(context: typer.Context) -> tuple[LayerRule, ...]:
    """The rules of the file's ``[layers]``."""
    found: tuple[LayerRule, ...] = context.meta.get(_RULES, ())
    return found


def aims(context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """The :data:`AIMS`; those of the file count only if the command line has none."""
    typed = {name for name in AIMS if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    return {name: value if name in typed or not typed else None for name, value in values.items()}


def _needs_trust(name: str, value: str) -> str:
    """What a value does that only a file may ask for which the user names; empty if it is harmless."""
    if name in PLACES:
        return "says where to write"
    if name not in CODE_OR_DATA or (name == "metric" and value in METRICS):
        return ""
    if name == "metric" or ":" in value:
        return "runs code"
    return "" if _is_inside(value) else "lies outside this folder"


def _is_inside(value: str) -> bool:
    """Whether data lies in the working directory or below, also by links; ``{stem}`` stands for any name."""
    here, path = Path.cwd().resolve(), Path(value)
    if path.is_absolute() or ".." in path.parts:
        return False
    try:
        found = here.glob(escape(value).replace("{stem}", "*")) if "{stem}" in value else [here / path]
        return all(each.resolve().is_relative_to(here) for each in found)
    except (OSError, ValueError, RuntimeError):  # a NUL, links in a circle
        return False


def _found() -> tuple[Path | None, dict[str, Any] | None]:
    """The file of the working directory and its table, if there is one."""
    shared, own = Path(SHARED), Path(OWN)
    body = None
    if shared.is_file() and f"tool.{TABLE}" in shared.read_text(encoding="utf-8", errors="replace"):
        body = _table(shared, _parse(shared))
    if not own.is_file():
        return shared, body
    if body is not None:
        raise UsageError(f"both {own} and [tool.{TABLE}] of {shared} configure cerwu-onnx: keep one of them")
    return own, _parse(own)


def _parse(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        body: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return body
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from None


def _table(path: Path, body: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a file for this tool: a table of pyproject.toml, the whole of any other file."""
    if path.name != SHARED:
        return body
    tools = body.get("tool", {})
    table = tools.get(TABLE) if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{path}: tool.{TABLE} is no table")
    return table


def _key(option: Any) -> str:
    """The key of an option in a file: its long name without the dashes."""
    return str(max(option.opts, key=len)).removeprefix("--")


def _value(path: Path, key: str, value: Any, option: Any) -> Any:
    """Check the type of a value, and bring it to the form that the option takes."""
    types, words = _TYPES.get(option.metavar, ((str,), "a string"))
    if type(value) not in types:
        raise UsageError(f"{path}: {key} = {value!r} must be {words}")
    return str(value) if str in types else value


def _rules(path: Path, layers: Any) -> tuple[LayerRule, ...]:
    """``"glob" = { skip = true }``, ``{ price = 0.5 }``, ``{ bits = 8 }``, in the order of the file."""
    where = f"{path} [layers]"
    if not isinstance(layers, dict):
        raise UsageError(f"{where} must be a table of globs")
    found = []
    for glob, wanted in layers.items():
        if not isinstance(wanted, dict) or not wanted:
            raise UsageError(f"{where} {glob!r} must be {{ skip = true }}, {{ price = NUMBER }} or {{ bits = N }}")
        for key, value in wanted.items():
            if key not in _RULE_TYPES:
                raise UsageError(f"{where} {glob!r}: unknown key {key!r}{_like(key, list(_RULE_TYPES))}")
            types, words = _RULE_TYPES[key]
            if type(value) not in types:
                raise UsageError(f"{where} {glob!r}: {key} = {value!r} must be {words}")
        found.append(LayerRule(glob, **wanted, where=where))
    return tuple(found)


def _like(key: str, known: list[str]) -> str:
    """End of an error message: the known key that the user may have meant, or all known keys."""
    similar = get_close_matches(key, known, 1)
    return f": did you mean {similar[0]!r}?" if similar else f"; known: {', '.join(sorted(known))}"
