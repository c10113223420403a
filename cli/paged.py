"""Help in two pages: the options that people use every day, and with ``--help-all`` all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from . import console

DAILY = frozenset(
    {
        *("calib", "fidelity", "lambdas", "lambda_", "target_size", "max_drop", "metric", "metric_data", "fail_above"),
        *("effort", "weights_only", "out_dir", "report_paths", "force", "as_json", "quiet", "help_all"),
    }
)
"""Names of parameters on the first page."""


def _show_all(context: typer.Context, wanted: bool) -> None:
    """Answer ``--help-all``."""
    if wanted:
        context.meta[__name__] = True
        console.write(f"{context.get_help()}\n")
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option("--help-all", callback=_show_all, is_eager=True, help="Show all options and exit.")
]


class Paged(typer.core.TyperCommand):
    """A command whose ``--help`` shows the options of :data:`DAILY` only, and says how many there are beyond."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options of the page that was asked for."""
        options = [param for param in self.params if param.param_type_name == "option"]
        rare: list[Any] = [] if __name__ in ctx.meta else [param for param in options if param.name not in DAILY]
        for param in rare:
            param.hidden = True
        try:
            super().format_options(ctx, formatter)
        finally:
            for param in rare:
                param.hidden = False
        if rare:
            formatter.write_paragraph()
            formatter.write_text(f"{len(rare)} more options: {ctx.command_path} --help-all")
