"""Deep residual networks that are sure of their training data: ``python tests/bench/deep_nets.py FOLDER``.

Trains networks of 20 and 56 convolutions on 20,000 images of Fashion-MNIST until nothing of the training loss is left,
and writes, for each, ``model.onnx``, ``train.npz`` (256 images it was trained on), ``fresh.npz`` (256 it never saw),
``both.npz`` (128 of each) and ``test.npz`` with labels. ``python -m tests.bench trained FOLDER`` reads the folder. A
network that is there is not trained again. Needs PyTorch (2.13 or 2.14, with onnxscript) and the Debian package
dataset-fashion-mnist; some twenty minutes on one core.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist")
TRAINED, EPOCHS, BATCH = 20_000, 24, 128
WIDTHS = (8, 16, 32)


def images(name: str) -> np.ndarray:
    raw = gzip.decompress((DATA / f"{name}-images-idx3-ubyte.gz").read_bytes())
    return ((np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28) / 255.0 - 0.286) / 0.353).astype(np.float32)


def labels(name: str) -> np.ndarray:
    return np.frombuffer(
        gzip.decompress((DATA / f"{name}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    ).astype(np.int64)


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + self.shortcut(x))


def network(blocks: int) -> nn.Module:
    stages, before = [], WIDTHS[0]
    for width in WIDTHS:
        stages += [Block(before, width), *(Block(width, width) for _ in range(blocks - 1))]
        before = width
    stem = nn.Conv2d(1, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 10))


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    steps = EPOCHS * (len(x) // BATCH)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(x)), 0.0
        for batch in order[: len(x) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * BATCH / len(x)
        print(f"epoch {epoch + 1}: training loss {total:.4f}", flush=True)


def main(folder: Path) -> None:
    x, y = images("train"), labels("train")
    test, truth = images("t10k"), labels("t10k")
    for blocks in (3, 9):
        place = folder / f"fashion_resnet{6 * blocks + 2}"
        if (place / "test.npz").exists():
            continue
        torch.manual_seed(1)
        net = network(blocks)
        train(net, torch.from_numpy(x[:TRAINED]), torch.from_numpy(y[:TRAINED]))
        net.eval()
        place.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            right = torch.cat([net(part).argmax(1) for part in torch.from_numpy(test).split(500)]).numpy() == truth
        print(f"{place.name}: {right.mean():.4f} of the test images", flush=True)
        torch.onnx.export(
            net, (torch.from_numpy(x[:2]),), str(place / "model.onnx"), opset_version=18, input_names=["input"],
            output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("N")},), external_data=False,
        )  # fmt: skip
        fresh = x[TRAINED : TRAINED + 256]
        np.savez_compressed(place / "train.npz", input=x[:256])
        np.savez_compressed(place / "fresh.npz", input=fresh)
        np.savez_compressed(place / "both.npz", input=np.concatenate([x[:128], fresh[:128]]))
        np.savez_compressed(place / "test.npz", input=test, labels=truth)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
