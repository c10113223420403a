"""Networks that know their training data by heart, made with numpy: a part of ``python -m tests.bench trained``.

Four hundred samples, whose targets are noisy, until nothing of the training loss is left: numbers, decisions and
classes of the same 16 inputs. Each network is compressed by default with samples that it was trained on, with fresh
ones and with both, and what the report says is lost stands beside what 4,000 fresh samples show.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper
from rich.console import Console
from rich.table import Table
from scipy.special import expit, softmax

import cerwu_onnx
from cerwu_onnx import Report, Settings

from ..models import build, value

Array = npt.NDArray[np.float64]

INPUTS, WIDTH = 16, 128
SAMPLES, CALIBRATED, JUDGED = 400, 256, 4000
STEPS, BATCH, RATE = 5000, 50, 3e-3
DECAY, SQUARES = 0.9, 0.999

KINDS = ("numbers", "decisions", "classes")
"""Of the networks."""


@dataclass(frozen=True)
class Net:
    """A network and its data.

    Attributes:
        model: it gives numbers, probabilities of decisions, or logits of classes.
        calibrations: 256 samples, by name.
        fresh: ``(4000, 16)`` samples that nobody has seen.
        targets: of the fresh samples, ``(4000, outputs)``; of classes one at the right one.
    """

    model: onnx.ModelProto
    calibrations: dict[str, npt.NDArray[np.float32]]
    fresh: npt.NDArray[np.float32]
    targets: Array


def drawn(kind: str, samples: int, seed: int) -> tuple[npt.NDArray[np.float32], Array]:
    """Correlated inputs, and noisy targets."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(INPUTS, INPUTS)) * np.linspace(0.3, 2, INPUTS)[:, None]
    x = random.normal(size=(samples, INPUTS)) @ mixing / INPUTS**0.5
    columns = np.sin(2 * x[:, 0] * x[:, 1]) + x[:, 2], np.abs(x[:, 3]) * x[:, 4], x[:, 5:9].sum(axis=1) / 2
    y = np.stack(columns, axis=1)
    y += 0.3 * random.normal(size=y.shape)
    if kind == "decisions":
        y = (y > 0.3).astype(np.float64)
    elif kind == "classes":
        y = np.eye(3)[y.argmax(axis=1)]
    return x.astype(np.float32), y


def net(kind: str) -> Net:
    """Train a network of two hidden layers."""
    x, y = drawn(kind, SAMPLES, 1)
    weights = _trained(kind, x.astype(np.float64), y)
    nodes, before, tensors = [], "input", {}
    for i in range(0, len(weights), 2):
        tensors |= {f"w{i}": weights[i].astype(np.float32), f"b{i}": weights[i + 1].astype(np.float32)}
        nodes.append(helper.make_node("Gemm", [before, f"w{i}", f"b{i}"], [f"h{i}"]))
        nodes.append(helper.make_node("Relu", [f"h{i}"], [before := f"r{i}"]))
    nodes[-1] = helper.make_node("Sigmoid" if kind == "decisions" else "Identity", nodes[-1].input, ["y"])
    model = build(nodes, [value("input", ["N", INPUTS])], [value("y", ["N", y.shape[1]])], tensors)
    fresh, half = drawn(kind, CALIBRATED, 2)[0], CALIBRATED // 2
    calibrations = {"train": x[:CALIBRATED], "fresh": fresh, "both": np.concatenate([x[:half], fresh[:half]])}
    return Net(model, calibrations, *drawn(kind, JUDGED, 3))


def _trained(kind: str, x: Array, y: Array) -> list[Array]:
    """Weights and biases by turns, by Adam."""
    random = np.random.default_rng(0)
    sizes = [INPUTS, WIDTH, WIDTH, y.shape[1]]
    weights: list[Array] = []
    for before, after in pairwise(sizes):
        weights += [random.normal(size=(before, after)) * (2 / before) ** 0.5, np.zeros(after)]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, STEPS + 1):
        some = random.integers(0, len(x), BATCH)
        for w, gradient, m, v in zip(weights, _gradients(kind, weights, x[some], y[some]), first, second, strict=True):
            m += (1 - DECAY) * (gradient - m)
            v += (1 - SQUARES) * (gradient**2 - v)
            rate = RATE * (1 - step / (STEPS + 1)) * (1 - SQUARES**step) ** 0.5 / (1 - DECAY**step)
            w -= rate * m / (np.sqrt(v) + 1e-8)
    return weights


def _gradients(kind: str, weights: list[Array], x: Array, y: Array) -> list[Array]:
    """Of squared error or cross-entropy."""
    values = [x]
    for i in range(0, len(weights), 2):
        h = values[-1] @ weights[i] + weights[i + 1]
        values.append(h if i + 2 == len(weights) else np.maximum(h, 0))
    squash = {"numbers": lambda z: z, "decisions": expit, "classes": lambda z: softmax(z, axis=1)}[kind]
    back, found = (squash(values[-1]) - y) / len(x), []
    for i in range(len(weights) - 2, -1, -2):
        below = values[i // 2]
        found += [back.sum(axis=0), below.T @ back]
        back = (back @ weights[i].T) * (below > 0)
    return found[::-1]


def measure(made: Net, kind: str, calibration: str) -> tuple[Report, float, float | None]:
    """Compress by default.

    Returns:
        The report; what fresh samples show to be lost (squared error over variance of the worst column; share of
        changed decisions, yes and no alike; share of the right answers); and the share of answers that stay.
    """
    settings = Settings(output_loss="mse" if kind == "numbers" else "auto")
    with tempfile.TemporaryDirectory() as folder:
        model, packed, rebuilt = (Path(folder) / name for name in ("m.onnx", "m.cwb", "r.onnx"))
        onnx.save(made.model, model)
        report = cerwu_onnx.compress(model, packed, calib={"input": made.calibrations[calibration]}, settings=settings)
        cerwu_onnx.decompress(packed, rebuilt)
        before, after = (
            ort.InferenceSession(str(path)).run(None, {"input": made.fresh})[0].astype(np.float64)
            for path in (model, rebuilt)
        )
    if kind == "numbers":
        return report, float((np.square(after - before).mean(axis=0) / before.var(axis=0)).max()), None
    if kind == "decisions":
        yes, changed = before > 0.5, (before > 0.5) != (after > 0.5)
        return report, float((changed[yes].mean() + changed[~yes].mean()) / 2), float(1 - changed.mean())
    answers, others = before.argmax(axis=1), after.argmax(axis=1)
    truth = made.targets.argmax(axis=1)
    lost = 1 - (others == truth).mean() / (answers == truth).mean()
    return report, float(lost), float((answers == others).mean())


def run(console: Console) -> None:
    """Print the table."""
    columns = ("known by heart", "calibrated with", "bits/weight", "said to be lost", "lost", "said to stay", "stay")
    table = Table(*columns, box=None)
    for kind in KINDS:
        made = net(kind)
        for name in made.calibrations:
            report, lost, same = measure(made, kind, name)
            said = report.fidelity
            stays = (said.same if said else None, same)
            table.add_row(
                kind,
                name,
                f"{report.bits_per_weight:.3f}",
                "-" if said is None else f"{100 * (1 - said.kept):.2f} %",
                f"{100 * lost:.2f} %",
                *("-" if share is None else f"{100 * share:.2f} %" for share in stays),
            )
    console.print(table)
