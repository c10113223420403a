"""The command ``cerwu-onnx verify``: check a .cwb file, alone or against its model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cerwu_onnx.errors import CheckFailed, UsageError

from . import console
from .options import AsJson, BaseFile, CwbFile, Layout, Mean, Quiet, Std, Verbose, image_options, parse_share
from .text import printable

if TYPE_CHECKING:
    from cerwu_onnx.calibration.output_errors import OutputError
    from cerwu_onnx.runtime import CompressedModel

    from .against import Exactness

EXAMPLE = "cerwu-onnx verify model.cwb --against model.onnx --data test.npz --max-error 5%"


def verify(
    file: CwbFile,
    base: BaseFile = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="IN.onnx", help="The model that it was made from: this very file, whose exact tensors it must have."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Run both models on this data (as compress --calib), and compare their outputs."
        ),
    ] = None,
    max_error: Annotated[
        str | None,
        typer.Option(metavar="REL", help="Largest relative error that an output may have: 0.05 or 5%."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check a .cwb file, alone or against its model.

    Alone, it checks the structure, every CRC and a full decode. A failed check exits with 1, a damaged file with 4.
    """
    if data is not None and against is None:
        raise UsageError("--data needs --against: say which model to compare with")
    if max_error is not None and data is None:
        raise UsageError("--max-error needs --against and --data: there is nothing to measure without them")
    images = image_options(mean, std, layout)
    limit = None if max_error is None else parse_share(max_error, "--max-error")

    from cerwu_onnx import native, runtime
    from cerwu_onnx.jobs.inputs import unchanged_inputs

    with unchanged_inputs() as check_inputs:
        with console.status("decoding", enabled=not quiet):
            model = runtime.open(file, base=base)
            model.verify()
        body: dict[str, Any] = {
            "file": str(file),
            "file_bytes": len(model.container.data),
            "tensors": len(model),
            "decoder": "C" if native.available() else "Python",
        }
        exactness: Exactness | None = None
        outputs: tuple[OutputError, ...] = ()
        if against is not None:
            from .against import compare_tensors

            with console.status("comparing tensors", enabled=not quiet):
                exactness = compare_tensors(model, against)
            body |= {"against": str(against), **asdict(exactness)}
        if against is not None and data is not None:
            with console.status("comparing outputs", enabled=not quiet):
                outputs = runtime.compare(file, against, data, base=base, images=images)
            body |= {"outputs": [asdict(output) for output in outputs], "max_error": limit}
        check_inputs()
    problems = list(exactness.problems) if exactness else []
    if limit is not None:
        problems += [
            f"output {output.name!r}: relative error {output.relative:.4g} exceeds --max-error {limit:g}"
            for output in outputs
            if not output.relative <= limit  # NaN exceeds everything
        ]
    if as_json:
        console.show_json(body | {"ok": not problems, "problems": problems})
    elif not quiet:
        _show(file, model, body["decoder"], against, exactness, outputs)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckFailed(f"{problems[0]}{more}")


def _show(
    file: Path,
    model: CompressedModel,
    decoder: str,
    against: Path | None,
    exactness: Exactness | None,
    outputs: tuple[OutputError, ...],
) -> None:
    """Print the results of the checks."""
    from .render import draw_outputs
    from .text import counted

    decoded = f"{counted(len(model), 'tensor')} decoded by the {decoder} decoder"
    console.write(f"{printable(file.name)}: structure and CRCs are right, {decoded}\n")
    if against is not None and exactness is not None:
        found = [
            f"{counted(exactness.quantised, 'quantised tensor')} of the right shape",
            f"{counted(exactness.identical, 'exact tensor')} bit-identical",
        ]
        if exactness.parameters:
            found.insert(1, f"{counted(exactness.parameters, 'float parameter')} coded")
        found += [f"{counted(exactness.moved, 'float parameter')} moved"] if exactness.moved else []
        found += [f"{len(exactness.folded)} folded"] if exactness.folded else []
        found += [f"{len(exactness.differing)} wrong"] if exactness.differing else []
        console.write(f"{printable(against.name)}: {', '.join(found)}\n")
    if outputs:
        console.write("\n")
        console.show(lambda width: draw_outputs(outputs, width))
