"""The long campaigns: ``python -m tests.fuzz`` (C decoder), ``python -m tests.fuzz --reader`` (Python reader)."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from . import campaign, reader, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--reader", action="store_true", help="the Python reader instead of the C decoder")
    parser.add_argument("--mutations", type=int, default=1_000_000, help="how many (C)")
    parser.add_argument("--first", type=int, default=0, help="number of the first: it determines the damage (C)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the files that made trouble; default: a temporary one")
    arguments = parser.parse_args()
    if arguments.reader:
        table = reader.long_campaign(arguments.processes)
        print(table.text())
        return int(table.failed())
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="cwb-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    program = campaign.build(folder)
    paths = seeds.write(folder)
    result = campaign.run(program, paths, arguments.first, arguments.mutations, arguments.processes)
    print(f"{arguments.mutations:,} mutations of {len(paths)} files\n\n{result.table()}")
    for report in result.reports:
        print(report, file=sys.stderr)
    bad = sum(result.total(outcome) for outcome in ("silent", "hang", "crash"))
    if bad:
        print(f"\n{bad} failures: see {folder}", file=sys.stderr)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
