"""Check and convert the arrays that feed a model's inputs: names, shapes, types and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.model.tensors import InputInfo

Array = npt.NDArray[Any]


def describe(info: InputInfo) -> str:
    """``'input' float32 (N, 3, 32, 32)``: how messages show an input."""
    if info.shape is None:
        return f"{info.name!r} {info.dtype} of any shape"
    return f"{info.name!r} {info.dtype} ({', '.join('?' if d is None else str(d) for d in info.shape)})"


def check_keys(found: Iterable[str], inputs: Sequence[InputInfo], where: str) -> None:
    """Refuse missing and unknown keys.

    Raises:
        CalibrationError: the keys are not exactly the model's inputs.
    """
    keys = list(found)
    needed = {info.name for info in inputs}
    missing = [info.name for info in inputs if info.name not in keys]
    extra = [key for key in keys if key not in needed]
    if missing or extra:
        wrong = f"misses {_names(missing)}" if missing else f"has the unknown key {_names(extra)}"
        raise CalibrationError(
            f"{where} {wrong}: it holds {_names(keys)}, the model's inputs are "
            f"{', '.join(describe(info) for info in inputs)}"
        )


def is_stacked(info: InputInfo, shape: tuple[int, ...], where: str) -> bool:
    """Check the shape of samples stacked along the first axis.

    Returns:
        False if the first axis is the input's own (its batch axis); True if it comes in addition, so that each entry is
        a whole input.

    Raises:
        CalibrationError: the shape is neither.
    """
    if shape and (info.shape is None or (fits(info.shape[1:], shape[1:]) and len(info.shape) == len(shape))):
        return False
    if shape and info.shape is not None and fits(info.shape, shape[1:]):
        return True
    raise CalibrationError(
        f"{where}: {info.name!r} has shape {shape}, the model needs {describe(info)} with samples along the first axis "
        "(or one axis more in front, along which each entry is a whole input)"
    )


def check_feed_shape(info: InputInfo, shape: tuple[int, ...], where: str) -> None:
    """Check the shape of an array that feeds an input as it is.

    Raises:
        CalibrationError: it is not the input's.
    """
    if info.shape is not None and not fits(info.shape, shape):
        raise CalibrationError(f"{where}: {info.name!r} has shape {shape}, the model needs {describe(info)}")


def check_dtype(info: InputInfo, dtype: np.dtype[Any], where: str) -> None:
    """Refuse types that :func:`convert` never casts.

    Raises:
        CalibrationError: the types are of different kinds, for example integers where the model needs floats.
    """
    have, want = _family(dtype), _family(info.dtype)
    if have != want:
        hint = ": convert it and scale it as in training" if (have, want) == ("integer", "float") else ""
        raise CalibrationError(f"{where}: {info.name!r} is {dtype}, the model needs {info.dtype}{hint}")


def convert(info: InputInfo, array: Array, where: str, first_sample: int = 0) -> Array:
    """Cast to the input's type. Floats are rounded; integers must fit; all values must be finite.

    Args:
        info: the input.
        array: samples along the first axis (or a single whole input).
        where: the file or feed, for messages.
        first_sample: number of the first sample, for messages.

    Raises:
        CalibrationError: a value is NaN, infinite or does not fit the type; names the sample.
    """
    check_dtype(info, array.dtype, where)
    with np.errstate(over="ignore"):
        cast = array.astype(info.dtype, copy=False)
    if _family(info.dtype) == "float" and not np.isfinite(cast).all():
        bad = _first(~np.isfinite(cast), first_sample)
        kind = "NaN" if np.isnan(cast).any() else "an infinite value"
        raise CalibrationError(f"{where}: {info.name!r} holds {kind} in sample {bad}")
    if _family(info.dtype) == "integer" and cast is not array and not (cast == array).all():
        bad = _first(cast != array, first_sample)
        raise CalibrationError(
            f"{where}: {info.name!r} is {array.dtype} and holds a value in sample {bad} that does not fit {info.dtype}"
        )
    return cast


def _first(wrong: Array, first_sample: int) -> int:
    position = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return first_sample + (int(position[0]) if position else 0)


def _family(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f" or dtype.name == "bfloat16":
        return "float"
    return {"i": "integer", "u": "integer", "b": "bool", "U": "text", "S": "text", "O": "text"}.get(
        dtype.kind, str(dtype)
    )


def fits(wanted: tuple[int | str | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape feeds an input that wants one with these axes."""
    return len(wanted) == len(shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(wanted, shape, strict=True)
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
