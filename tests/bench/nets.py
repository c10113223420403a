"""Convolutional networks of random weights for large inputs: sound, faces, photographs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .efficient import Images, smooth_images
from .mobilenet import BLOCKS, STEM

BANDS, FRAMES = 64, 43844
"""Of the spectrogram."""

HEIGHT, WIDTH = 240, 320
"""Of the image in which faces are looked for."""

SOUND = ((16, 2), (24, 4), (32, 4), (48, 4), (64, 4), (96, 4), (96, 4))
"""Channels, and the stride along time; along bands it is 2 while there are more than two."""

FACES = ((16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
"""Channels and stride."""


def sound_model() -> onnx.ModelProto:
    """Spectrograms to logits of ten classes, 57,000 weights: a stem, and depthwise with pointwise convolutions."""
    net = Images()
    x, channels, bands = net.active("sound", 1, SOUND[0][0], 3, [2, SOUND[0][1]], group=1), SOUND[0][0], BANDS // 2
    for wider, stride in SOUND[1:]:
        x = net.active(net.active(x, 1, channels, 3, [1 + (bands > 2), stride]), channels, wider)
        x = net.active(net.active(x, 1, wider, 3), wider, wider)
        channels, bands = wider, max(2, bands // 2)
    return _classes(net, x, channels, 10, _input("sound", 1, BANDS, FRAMES))


def face_model() -> onnx.ModelProto:
    """Images to scores and boxes at three scales, as one output each: 0.3 million weights."""
    net = Images()
    x, channels, heads = net.active("image", 3, 16, 3, 2), 16, []
    for index, (wider, stride) in enumerate(FACES):
        x = net.active(net.active(x, 1, channels, 3, stride), channels, wider)
        channels = wider
        if index in (6, 8, 10):
            heads.append((x, channels))
    found = {}
    for name, width in (("scores", 2), ("boxes", 4)):
        flat = []
        for y, inner in heads:
            y = net.conv(net.active(y, 1, inner, 3), inner, 3 * width, scale=2.0)
            y = net.add("Transpose", y, perm=[0, 2, 3, 1])
            flat.append(net.add("Reshape", y, net.integers(f"shape{width}", 0, -1, width)))
        found[name] = net.add("Concat", *flat, axis=1)
    found["scores"] = net.add("Softmax", found["scores"], axis=-1)
    model = net.model(_input("image", 3, HEIGHT, WIDTH), found["scores"], 2)
    del model.graph.output[:]
    for name, width in (("scores", 2), ("boxes", 4)):
        model.graph.output.append(helper.make_tensor_value_info(found[name], TensorProto.FLOAT, ["N", None, width]))
    return model


def photo_model(side: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """Photographs to logits: the convolutions of MobileNet-0.25, and an inner layer before many classes."""
    net = Images()
    x, channels = net.active("image", 3, STEM, 3, 2), STEM
    for wider, stride in BLOCKS:
        x = net.active(net.active(x, 1, channels, 3, stride), channels, wider)
        channels = wider
    return _classes(net, x, channels, classes, _input("image", 3, side, side))


def spectrograms(samples: int) -> np.ndarray:
    """Noise that is smooth along time and bands, of mean square 1: ``(samples, 1, BANDS, FRAMES)`` float32."""
    rng = np.random.default_rng(2)
    coarse = rng.standard_normal((samples, 1, BANDS // 4, FRAMES // 16 + 1)).repeat(4, 2).repeat(16, 3)[..., :FRAMES]
    loud = rng.uniform(0.5, 1.5, (samples, 1, BANDS, 1))
    found = loud * coarse + 0.5 * rng.standard_normal((samples, 1, BANDS, FRAMES))
    return (found / found.std()).astype(np.float32)


def pictures(samples: int) -> np.ndarray:
    """Smooth noise, ``(samples, 3, HEIGHT, WIDTH)`` float32."""
    return np.ascontiguousarray(smooth_images(samples, WIDTH)[:, :, :HEIGHT])


def _input(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])


def _classes(net: Images, x: str, channels: int, classes: int, fed: onnx.ValueInfoProto) -> onnx.ModelProto:
    """The model that ends in a mean over positions and logits that tell classes apart."""
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    weight = net.constant("fc.weight", channels, classes, scale=4 * channels**-0.5)
    return net.model(fed, net.add("Gemm", pooled, weight, net.constant("fc.bias", classes)), classes)
