"""Later states of the sample models: trained a little further, on new data of the same sensor, or of a drifted one.

It needs PyTorch.

The graph is the model's own, interpreted here, so that nothing but values changes. BatchNormalization keeps its
statistics, as is usual where little is trained.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .models import SAMPLES, BenchModel

CONTRAST, OFFSET, NOISE = 0.8, 15.0, 8.0
"""What the drift does to a byte, and the standard deviation of its noise."""

SCRATCH = 3e-3


@dataclass(frozen=True)
class Recipe:
    """How a later state is trained.

    Attributes:
        name: of the row.
        rate: learning rate of Adam.
        epochs: of 5,000 samples.
        drift: the sensor has drifted.
        last: only the last layer is trained.
        anew: weights begin at random.
    """

    name: str
    rate: float
    epochs: int
    drift: bool = True
    last: bool = False
    anew: bool = False


RECIPES = (
    Recipe("last layer, rate 1e-3", 1e-3, 5, drift=False, last=True),
    Recipe("all layers, rate 1e-4", 1e-4, 5, drift=False),
    Recipe("last layer, rate 1e-3, drift", 1e-3, 5, last=True),
    Recipe("all layers, rate 1e-4, drift", 1e-4, 5),
    Recipe("all layers, rate 1e-3, drift", 1e-3, 5),
    Recipe("from scratch", SCRATCH, 5, anew=True),
)


@dataclass(frozen=True)
class NewData:
    """Inputs as the network takes them, with labels: for training and for measuring."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def available() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def new_data(model: BenchModel, *, drift: bool) -> NewData:
    """What the model's own training has kept for validation, and its test data, as they are or after the drift."""
    make = _make()
    recipe = next(recipe for recipe in make.RECIPES if recipe.name == model.name)
    kept = recipe.load(make.DEBIAN_DATA, 1).train[: make.VALIDATION_SAMPLES]
    preprocess = make.load_eval(model.name).preprocess
    with np.load(model.folder / "test.npz") as test:
        inputs, labels = test["inputs"], test["labels"]

    def after(raw: np.ndarray, seed: int) -> np.ndarray:
        if not drift:
            return np.asarray(preprocess(raw))
        noise = NOISE * np.random.default_rng(seed).normal(size=raw.shape)
        return np.asarray(preprocess(np.clip(np.rint(CONTRAST * raw + OFFSET + noise), 0, 255).astype(np.uint8)))

    return NewData(after(kept.inputs, 1), kept.labels.astype(np.int64), after(inputs, 2), labels.astype(np.int64))


def trained(model: BenchModel, data: NewData, recipe: Recipe) -> onnx.ModelProto:
    """A later state of a model."""
    import torch

    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    proto = onnx.load(model.onnx)
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
    frozen = {name for node in proto.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    names = [name for name, value in values.items() if value.is_floating_point() and name not in frozen]
    if recipe.last:
        names = [name for name in names if name in proto.graph.node[-1].input]
    for name in names:
        if recipe.anew and values[name].ndim > 1:
            values[name].normal_(0, float(values[name].std()))
        values[name].requires_grad_()
    optimiser = torch.optim.Adam([values[name] for name in names], lr=recipe.rate)
    inputs, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(labels)).split(128):
            loss = torch.nn.functional.cross_entropy(_run(proto, values, inputs[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].detach().numpy(), tensor.name))
    return proto


def _make() -> ModuleType:
    """sample_models/make.py, which has the data."""
    spec = importlib.util.spec_from_file_location("sample_models_make", SAMPLES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _run(proto: onnx.ModelProto, values: Mapping[str, Any], x: Any) -> Any:
    """The logits. What makes the state that a GRU begins with is left out: it is 0."""
    known = {**values, proto.graph.input[0].name: x}
    for node in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            known[node.output[0]] = numpy_helper.to_array(attributes["value"])
        elif node.input[0] in known and node.op_type in OPERATORS:
            found = OPERATORS[node.op_type]([known.get(name) for name in node.input], attributes)
            known |= dict(zip(node.output, found if isinstance(found, tuple) else (found,), strict=False))
    return known[proto.graph.output[0].name]


def _conv(inputs: list[Any], a: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    x = functional.pad(inputs[0], (left, right, top, bottom))
    return functional.conv2d(x, *inputs[1:], stride=a.get("strides", (1, 1)), groups=a.get("group", 1))


def _norm(inputs: list[Any], a: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    x, scale, shift, mean, variance = inputs
    return functional.batch_norm(x, mean, variance, scale, shift, eps=a.get("epsilon", 1e-5))


def _pool(inputs: list[Any], a: Mapping[str, Any]) -> Any:
    from torch.nn import functional

    return functional.max_pool2d(inputs[0], a["kernel_shape"], a["strides"])


def _gemm(inputs: list[Any], a: Mapping[str, Any]) -> Any:
    return inputs[0] @ (inputs[1].T if a.get("transB") else inputs[1]) + inputs[2]


def _gru(inputs: list[Any], a: Mapping[str, Any]) -> tuple[Any, Any]:
    """ONNX has the gates in the order z, r, h, and both biases in one tensor; PyTorch has r, z, h."""
    import torch

    assert a["linear_before_reset"] == 1
    x, w, r, b = inputs[:4]
    hidden = r.shape[2]
    order = torch.cat([torch.arange(hidden, 2 * hidden), torch.arange(hidden), torch.arange(2 * hidden, 3 * hidden)])
    parts = [w[0][order], r[0][order], b[0][: 3 * hidden][order], b[0][3 * hidden :][order]]
    states, last = torch.gru(x, torch.zeros(1, x.shape[1], hidden), parts, True, 1, 0.0, True, False, False)
    return states[:, None], last


OPERATORS: dict[str, Callable[[list[Any], Mapping[str, Any]], Any]] = {
    "Conv": _conv,
    "BatchNormalization": _norm,
    "Relu": lambda inputs, a: inputs[0].relu(),
    "MaxPool": _pool,
    "Flatten": lambda inputs, a: inputs[0].flatten(1),
    "ReduceMean": lambda inputs, a: inputs[0].mean(dim=a["axes"], keepdim=bool(a.get("keepdims", 1))),
    "Gemm": _gemm,
    "Transpose": lambda inputs, a: inputs[0].permute(a["perm"]),
    "GRU": _gru,
    "Gather": lambda inputs, a: inputs[0][int(inputs[1])],
}
