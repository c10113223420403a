"""Networks of many kinds, built in PyTorch with random weights and exported by both of its exporters."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import onnx

from .case import Case, Feed, Sample, Skipped, quiet
from .check import runs

SOURCES = {"script": "torch.onnx, TorchScript", "dynamo": "torch.onnx, dynamo"}
FEEDS = 6


def cases() -> Iterator[Case]:
    """One case per network and exporter, and some in half precision.

    Raises:
        Skipped: torch is missing.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise Skipped("torch cannot be imported (pip install torch onnxscript)") from None
    from . import torch_sequences, torch_vision

    networks = {**torch_vision.NETWORKS, **torch_sequences.NETWORKS}
    for exporter, source in SOURCES.items():
        for name, make in networks.items():
            yield Case(f"{name} ({exporter})", source, partial(_sample, make, exporter))
        for name, make in networks.items():
            if name in HALVED:
                for kind in ("float16", "bfloat16", "float64"):
                    label = f"{name}, {kind} ({exporter})"
                    yield Case(label, source, partial(_sample, make, exporter, kind))


HALVED = ("CNN", "transformer encoder", "MLP")


def _sample(make: Callable[[], tuple[Any, Any]], exporter: str, kind: str = "float32") -> Sample:
    """Export ``make() -> (module, draw)``; ``draw()`` gives the tensors of one feed, the batch first."""
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that no exporter knows
    module, draw = make()
    module = module.eval().to(getattr(torch, kind))
    _spread(module)

    def inputs() -> tuple[Any, ...]:
        return tuple(x.to(getattr(torch, kind)) if x.is_floating_point() else x for x in draw())

    try:
        model = _export(module, inputs(), exporter)
    except Exception as error:  # exporters give up in many ways
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise Skipped(f"the exporter fails: {type(error).__name__}: {lines[0]}") from error
    names = [info.name for info in model.graph.input]
    feeds: list[Feed] = []
    if kind != "bfloat16":  # numpy has no such type to feed
        feeds = [dict(zip(names, (x.numpy() for x in inputs()), strict=True)) for _ in range(FEEDS)]
    return Sample(model, feeds, runs=bool(feeds) and runs(model, feeds))


def _spread(module: Any) -> None:
    """Statistics and scales of normalisations that differ from channel to channel, as after training."""
    import torch

    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() == 1:
            with torch.no_grad():
                if name.endswith("running_var") or (name.endswith("weight") and bool((tensor == 1).all())):
                    tensor.copy_(0.5 + torch.rand(tensor.shape))
                elif not bool(tensor.any()):
                    tensor.copy_(0.1 * torch.randn(tensor.shape))


def _export(module: Any, inputs: tuple[Any, ...], exporter: str) -> onnx.ModelProto:
    import torch

    dynamic = exporter == "script"
    names = [f"x{index}" for index in range(len(inputs))]
    file = io.BytesIO()
    with quiet(), torch.no_grad():
        if dynamic:
            axes = {name: {0: "batch"} for name in names}
            torch.onnx.export(
                module, inputs, file, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=17
            )
            return onnx.load_from_string(file.getvalue())
        program = torch.onnx.export(module, inputs, dynamo=True, input_names=names, verbose=False)
        model: onnx.ModelProto = program.model_proto
        return model


def numbers(*shape: int) -> Callable[[], tuple[Any, ...]]:
    """Draws one tensor of standard normal numbers."""

    def draw() -> tuple[Any, ...]:
        import torch

        return (torch.randn(shape),)

    return draw


def tokens(*shape: int, most: int = 50) -> Callable[[], tuple[Any, ...]]:
    """Draws one tensor of token ids."""

    def draw() -> tuple[Any, ...]:
        import torch

        return (torch.randint(0, most, shape),)

    return draw
