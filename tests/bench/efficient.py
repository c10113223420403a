"""How long a convolutional network of the size of EfficientNet-Lite0 takes: 4.6 million weights, 224 x 224 pixels."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console

from .net import Net, report

SIDE, STEM, HEAD, CLASSES = 224, 32, 1280, 1000
BLOCKS = (  # expansion, channels, repeats, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
SAMPLES = 64


class Images(Net):
    """Convolutions whose outputs have a mean square of 1 where their inputs have."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors |= {"zero": np.float32(0), "six": np.float32(6)}

    def conv(
        self,
        x: str,
        cols: int,
        rows: int,
        kernel: int = 1,
        stride: int | list[int] = 1,
        scale: float = 1.0,
        group: int | None = None,
    ) -> str:
        """``cols`` input channels of each filter: 1 where it is depthwise. BatchNormalization is folded."""
        name = f"conv{len(self.nodes)}"
        weight = self.constant(f"{name}.weight", rows, cols, kernel, kernel, scale=scale * (cols * kernel**2) ** -0.5)
        bias = self.constant(f"{name}.bias", rows, scale=0.1)
        strides = [stride] * 2 if isinstance(stride, int) else stride
        shape = {"kernel_shape": [kernel] * 2, "strides": strides, "pads": [kernel // 2] * 4}
        return self.add("Conv", x, weight, bias, group=group or (rows if cols == 1 else 1), **shape)

    def active(self, *arguments: object, group: int | None = None) -> str:
        """A convolution and ReLU6, which halves the mean square: weights of He et al. 2015 (arXiv 1502.01852)."""
        return self.add("Clip", self.conv(*arguments, scale=2**0.5, group=group), "zero", "six")  # type: ignore[arg-type]


def make_model(side: int = SIDE) -> onnx.ModelProto:
    """Images to logits (Tan & Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6)."""
    net = Images()
    x, channels = net.active("image", 3, STEM, 3, 2), STEM
    for expansion, wider, repeats, stride, kernel in BLOCKS:
        for repeat in range(repeats):
            inner = channels * expansion
            y = net.active(x, channels, inner) if expansion > 1 else x
            y = net.active(y, 1, inner, kernel, 1 if repeat else stride)
            y = net.conv(y, inner, wider, scale=0.5 if repeat else 1.0)  # a residual adds to what is there
            x, channels = net.add("Add", x, y) if repeat else y, wider
    pooled = net.add("Flatten", net.add("GlobalAveragePool", net.active(x, channels, HEAD)))
    weight = net.constant("fc.weight", HEAD, CLASSES, scale=4 * HEAD**-0.5)  # logits that tell classes apart
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, side, side])
    return net.model(image, net.add("Gemm", pooled, weight, net.constant("fc.bias", CLASSES)), CLASSES)


def smooth_images(samples: int, side: int = SIDE) -> np.ndarray:
    """Noise whose amplitude falls with frequency, as that of photographs does: mean 0, mean square 1."""
    rng = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((samples, 3, side, side))) / (frequency + 1 / side)
    images = np.fft.irfft2(spectrum, (side, side))
    return (images / images.std()).astype(np.float32)


def run(console: Console) -> None:
    """Print seconds, peak memory and size."""
    report(console, "EfficientNet-Lite0's size, 224 px", make_model(), smooth_images(SAMPLES))
