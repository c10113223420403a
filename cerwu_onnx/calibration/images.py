"""Read image files as calibration samples. Pillow, an optional dependency, decodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cerwu_onnx.calibration.feeds import Array, describe
from cerwu_onnx.calibration.parts import FilePart, Part
from cerwu_onnx.errors import CalibrationError, UsageError, first_line
from cerwu_onnx.jobs.inputs import reading
from cerwu_onnx.model.tensors import InputInfo

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WIDE = ("I", "F")
"""First letter of Pillow's modes of more than 8 bits per channel, which it would clip to 255."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an image becomes a sample: scaled to 0..1, minus ``mean``, divided by ``std``.

    An input of type uint8 gets the bytes 0..255 unscaled.

    Attributes:
        layout: the input's axes; None finds them from its shape.
        mean: one number or one per channel.
        std: one number or one per channel.
    """

    layout: Literal["NCHW", "NHWC"] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def image_parts(files: Sequence[Path], info: InputInfo, options: ImageOptions) -> list[Part]:
    """One part per image, resized to the input's height and width where those are fixed.

    Raises:
        CalibrationError: Pillow is missing, or the input is not an image of 1, 3 or 4 channels.
        UsageError: mean or std do not fit.
    """
    try:
        from PIL import Image
    except ImportError:
        raise CalibrationError(
            "reading images needs Pillow: pip install cerwu-onnx[images] (or save the samples in a .npz file)"
        ) from None
    layout = options.layout or _find_layout(info)
    if info.shape is None or len(info.shape) != 4:
        raise CalibrationError(f"images feed an input of 4 axes, the model needs {describe(info)}")
    channels, height, width = info.shape[1:] if layout == "NCHW" else (info.shape[3], *info.shape[1:3])
    depth = channels if isinstance(channels, int) else 3
    if depth not in _MODES:
        raise CalibrationError(f"images have 1, 3 or 4 channels; as {layout} the model needs {describe(info)}")
    raw = info.dtype == np.uint8
    if not raw and info.dtype.kind != "f":
        raise CalibrationError(f"images feed float or uint8 inputs, the model needs {describe(info)}")
    if raw and (options.mean is not None or options.std is not None):
        raise UsageError("the model reads images as bytes: mean and std do not apply")
    mean, std = (
        _per_channel(options.mean, depth, "mean", 0.0),
        _per_channel(options.std, depth, "std", 1.0),
    )
    if not std.all():
        raise UsageError("std must not be 0")

    def read(path: Path) -> Mapping[str, Array]:
        with Image.open(path) as opened:
            if opened.mode.startswith(_WIDE):
                raise ValueError(f"pixels of more than 8 bits ({opened.mode}): convert them, or save samples as .npz")
            coloured = opened.convert("RGBA") if "transparency" in opened.info else opened  # or Pillow warns of it
            image = coloured.convert(_MODES[depth])
        size = (
            width if isinstance(width, int) else image.width,
            height if isinstance(height, int) else image.height,
        )
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(size[1], size[0], depth)
        sample = pixels if raw else ((pixels / 255.0 - mean) / std).astype(info.dtype)
        return {info.name: sample[None] if layout == "NHWC" else sample.transpose(2, 0, 1)[None]}

    return [_part(path, info, read) for path in files]


def _part(path: Path, info: InputInfo, read: Any) -> FilePart:
    reading(path)
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in info.shape or ())

    def load() -> Mapping[str, Array]:
        try:
            arrays: Mapping[str, Array] = read(path)
        except Exception as error:  # damaged images raise nearly anything
            raise CalibrationError(f"{path}: not a readable image: {first_line(error)}") from error
        return arrays

    return FilePart(str(path), {info.name: ((1, *shape[1:]), info.dtype)}, load)


def _find_layout(info: InputInfo) -> Literal["NCHW", "NHWC"]:
    """The only layout in which the input has 1, 3 or 4 channels.

    Raises:
        CalibrationError: both or none fit.
    """
    shape = info.shape or ()
    first = len(shape) == 4 and shape[1] in _MODES
    last = len(shape) == 4 and shape[3] in _MODES
    if first == last:
        raise CalibrationError(
            f"cannot tell whether {describe(info)} has its channels first or last: say layout NCHW or NHWC"
        )
    return "NCHW" if first else "NHWC"


def _per_channel(values: Sequence[float] | None, depth: int, name: str, default: float) -> Array:
    array = np.asarray([default] if values is None else values, dtype=np.float64).reshape(-1)
    if array.size not in (1, depth):
        raise UsageError(f"{name} needs 1 or {depth} numbers, got {array.size}")
    return array
