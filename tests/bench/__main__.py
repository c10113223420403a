"""``python -m tests.bench [PART ...]``: figures that docs quote.

The parts: speed, entropy, sources, rate, memory, encoder, efficient, mobilenet, ranges, cache, decode, wide, scaling,
targets, defaults, kl, untrusted, trained, deltas, cpp, start, web, profile, peers, large. The first four by default.
``memory`` writes some ten gigabytes to a temporary folder, and ``large`` takes an hour and more. ``encoder``,
``efficient``, ``mobilenet``, ``ranges``, ``wide``, ``scaling``, ``targets``, ``defaults``, ``untrusted``, ``trained``,
``deltas``, ``web``, ``profile`` and ``peers`` take minutes, ``kl`` the first time, too. ``trained FOLDER`` also takes
the networks of tests/bench/deep_nets.py; ``deltas`` trains with PyTorch; ``cpp`` needs cmake and a C++ compiler,
``web`` node, npm and Chromium.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from cerwu_onnx.config import EFFORTS

from . import (
    by_heart,
    cache,
    cpp,
    decode,
    defaults,
    deltas,
    efficient,
    encoder,
    entropy,
    kl,
    large,
    memory,
    mobilenet,
    passes,
    peers,
    ranges,
    rate,
    scaling,
    sources,
    speed,
    start,
    targets,
    trained,
    untrusted,
    web,
    wide,
)
from .models import ABSENT, sample_models, shared_models
from .sweeps import VARIANTS

ALONE = (
    *("sources", "memory", "encoder", "efficient", "mobilenet", "ranges", "cache", "decode", "wide", "scaling"),
    *("untrusted", "trained", "deltas", "cpp", "start", "web", "profile", "peers", "targets", "large"),
)
"""Parts that need none of the real models."""

PARTS = ("speed", "entropy", "sources", "rate", *ALONE[1:], "defaults", "kl")


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
    group.add_argument("--saved", action="store_true", help="measure nothing: tables and pictures of saved rows")
    group = parser.add_argument_group("kl")
    group.add_argument("--deep", type=Path, metavar="FOLDER", help="also the networks that deep_nets.py wrote there")
    group.add_argument("--fine", action="store_true", help="at eleven lambdas per model instead of five")
    group.add_argument("--python", default=sys.executable, help="interpreter with the version to measure")
    group.add_argument("--effort", choices=EFFORTS, default="default", help="of the compressions (default: default)")
    group.add_argument(
        "--beside", nargs=2, default=(), metavar=("PYTHON", "EFFORT"), help="compare with this instead of the reference"
    )
    group.add_argument("--column", choices=("now", "reference"), help="put the figures into docs/benchmarks/kl.json")
    group = parser.add_argument_group("peers")
    group.add_argument("--peers-python", default=sys.executable, help="interpreter that has NNCodec")
    group.add_argument(
        "--again",
        nargs="+",
        default=(),
        metavar="ROW",
        help="measure these rows of peers.json anew: ours, nncodec-99",
    )
    parser.add_argument(
        "--gigabytes", type=float, default=3.1, help="memory: size of the model, about 3 x that on disk"
    )
    arguments = parser.parse_args()
    folder = _folder(arguments.parts)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    if arguments.save and arguments.saved:
        parser.error("--save and --saved exclude each other")
    names, parts = tuple(arguments.models), arguments.parts or PARTS[:4]
    shared, console = shared_models(names), Console(width=160)
    everything = shared + sample_models(names)
    deep = sorted(path.parent for path in arguments.deep.glob("*/model.onnx")) if arguments.deep else []
    deep = [path for path in deep if not names or path.name in names]
    nets = [name for name in passes.NETS if not names or name in names]
    large_ones = [name for name in large.MODELS if not names or name in names]
    known = {*(model.name for model in everything), *(path.name for path in deep), *nets, *large_ones}
    if missing := set(names) - known:
        parser.error(f"there is no model {', '.join(sorted(missing))}")
    if not shared and set(parts).difference(ALONE):
        console.print(ABSENT if not shared_models() else "none of the models is a real one")
    for part, module in (("speed", speed), ("entropy", entropy)):
        if part in parts and shared:
            module.run(shared, console)
    if "targets" in parts:
        targets.run(everything, console)
    if "defaults" in parts:
        defaults.run(everything, console)
    if "kl" in parts:
        kl.run(
            everything,
            console,
            deep,
            arguments.python,
            arguments.column,
            arguments.effort,
            arguments.beside,
            fine=arguments.fine,
        )
    if "deltas" in parts:
        deltas.run(sample_models(names), console)
    if "cpp" in parts:
        cpp.run(sample_models(names), console)
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
    if "start" in parts:
        start.run(sample_models(names), console)
    if "untrusted" in parts:
        untrusted.run(sample_models(names), console)
    if "web" in parts:
        web.run(console)
    if "peers" in parts:
        peers.run(
            sample_models(names) + shared,
            console,
            arguments.peers_python,
            again=arguments.again,
            saved=arguments.saved,
        )
    if "trained" in parts:
        by_heart.run(console)
        trained.run(folder, console)
    if "scaling" in parts:
        scaling.run(console)
    if "large" in parts:
        large.run(console, large_ones)
    if "profile" in parts:
        passes.run(everything, nets, console)
    if "wide" in parts:
        wide.run(console, min(arguments.gigabytes, wide.GIGABYTES))
    if "rate" in parts:
        percents = arguments.percent
        rate.run(everything, console, arguments.methods, percents, save=arguments.save, saved=arguments.saved)


def _folder(words: list[str]) -> Path | None:
    """Take the folder that follows ``trained`` out of the words; None if there is none."""
    after = words.index("trained") + 1 if "trained" in words else len(words)
    return Path(words.pop(after)) if after < len(words) and words[after] not in PARTS else None


if __name__ == "__main__":
    main()
