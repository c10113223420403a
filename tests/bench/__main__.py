"""``python -m tests.bench [PART ...]``: figures that docs quote.

The parts: speed, entropy, sources, rate, memory, encoder, efficient, mobilenet, ranges, cache, decode, wide, scaling,
targets, defaults. The first four by default: ``memory`` writes some ten gigabytes to a temporary folder; ``encoder``,
``efficient``, ``mobilenet``, ``ranges``, ``wide``, ``scaling``, ``targets`` and ``defaults`` take minutes.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from . import (
    cache,
    decode,
    defaults,
    efficient,
    encoder,
    entropy,
    memory,
    mobilenet,
    ranges,
    rate,
    scaling,
    sources,
    speed,
    targets,
    wide,
)
from .models import ABSENT, sample_models, shared_models
from .sweeps import VARIANTS

ALONE = ("sources", "memory", "encoder", "efficient", "mobilenet", "ranges", "cache", "decode", "wide", "scaling")
"""Parts that need no model of those at hand."""

PARTS = ("speed", "entropy", "sources", "rate", *ALONE[1:], "targets", "defaults")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: the first four)"
    )
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="only these models")
    group = parser.add_argument_group("rate")
    group.add_argument("--methods", nargs="+", default=[], choices=VARIANTS, metavar="NAME", help=", ".join(VARIANTS))
    group.add_argument("--percent", nargs="+", type=float, default=[99, 95], help="shares of the float score")
    group.add_argument("--save", action="store_true", help="update docs/benchmarks/rate.json and redraw its curves")
    group.add_argument("--saved", action="store_true", help="measure nothing: tables and curves of rate.json")
    parser.add_argument(
        "--gigabytes", type=float, default=3.1, help="memory: size of the model, about 3 x that on disk"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    if arguments.save and arguments.saved:
        parser.error("--save and --saved exclude each other")
    names, parts = tuple(arguments.models), arguments.parts or PARTS[:4]
    shared, console = shared_models(names), Console(width=160)
    everything = shared + sample_models(names)
    if missing := set(names) - {model.name for model in everything}:
        parser.error(f"there is no model {', '.join(sorted(missing))}")
    if not shared and set(parts).difference(ALONE):
        console.print(ABSENT if not shared_models() else "none of the models is a real one")
    for part, module in (("speed", speed), ("entropy", entropy)):
        if part in parts and shared:
            module.run(shared, console)
    if "targets" in parts and shared:
        targets.run(shared, console)
    if "defaults" in parts:
        defaults.run(everything, console)
    if "sources" in parts:
        sources.run(console)
    if "memory" in parts:
        memory.run(console, arguments.gigabytes)
    if "encoder" in parts:
        encoder.run(console)
    if "efficient" in parts:
        efficient.run(console)
    if "mobilenet" in parts:
        mobilenet.run(console)
    if "ranges" in parts:
        ranges.run(console)
    if "cache" in parts:
        cache.run(console)
    if "decode" in parts:
        decode.run(console)
    if "scaling" in parts:
        scaling.run(console)
    if "wide" in parts:
        wide.run(console, min(arguments.gigabytes, wide.GIGABYTES))
    if "rate" in parts:
        percents = arguments.percent
        rate.run(everything, console, arguments.methods, percents, save=arguments.save, saved=arguments.saved)


if __name__ == "__main__":
    main()
