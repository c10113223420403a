"""Look for inputs that end in "unexpected": every command on files that are damaged or that lie.

``python -m tests.bad_inputs.hunt [FOLDER ...] [--mutations N] [--seed S]`` takes files of these folders as well as they
are, and N mutations of each model and file that it makes. It prints each kind of failure once. The seed and the names
that it prints make the input again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

from cerwu_onnx.cli.app import EXIT_CODES, INTERNAL_ERROR, run
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container.packed import pack, unpack
from cerwu_onnx.model.tensors import model_inputs

from .. import models
from ..cli.conftest import small_model
from ..compat import forms, layers, values
from ..compat.case import Skipped
from ..fuzz import reader as damage
from ..hostile.make import cases

SCORED = ("--metric", "agreement", "--metric-data", "IN.npz", "--max-drop", "50%", "--requantize")
OF_MODELS = (
    ("inspect", "IN.onnx"),
    ("inspect", "IN.onnx", "--json"),
    ("compress", "IN.onnx", "OUT.cwb", "-f", "--method", "rtn", "--report", "OUT.html", "--report", "OUT.md"),
    ("compress", "IN.onnx", "OUT.cwb", "-f", "--calib", "IN.npz", "--effort", "fast", "--json"),
    ("compress", "IN.onnx", "OUT.cwb", "-f", "--calib", "IN.npz", "--method", "cerwu", *SCORED),
    ("verify", "OUT.cwb", "--against", "IN.onnx", "--data", "IN.npz"),
    ("compare", "IN.onnx", "OUT.cwb", "--data", "IN.npz"),
    ("decompress", "OUT.cwb", "OUT.onnx", "-f"),
)
OF_FILES = (
    ("inspect", "IN.cwb"),
    ("inspect", "IN.cwb", "--json"),
    ("verify", "IN.cwb", "--json"),
    ("verify", "IN.cwb", "--against", "IN.onnx", "--data", "IN.npz"),
    ("compare", "IN.onnx", "IN.cwb", "--data", "IN.npz"),
    ("decompress", "IN.cwb", "OUT.onnx", "-f"),
    ("report", "IN.cwb"),
    ("report", "IN.cwb", "OUT.html", "OUT.md", "OUT.json", "-f"),
    ("calibrate", "IN.cwb", "OUT.json", "-f", "--calib", "IN.npz"),
    ("export-c", "IN.cwb", "OUT", "-f", "--name", "m"),
    ("export-c", "IN.cwb", "OUT", "-f", "--json", "--without-decoder", "--name", "m"),
)
OF_DATA = OF_MODELS[3:5]

NUMBERS = (0, 1, -1, 2, 3, 7, 63, 64, 127, 128, 255, 1024, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"))
WORDS = (
    "",
    "x",
    "y",
    "::stop::",
    "a\nb",
    "\x1b[2J",
    "\u202e",
    "MatMul",
    "Conv",
    "If",
    "\ud7ff",
    "w" * 2000,
    "ai.onnx.ml",
)
JSON: tuple[Any, ...] = (None, True, -1, 1e308, "x", "\ud800", [], [[]], {}, {"a": {"b": []}}, "f" * 5000, 10**400)


@dataclass(frozen=True)
class Failure:
    """An input that no error is made for.

    Attributes:
        where: the file, and what was done to it.
        call: the command line.
        said: on stderr.
    """

    where: str
    call: tuple[str, ...]
    said: str


def mutated(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """A copy with a few fields changed, anywhere."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _mutate(copy, rng)
    return copy


def _mutate(model: onnx.ModelProto, rng: random.Random) -> None:
    """Change one field of a message that is found by walking down at random."""
    message: Message = model
    while True:
        fields = [(field, value) for field, value in message.ListFields() if field.name != "raw_data"]
        inner = [(field, value) for field, value in fields if field.type == field.TYPE_MESSAGE and _some(value)]
        if inner and rng.random() < 0.8:
            _, value = rng.choice(inner)
            message = value if isinstance(value, Message) else rng.choice(list(value))
            continue
        if not message.DESCRIPTOR.fields:
            return
        field = rng.choice(fields)[0] if fields and rng.random() < 0.8 else rng.choice(message.DESCRIPTOR.fields)
        with contextlib.suppress(ValueError, TypeError):
            _change(message, field, rng)
        return


def _some(value: Any) -> bool:
    return isinstance(value, Message) or len(value) > 0


def _change(message: Message, field: Any, rng: random.Random) -> None:
    value = getattr(message, field.name)
    if not isinstance(value, (Message, str, bytes, int, float)):  # repeated
        choice = rng.randrange(5)
        if len(value) and choice == 0:
            del value[rng.randrange(len(value))]
        elif len(value) and choice == 1:
            value.append(rng.choice(list(value)))
        elif len(value) > 1 and choice == 2:
            items = list(value)
            rng.shuffle(items)
            message.ClearField(field.name)
            getattr(message, field.name).extend(items)
        elif field.type != field.TYPE_MESSAGE:
            new = _scalar(field, rng)
            if len(value) and rng.random() < 0.7:
                value[rng.randrange(len(value))] = new
            else:
                value.append(new)
        elif choice == 3:
            value.add()
        else:
            message.ClearField(field.name)
    elif isinstance(value, Message) or rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, rng))


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(WORDS)
    if field.type == field.TYPE_BYTES:
        return rng.choice([b"", b"\xff\xfe", rng.randbytes(8), rng.randbytes(400)])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == field.TYPE_ENUM:
        return rng.choice([*field.enum_type.values_by_number, 77])
    return rng.choice([*NUMBERS, rng.randrange(40)])


def metadata_forged(data: bytes, rng: random.Random) -> bytes:
    """A file whose metadata says something odd under right CRCs."""
    records, payloads = damage.parts(data)
    index = next(i for i, record in enumerate(records) if record.kind is f.Kind.METADATA)
    metadata = json.loads(unpack(payloads[index], 1 << 20))
    keys = (*metadata, "folded", "params", "tables", "levels", "lambda", "method", "calibration", "model", "::key\n")
    for _ in range(rng.randint(1, 3)):
        metadata[rng.choice(keys)] = rng.choice(JSON)
    text = json.dumps(metadata)
    if rng.random() < 0.1:
        depth = rng.choice((50, 200, 900, 5000))
        text = f'{{"deep": {"[" * depth}{"]" * depth}}}'
    return damage.with_payload(data, index, pack(text.encode()))


def data_for(model: onnx.ModelProto, rng: random.Random) -> dict[str, Any]:
    """Inputs that fit a model, more or less."""
    found = {}
    noise = np.random.default_rng(rng.randrange(1 << 30))
    for info in model_inputs(model):
        shape = tuple(dim if isinstance(dim, int) and 0 < dim < 64 else 12 for dim in info.shape or (12,))
        values = noise.normal(size=shape) if info.dtype.kind == "f" else noise.integers(0, 3, shape)
        found[info.name] = values.astype(object if info.dtype.kind == "O" else info.dtype)
    return found


def bases() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Small models of many kinds."""
    yield "small", small_model(batch_norm=True)
    yield "conv net", models.conv_net()
    for source in (forms, layers, values):
        for case in source.cases():
            with contextlib.suppress(Skipped):
                made = case.make().model
                if isinstance(made, onnx.ModelProto) and made.ByteSize() < 1 << 18:
                    yield case.name, made


class Hunt:
    """A folder to run in, and what was found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: dict[str, Failure] = {}
        self.runs = 0
        small = small_model()
        onnx.save(small, folder / "good.onnx")
        np.savez(folder / "good.npz", **data_for(small, random.Random(0)))
        compress(folder / "good.onnx", folder / "good.cwb", calib=folder / "good.npz", settings=Settings(method="rtn"))

    def model(self, where: str, content: bytes, data: bytes | None) -> None:
        """Every command of models on one."""
        self._run(where, OF_MODELS, {"IN.onnx": content, "IN.npz": data or self._good("npz")})

    def file(self, where: str, content: bytes) -> None:
        """Every command of files on one."""
        good = {"IN.onnx": self._good("onnx"), "IN.npz": self._good("npz")}
        self._run(where, OF_FILES, {"IN.cwb": content, **good})

    def data(self, where: str, content: bytes) -> None:
        """Compress a good model with calibration data."""
        self._run(where, OF_DATA, {"IN.onnx": self._good("onnx"), "IN.npz": content})

    def _good(self, kind: str) -> bytes:
        return (self.folder / f"good.{kind}").read_bytes()

    def _run(self, where: str, calls: Sequence[tuple[str, ...]], inputs: dict[str, bytes]) -> None:
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in inputs.items():
            (place / name).write_bytes(content)
        for call in calls:
            if "OUT.cwb" in call and call[0] != "compress" and not (place / "OUT.cwb").exists():
                continue
            arguments = [str(place / word) if word.startswith(("IN.", "OUT")) else word for word in call]
            self.runs += 1
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run([*arguments[:1], "-v", *arguments[1:]])
            self._judge(where, call, code, out.getvalue(), err.getvalue())

    def _judge(self, where: str, call: tuple[str, ...], code: int, out: str, err: str) -> None:
        fault = ""
        if code not in EXIT_CODES or (code == INTERNAL_ERROR and "error: out of memory" not in err):
            fault = "\n".join([line for line in err.splitlines() if line.startswith("  File ")][-1:]) + err[-300:]
        elif "--json" in call and code == 0:
            try:
                json.loads(out)
            except ValueError as error:
                fault = f"no JSON: {error}"
        if fault:
            kind = re.sub(r"/\S*/|0x\w+|\d+", "", fault)[:200]
            self.failures.setdefault(kind, Failure(where, call, err))


def hunt(folder: Path, folders: Sequence[Path], mutations: int, seed: int, *, every: int = 1) -> Hunt:
    """Everything; of the models and hostile files that it makes, each ``every``-th."""
    found = Hunt(folder)
    for number, case in enumerate(cases()):
        if number % every == 0:
            found.file(f"hostile {case.name}", case.data)
    for given in sorted(path for each in folders for path in each.rglob("*") if path.is_file()):
        if given.suffix == ".cwb":
            found.file(str(given), given.read_bytes())
        elif given.suffix == ".npz":
            found.data(str(given), given.read_bytes())
        elif given.suffix == ".onnx":
            data = given.with_suffix(".npz")
            found.model(str(given), given.read_bytes(), data.read_bytes() if data.exists() else None)
    for kind, (name, base) in enumerate(bases()):
        if kind % every:
            continue
        for number in range(mutations):
            rng = random.Random(f"{seed} {name} {number}")
            stream = io.BytesIO()
            np.savez(stream, **data_for(base, rng))
            changed = mutated(base, rng).SerializeToString()
            found.model(f"model {name} {number}", changed, stream.getvalue())
    good = (folder / "good.cwb").read_bytes()
    for number in range(mutations * 10 // every):
        rng = random.Random(f"{seed} metadata {number}")
        found.file(f"metadata {number}", metadata_forged(good, rng))
    for number, (kind_of, content) in enumerate(damage.forgeries(good, mutations * 10 // every, seed)):
        found.file(f"{kind_of} {number}", content)
    npz = (folder / "good.npz").read_bytes()
    rng = random.Random(seed)
    for number in range(mutations * 5 // every):
        found.data(f"data {number}", damage.hurt(npz, rng))
    return found


def main() -> int:
    """Hunt, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--mutations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ["COLUMNS"] = "80"
    with tempfile.TemporaryDirectory() as folder:
        found = hunt(Path(folder), given.folders, given.mutations, given.seed)
    for failure in found.failures.values():
        print(f"--- {failure.where}: {' '.join(failure.call)}\n{failure.said[-2500:]}")
    print(f"{found.runs} runs, {len(found.failures)} kinds of failures")
    return bool(found.failures)


if __name__ == "__main__":
    sys.exit(main())
