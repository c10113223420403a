"""Options that several commands share, and functions that parse their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cerwu_onnx.config import Target
from cerwu_onnx.errors import UsageError

from . import console

if TYPE_CHECKING:
    from cerwu_onnx.calibration import ImageOptions


def _set_verbose(wanted: bool) -> bool:
    """Turn debug messages on as soon as the option is seen."""
    if wanted:
        console.set_verbose()
    return wanted


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_set_verbose,
        is_eager=True,
        help="Show debug messages, and tracebacks of errors.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no table and no progress, only errors and warnings.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
CwbFile = Annotated[Path, typer.Argument(metavar="FILE.cwb", show_default=False, help="The compressed file.")]
BaseFile = Annotated[
    Path | None,
    typer.Option("--base", metavar="BASE.cwb", show_default=False, help="The base of the file, if that is a delta."),
]
Mean = Annotated[
    str | None,
    typer.Option(metavar="R,G,B", help="Folder of images: mean per channel, of pixels scaled to 0..1."),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="R,G,B", help="Folder of images: standard deviation per channel."),
]
Layout = Annotated[
    str | None,
    typer.Option(metavar="NCHW|NHWC", help="Folder of images: order of the input's axes, if its shape does not tell."),
]
MetricLabels = Annotated[
    str, typer.Option(metavar="KEY", help="Name of the array of labels in the data of a built-in metric.")
]
AIMLESS = Target()
"""A target with nothing to reach: its fields are the defaults of options."""

_UNITS = {"": 1, "b": 1} | {
    name: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for name, base in ((prefix, 1024), (f"{prefix}ib", 1024), (f"{prefix}b", 1000))
}

_DIGITS = 30
"""The most digits of a number of bytes."""


def parse_size(text: str) -> int:
    """Bytes of ``65536``, ``512MiB``, ``1.5GB`` (1000 based) or ``2G`` (1024 based).

    Raises:
        UsageError: it has none of these forms.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].lower() not in _UNITS or len(match[1]) > _DIGITS:
        raise UsageError(f"size {text!r} is not understood: write 512MiB, 1.5GB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_share(text: str, option: str) -> float:
    """The number in ``0.05`` or ``5%``.

    Raises:
        UsageError: it has neither form, is negative, or lacks the sign without which it is 100 % or more.
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{option} {text!r} is not understood: write 0.05 or 5%")
    if value >= 1 and not percent:
        raise UsageError(f"{option} {text!r} would be {100 * value:g} %: write {number}%")
    return value


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """Key and text of ``version=1.3``.

    Raises:
        UsageError: there is no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{option} {text!r} is not understood: write KEY=TEXT, like version=1.3")
    return key.strip(), value.strip()


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers of ``0.485,0.456,0.406``.

    Raises:
        UsageError: one of them is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not understood: write numbers like 0.5,0.5,0.5") from None


def image_options(mean: str | None, std: str | None, layout: str | None) -> ImageOptions | None:
    """How images become inputs; None if no option is given.

    Raises:
        UsageError: an option is not understood.
    """
    chosen: dict[str, object] = {}
    if mean is not None:
        chosen["mean"] = parse_numbers(mean, "--mean")
    if std is not None:
        chosen["std"] = parse_numbers(std, "--std")
    if layout is not None:
        if layout.upper() not in ("NCHW", "NHWC"):
            raise UsageError(f"--layout {layout!r} is unknown: write NCHW or NHWC")
        chosen["layout"] = layout.upper()
    if not chosen:
        return None
    from cerwu_onnx.calibration import ImageOptions

    return ImageOptions(**chosen)  # type: ignore[arg-type]
