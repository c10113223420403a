"""How long a small MobileNet takes, as on microcontrollers: a quarter of the channels, 96 x 96 pixels, two classes."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper
from rich.console import Console

from .efficient import Images, smooth_images
from .net import report

SIDE, STEM, CLASSES = 96, 8, 2
BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
"""Channels and stride."""

SAMPLES = 256


def make_model() -> onnx.ModelProto:
    """Images to logits (Howard et al. 2017, arXiv 1704.04861)."""
    net = Images()
    x, channels = net.active("image", 3, STEM, 3, 2), STEM
    for wider, stride in BLOCKS:
        x = net.active(net.active(x, 1, channels, 3, stride), channels, wider)
        channels = wider
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    weight = net.constant("fc.weight", channels, CLASSES, scale=2 * channels**-0.5)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    return net.model(image, net.add("Gemm", pooled, weight, net.constant("fc.bias", CLASSES)), CLASSES)


def run(console: Console) -> None:
    """Print seconds, peak memory and size."""
    report(console, "MobileNet-0.25, 96 px", make_model(), smooth_images(SAMPLES, SIDE))
