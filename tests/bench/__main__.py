"""``python -m tests.bench [speed] [entropy] [rate] [--model NAME ...]``: print the figures that the docs quote."""

from __future__ import annotations

import argparse

from rich.console import Console

from . import entropy, rate, speed
from .models import ABSENT, shared_models


def main() -> None:
    """Run the parts asked for; all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=["speed", "entropy", "rate", []], help="what to measure (default: all)"
    )
    parser.add_argument("--model", action="append", default=[], help="only this model (may be repeated)")
    arguments = parser.parse_args()
    console = Console(width=120)
    everything = shared_models(tuple(arguments.model))
    if not everything:
        console.print(ABSENT)
        return
    if not arguments.parts or "speed" in arguments.parts:
        speed.run(everything, console)
    if not arguments.parts or "entropy" in arguments.parts:
        entropy.run(everything, console)
    if not arguments.parts or "rate" in arguments.parts:
        rate.run([model for model in everything if model.name in rate.ANCHORED], console)


if __name__ == "__main__":
    main()
