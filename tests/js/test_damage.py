"""Hostile and damaged files in WebAssembly, which has 32 bits: a named error, or what the Python reader gives."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

from ..hostile.make import cases
from .conftest import Node
from .site import ROOT

UNREAD = {"margins-cut", "margin-4g", "metadata-deep", "metadata-digits", "deflate-cut", "packed-cut", "packed-size"}
"""Files whose margins or metadata are wrong: nothing in the package reads what these say."""

CODES = {"not-cwb", "too-new", "truncated", "damaged", "memory", "base"}

ALL = """
import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { CwbError, decodeCwb, unpackCwb } from 'cerwu-onnx';
const outcomes = [];
for (const text of JSON.parse(readFileSync(process.argv[1]))) {
    const bytes = Buffer.from(text, 'base64');
    const hash = createHash('sha256');
    try {
        for (const { data } of (await decodeCwb(bytes, { workers: 0 })).values()) hash.update(data);
        const { model, externalData } = await unpackCwb(bytes, { workers: 0 });
        for (const data of [model, ...externalData.map(({ data }) => data)]) hash.update(data);
    } catch (error) {
        if (error.code !== 'no-graph') {
            outcomes.push(error instanceof CwbError ? error.code : error.stack);
            continue;
        }
    }
    outcomes.push(hash.digest('hex'));
}
console.log(JSON.stringify(outcomes));
"""


def outcomes(node: Node, folder: Path, files: list[bytes]) -> list[str]:
    """What becomes of each file: the code of an error, or a hash of all that comes out."""
    (folder / "files.json").write_text(json.dumps([base64.b64encode(file).decode() for file in files]))
    found = node(ALL, folder / "files.json")
    assert len(found) == len(files)
    return [str(outcome) for outcome in found]


def test_hostile_files(node: Node, tmp_path: Path) -> None:
    hostile = list(cases())
    for case, outcome in zip(hostile, outcomes(node, tmp_path, [case.data for case in hostile]), strict=True):
        is_read = case.python == "OK" or case.name in UNREAD
        assert (outcome in CODES, len(outcome) == 64) == (not is_read, is_read), f"{case.name}: {outcome}"


def test_damage(node: Node, tmp_path: Path) -> None:
    """Bits that flip and bytes that are missing: an error, or nothing has changed."""
    files, random_ = [], random.Random(0)
    for version, flips in (("v1", 300), ("v2", 30)):  # the graph of the latter takes longer to unpack
        whole = (ROOT / f"tests/golden/{version}/model.cwb").read_bytes()
        files.append([whole])
        for _ in range(flips):
            at = random_.randrange(8 * len(whole))
            files[-1].append(whole[: at // 8] + bytes([whole[at // 8] ^ 1 << at % 8]) + whole[at // 8 + 1 :])
        files[-1] += [whole[:size] for size in range(0, len(whole), 97)]
    found = outcomes(node, tmp_path, files[0] + files[1])
    for intact, *damaged in (found[: len(files[0])], found[len(files[0]) :]):
        assert len(intact) == 64
        assert {"not-cwb", "truncated", "damaged"} <= set(damaged) <= CODES | {intact}
