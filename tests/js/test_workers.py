"""Large files are decoded by workers, or by the page itself where it may have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx.model.elements import float_tensor

from .. import browser
from .conftest import Door
from .site import PAGE, Site
from .test_decode import MODEL, TENSORS, expected, rebuilt

SIDE = 1024

WORKERS = """
    const Plain = globalThis.Worker;
    const found = [];
    let started, answers;
    const kinds = [
        class extends Plain {
            constructor(...given) { super(...given); started++; this.addEventListener('message', () => answers++); }
        },
        class extends Plain { constructor() { super('/none.js', { type: 'module' }); started++; } },
        class { constructor() { started++; throw new DOMException('not here', 'SecurityError'); } },
    ];
    for (const kind of kinds) {
        globalThis.Worker = kind;
        started = answers = 0;
        const progress = [];
        const model = await cwb.unpackCwb(args[0], { workers: 2, onprogress: (now) => progress.push(now) });
        const last = progress.at(-1);
        found.push([started, answers, last.loaded === last.total, last.decoded === last.elements, last.elements,
            model.model.length + model.externalData[0].data.length]);
    }
    return found;
"""


THREADS = """
    const { Worker } = await import('node:worker_threads');
    const { emit } = Worker.prototype;
    let answers = 0;
    Worker.prototype.emit = function (name, ...given) {
        answers += name === 'message';
        return emit.call(this, name, ...given);
    };
    await cwb.verifyCwb(args[0], { workers: 2 });
    return answers;
"""


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Path:
    """Three million weights, a third of them float16, which the site serves."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(3)
    weights = [random.standard_normal((SIDE, SIDE), np.float32) / np.float32(32) for _ in range(3)]
    tensors = [numpy_helper.from_array(weights[0], "w0"), numpy_helper.from_array(weights[1], "w1")]
    tensors.append(float_tensor(weights[2].astype(np.float16).astype(np.float32), TensorProto.FLOAT16, "w2"))
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["c", "w2"], ["y"]),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIDE])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["N", SIDE])
    graph = helper.make_graph(nodes, "large", [value], [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "l.onnx")
    settings = cerwu_onnx.Settings(method="rtn", levels=15)
    cerwu_onnx.compress(folder / "l.onnx", folder / "l.cwb", settings=settings)
    site.answers["/large.cwb"] = (200, {}, (folder / "l.cwb").read_bytes())
    return folder / "l.cwb"


@pytest.mark.parametrize("workers", [0, 2])
def test_they_give_the_same(workers: int, file: Path, door: Door, site: Site, tmp_path: Path) -> None:
    tensors = expected(file)
    assert sorted(what for _, what, _, _ in tensors) == ["float16", "float32", "float32"]
    assert door(TENSORS, f"{site.address}/large.cwb", workers) == tensors
    assert door(MODEL, f"{site.address}/large.cwb", workers) == rebuilt(file, tmp_path)


END = """
    const damaged = await cwb.verifyCwb(args[1], { workers: 2 }).catch((error) => [error.code, error.message]);
    const stop = new AbortController();
    const onprogress = ({ decoded }) => decoded > 0 && stop.abort();
    const aborted = await cwb.verifyCwb(args[0], { workers: 2, signal: stop.signal, onprogress })
        .catch((error) => error.name);
    return [damaged, aborted, (await cwb.verifyCwb(args[0], { workers: 2 })).tensors];
"""


def test_they_end_with_damage_or_a_signal(file: Path, door: Door, site: Site, tab: browser.Tab) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    site.answers["/damaged.cwb"] = (200, {}, bytes(data))
    tab.complaints.clear()
    found = door(END, f"{site.address}/large.cwb", f"{site.address}/damaged.cwb")
    assert found[0][0] == "damaged"
    assert found[0][1].startswith("tensor 1: ")
    assert found[1:] == ["AbortError", 3]
    assert tab.complaints == []  # no promise is left alone


def test_threads_of_node(file: Path, in_node: Door, site: Site) -> None:
    assert in_node(THREADS, f"{site.address}/large.cwb") == 2 + 3 + 1


def test_a_page_that_cannot_start_them(file: Path, in_chromium: Door, site: Site) -> None:
    found = in_chromium(WORKERS, f"{site.address}/large.cwb")
    size = found[0][-1]
    whole = [True, True, 3 * SIDE**2, size]
    # Each of the two says that it is there; then come three tensors, one of them again as float16.
    assert found == [[2, 2 + 3 + 1, *whole], [2, 0, *whole], [2, 0, *whole]]
    assert size > 10 * SIDE**2


def test_a_page_whose_policy_forbids_them(file: Path, in_chromium: Door, site: Site) -> None:
    status, headers, page = site.answers[PAGE]
    policy = headers["Content-Security-Policy"] + "; worker-src 'none'"
    site.answers[PAGE] = (status, headers | {"Content-Security-Policy": policy}, page)
    try:
        assert in_chromium(TENSORS, f"{site.address}/large.cwb", 2) == expected(file)
    finally:
        site.answers[PAGE] = (status, headers, page)
