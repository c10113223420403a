"""The long campaigns: ``python -m tests.fuzz`` (C decoder), ``--guided`` (under libFuzzer), ``--reader`` (Python).

``--differential`` compares both with the specification as a program, ``--graph`` the graph in C with the one in Python,
``--expansion`` measures the worst of small files.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

from . import campaign, differential, expansion, graph, guided, reader, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--reader", action="store_true", help="the Python reader instead of the C decoder")
    parser.add_argument("--differential", action="store_true", help="C, Python and tests/spec on the same mutants")
    parser.add_argument("--graph", action="store_true", help="the graph in C and in Python on the same mutants")
    parser.add_argument("--share", type=int, default=50, help="all three see one mutant of so many; C sees them all")
    parser.add_argument(
        "--expansion", action="store_true", help="bytes out, memory and work for each byte in, at worst"
    )
    parser.add_argument(
        "--guided", type=int, metavar="SECONDS", help="so long under libFuzzer, which keeps what is new"
    )
    parser.add_argument("--mutations", type=int, default=1_000_000, help="how many at random")
    parser.add_argument("--first", type=int, default=0, help="number of the first: it determines the damage (C)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the files that made trouble; default: a temporary one")
    arguments = parser.parse_args()
    if arguments.reader:
        table = reader.long_campaign(arguments.mutations, arguments.processes)
        print(f"Python reader, {sum(table.counts.values()):,} files\n\n{table.text()}")
        return int(table.failed())
    if arguments.expansion:
        print(f"Small files at their worst\n\n{expansion.table(expansion.rows(expansion.SCALE))}")
        return 0
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="cwb-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.differential:
        return run_differential(folder, arguments.mutations, arguments.share, arguments.processes)
    if arguments.graph:
        return run_graph(folder, arguments.first, arguments.mutations, arguments.processes)
    paths = seeds.write(folder)
    if arguments.guided:
        return run_guided(folder, paths, arguments.guided, arguments.processes)
    program = campaign.build(folder)
    result = campaign.run(program, paths, arguments.first, arguments.mutations, arguments.processes)
    if not arguments.first:
        every(program, folder, result)
    print(f"C decoder, {sum(result.counts.values()):,} files\n\n{result.table()}")
    for report in result.reports:
        print(report, file=sys.stderr)
    bad = result.failures()
    if bad:
        print(f"\n{bad} failures: see {folder}", file=sys.stderr)
    return int(bad > 0)


def every(program: Path, folder: Path, result: campaign.Result) -> None:
    """Every bit flipped of the reader's files, every truncation, all splices."""
    files = reader.files()
    for number, data in enumerate(files):
        path = folder / f"whole{number}.cwb"
        path.write_bytes(data)
        cases = chain(reader.flips(data), reader.cuts(data), reader.splices(data, files[number - 1]))
        campaign.stream(program, path, cases, result)


def run_differential(folder: Path, count: int, share: int, processes: int) -> int:
    """The same mutants through three readers; files that made trouble are kept in ``folder``."""
    table = differential.run(differential.build(folder), count, share, processes)
    print(f"C decoder, Python reader and specification, {count:,} mutants\n\n{table.text()}")
    for number, (why, data) in enumerate(table.failures):
        (folder / f"differs-{number}.cwb").write_bytes(data)
        print(f"{folder}/differs-{number}.cwb: {why}", file=sys.stderr)
    return int(table.failed())


def run_graph(folder: Path, first: int, count: int, processes: int) -> int:
    """Mutants of graph sections through both libraries; their numbers tell which ones differ."""
    program = graph.build(folder)
    starts = range(first, first + count, graph.BATCH)
    with ProcessPoolExecutor(processes) as pool:
        batches = pool.map(partial(graph.compare, program, count=graph.BATCH), starts)
        lines = [line for batch in batches for line in batch]
    print(f"The graph in C and in Python, {len(starts) * graph.BATCH:,} mutants, {len(lines)} differ")
    print("\n".join(lines[:20]), file=sys.stderr)
    return int(bool(lines))


def run_guided(folder: Path, paths: list[Path], seconds: int, processes: int) -> int:
    """One fuzzer for each process, with corpora of their own."""
    try:
        programs = []
        for number in range(processes):
            (folder / str(number)).mkdir(exist_ok=True)
            programs.append(guided.build(folder / str(number)))
    except campaign.BuildError as error:
        print(f"nothing was done under libFuzzer: {str(error)[:300]}")
        return 0
    with ThreadPoolExecutor(processes) as pool:
        results = list(pool.map(lambda program: guided.run(program, paths, f"-max_total_time={seconds}"), programs))
    for code, printed in results:
        print(f"libFuzzer, {seconds} seconds: {guided.summary(printed)}")
        if code:
            print(printed[-5000:], file=sys.stderr)
    return int(any(code for code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
