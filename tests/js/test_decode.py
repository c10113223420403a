"""Every golden file and sample model decodes to what the Python reader gives, bit for bit, in Node and in Chromium."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx.model.tensors import constant_tensors

from ..bench.models import ABSENT, SHARED
from .conftest import Door
from .site import JS, ROOT, Site

GOLDEN = sorted((ROOT / "tests/golden").glob("v*/*.cwb"))
SAMPLES = sorted(path.parent for path in (ROOT / "sample_models").glob("*/model.onnx"))
REAL = sorted(path.parent for path in SHARED.glob("*/model.onnx"))

HEX = """
    const hex = async (data) => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', data)),
        (byte) => byte.toString(16).padStart(2, '0')).join('');
"""

TENSORS = f"""
    {HEX}
    const found = [];
    for (const [name, {{ type, dims, data }}] of await cwb.decodeCwb(args[0], {{ workers: args[1], base: args[2] }})) {{
        found.push([name, type, dims, await hex(data)]);
    }}
    return found;
"""

MODEL = f"""
    {HEX}
    const {{ model, externalData }} = await cwb.unpackCwb(args[0], {{ workers: args[1], base: args[2] }});
    const found = [await hex(model)];
    for (const {{ path, data }} of externalData) found.push([path, await hex(data)]);
    return found;
"""

STORED = f"""
    {HEX}
    const source = (name) => import(`${{globalThis.window ? '/js' : args[1]}}/src/${{name}}.js`);
    const [{{ Reading }}, {{ Decoder }}, {{ chunks }}, {{ default: code }}] =
        await Promise.all(['reading', 'wasm', 'source', 'cwb-wasm'].map(source));
    const module = await WebAssembly.compile(Uint8Array.from(atob(code), (character) => character.charCodeAt(0)));
    const reading = new Reading(await Decoder.from(module), {{ module, cores: 0 }});
    await reading.read(chunks(args[0], fetch));
    return Promise.all(reading.tensors.map(async ({{ type, data }}) => [type, await hex(data)]));
"""
"""The tensors of a file whose graph is no model, as the directory has them."""

RUN = """
    const packed = await cwb.loadCwb(args[0], { ort });
    const float = await ort.InferenceSession.create(new Uint8Array(await (await fetch(args[1])).arrayBuffer()));
    const [name] = float.inputNames;
    const data = Float32Array.from(args[2]);
    const feeds = { [name]: new ort.Tensor('float32', data, args[3]) };
    const outputs = [];
    for (const session of [packed, float]) {
        outputs.push(Object.values(await session.run(feeds)).map(({ data }) => Array.from(data)));
    }
    return outputs;
"""


def type_name(number: int) -> str:
    return {1: "float32", 11: "float64"}.get(number, onnx.TensorProto.DataType.Name(number).lower())


def rebuilt(file: Path, folder: Path, base: Path | None = None) -> list[Any]:
    """The ONNX file that Python makes, and its large tensors in a second one, as hashes."""
    cerwu_onnx.decompress(file, folder / "cwb", external_data=True, base=base)
    model, data = (folder / "cwb").read_bytes(), (folder / "cwb.data").read_bytes()
    return [hashlib.sha256(model).hexdigest(), *([["cwb.data", hashlib.sha256(data).hexdigest()]] if data else [])]


def expected(file: Path, base: Path | None = None) -> list[list[Any]]:
    """What the tensors are: those of the rebuilt model, or of the file if it holds weights only."""
    opened = cerwu_onnx.open(file, base=base)
    found: list[list[Any]] = []
    tensors = constant_tensors(opened.to_onnx()) if has_model(file, base) else {}
    for record in opened.container.tensors:
        if record.name in tensors:
            tensor = tensors[record.name]
            what, dims, data = tensor.data_type, list(tensor.dims), tensor.raw_data
        else:
            values = opened[record.name]
            what, dims, data = int(record.element), list(values.shape), np.ascontiguousarray(values).tobytes()
        found.append([record.name, type_name(what), dims, hashlib.sha256(data).hexdigest()])
    return found


def has_model(file: Path, base: Path | None = None) -> bool:
    """Whether there is a graph that is a model: that of one golden file is a text."""
    try:
        cerwu_onnx.open(file, base=base).to_onnx()
    except cerwu_onnx.CerwuError:
        return False
    return True


@pytest.fixture(scope="session")
def samples(package: Path, site: Site) -> dict[str, Path]:
    """The sample models as .cwb files, which the site serves."""
    found = {}
    for folder in SAMPLES:
        file = found[folder.name] = ROOT / "build" / "samples" / f"{folder.name}.cwb"
        file.parent.mkdir(parents=True, exist_ok=True)
        cerwu_onnx.compress(folder / "model.onnx", file, settings=cerwu_onnx.Settings(method="rtn"), force=True)
    return found


@pytest.mark.parametrize("file", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_files(file: Path, door: Door, site: Site, tmp_path: Path) -> None:
    base = file.with_name("base.cwb") if file.stem == "delta" else None
    address, *others = (f"{site.address}/{path.relative_to(ROOT)}" for path in (file, base) if path)
    if cerwu_onnx.open(file, base=base).has_graph and not has_model(file, base):
        found = door(STORED, address, JS.as_uri())
        assert found == [[what, data] for _, what, _, data in expected(file)]
        return
    assert door(TENSORS, address, 2, *others) == expected(file, base)
    if has_model(file, base):
        assert door(MODEL, address, 2, *others) == rebuilt(file, tmp_path, base)


@pytest.mark.parametrize("name", [folder.name for folder in SAMPLES])
def test_sample_models(name: str, door: Door, site: Site, samples: dict[str, Path], tmp_path: Path) -> None:
    address = f"{site.address}/{samples[name].relative_to(ROOT)}"
    assert door(TENSORS, address, 2) == expected(samples[name])
    assert door(MODEL, address, 2) == rebuilt(samples[name], tmp_path)


@pytest.mark.skipif(not REAL, reason=ABSENT)
def test_real_models(door: Door, site: Site, tmp_path: Path) -> None:
    for folder in REAL:
        file = tmp_path / "model.cwb"
        settings = cerwu_onnx.Settings(method="rtn")
        cerwu_onnx.compress(folder / "model.onnx", file, settings=settings, force=True)
        site.answers["/real.cwb"] = (200, {}, file.read_bytes())
        found = door(MODEL, f"{site.address}/real.cwb", 2)
        (tmp_path / folder.name).mkdir()
        assert found == rebuilt(file, tmp_path / folder.name), folder.name


@pytest.mark.parametrize("name", [folder.name for folder in SAMPLES])
def test_sessions_answer_as_those_of_the_float_model(
    name: str, door: Door, site: Site, samples: dict[str, Path]
) -> None:
    float_file = samples[name].with_suffix(".onnx")
    cerwu_onnx.decompress(samples[name], float_file, force=True)
    with np.load(ROOT / "sample_models" / name / "calib.npz") as arrays:
        inputs = arrays["input"][:2]
    address = f"{site.address}/{samples[name].relative_to(ROOT)}"
    packed, float_ = door(RUN, address, address.replace(".cwb", ".onnx"), inputs.ravel().tolist(), inputs.shape)
    assert packed == float_
    assert packed[0]
