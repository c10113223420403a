"""Write docs/cli.md from the options of the command line: ``python -m tests.gen_cli_docs``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

from cerwu_onnx.cli import app as program
from cerwu_onnx.report import LayerReport, ParameterReport
from cerwu_onnx.types import Kept

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

_HEAD = """# Command line

<!-- Written by `python -m tests.gen_cli_docs`; edit the help texts in cli/ instead. -->

"""

_TAIL = """## What goes where

Tables and JSON go to stdout, everything else to stderr. Warnings are single lines that begin with `warning:`. A run
that fails says why in one line, `error: ...`, and leaves no output file; an existing file is replaced only with `-f`,
and only when the new one is complete. Progress is drawn only when stderr is a terminal. Tables fit into the terminal,
or into 80 columns where there is none (set `COLUMNS` for another width); names too long for that are cut in the middle.
`NO_COLOR` is honoured.

Names, numbers and reasons are complete in `--json`, which prints exactly one object. NaN and infinity become `null`.

| `compress --json` | |
|---|---|
| `schema` | version of this layout; grows when a key changes its meaning |
| `output` | path of the .cwb file |
| `model_bytes`, `file_bytes` | sizes of the ONNX file and of the .cwb file |
| `weights`, `weight_bytes`, `bits_per_weight` | of all quantised weights; bytes include tables and steps |
| `other_bytes` | the rest: exact tensors, float parameters, graph (with names), metadata, directory (with header) |
| `layers` | the quantised weights: LAYER_KEYS |
| `parameters` | the biases and BatchNormalization parameters that are coded: PARAMETER_KEYS |
| `kept` | the exact tensors: KEPT_KEYS |
| `method`, `lambda`, `levels` | the settings; `levels` is `null` for trellis, whose steps follow from lambda |
| `calibration`, `calibration_samples` | `"data"` or `"none"`, and how many samples |
| `output_loss` | trellis: KL divergence (nats) or relative squared error at the model's outputs; else `null` |
| `folded` | the BatchNormalization nodes folded |
| `warnings`, `seconds` | every warning; wall time by stage |

`relative_error` of a layer is squared error over energy; the table shows its root, which is how `verify` measures the
error of an output. `above_bound` is `bits_per_weight` minus the Gaussian rate-distortion function of the weights at
that error; `null` for weights reproduced without error.
"""


def _keys(kind: type) -> str:
    """The fields of a dataclass, as code."""
    return ", ".join(f"`{field.name}`" for field in fields(kind))


def page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(program.app)
    parts = [_HEAD, _text(group.help), "\n", _options(group)]
    for name, command in group.commands.items():
        arguments = "".join(f" {p.metavar}" for p in command.params if p.param_type_name == "argument")
        parts += [
            f"## {program.NAME} {name}\n\n{_text(command.help)}\n",
            f"```sh\n{program.NAME} {name}{arguments} [options]\n",
            f"{command.epilog.split('Example:')[1].strip()}   # for example\n```\n\n",
            _options(command),
        ]
    parts += ["## Exit codes\n\n| code | meaning |\n|---|---|\n"]
    parts += [f"| {code} | {meaning.replace('|', '&#124;')} |\n" for code, meaning in program.EXIT_CODES.items()]
    tail = _TAIL
    for word, kind in (("LAYER_KEYS", LayerReport), ("PARAMETER_KEYS", ParameterReport), ("KEPT_KEYS", Kept)):
        tail = tail.replace(word, _keys(kind))
    return "".join([*parts, "\n", tail])


def _text(help_text: str) -> str:
    """Paragraphs, each on one line."""
    return "\n\n".join(" ".join(part.split()) for part in help_text.split("\n\n")) + "\n"


def _options(command: Any) -> str:
    """The table of a command's options; ``--help`` goes without saying."""
    rows = []
    for option in command.params:
        if option.param_type_name == "argument" or "--help" in option.opts:
            continue
        names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True) + option.secondary_opts)
        value = f" {option.metavar}".replace("|", "\\|") if option.metavar else ""
        rows.append(f"| {names}{value} | {_default(option)} | {option.help} |\n")
    return "".join(["| option | default | |\n|---|---|---|\n", *rows, "\n"]) if rows else ""


def _default(option: Any) -> str:
    """The default as one would type it, or as ``--help`` words it; nothing for switches and options that are off."""
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default is None:
        return ""
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
