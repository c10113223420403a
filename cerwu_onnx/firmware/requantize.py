"""Integer rescaling for int8 layers: multipliers, shifts and biases, as CMSIS-NN and TensorFlow Lite Micro use them.

An int8 layer accumulates ``sum (x_j q_ij) + b_i`` in int32, in units of ``input scale * step_i``. Its outputs are that
sum times ``s_i = input scale * step_i / output scale``, which a kernel applies as an int32 multiplier ``m_i`` and a
shift ``e_i``: ``s_i = m_i * 2^(e_i - 31)`` with ``2^30 <= m_i < 2^31`` (CMSIS-NN: ``arm_nn_requantize``; a positive
shift is to the left). Everything here is computed in exact fractions of the given binary floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cerwu_onnx.errors import UsageError

MIN_SHIFT, MAX_SHIFT = -31, 30
"""The bounds of shifts that kernels can apply."""

_INT32 = 2**31


@dataclass(frozen=True, slots=True)
class Requantization:
    """Multiplier and shift of each output channel, int32."""

    multipliers: tuple[int, ...]
    shifts: tuple[int, ...]


def multiplier_and_shift(scale: Fraction) -> tuple[int, int]:
    """The nearest ``multiplier * 2^(shift - 31)`` to a positive scale, halves rounded up.

    Scales below 2^-32 become (0, 0): every output they give is 0.

    Raises:
        UsageError: the scale is not positive, or is at least 2^30.
    """
    if scale <= 0:
        raise UsageError(f"scale {float(scale)} is out of range: scales are greater than 0")
    shift = scale.numerator.bit_length() - scale.denominator.bit_length()
    shift += scale >= Fraction(2) ** shift  # now 2^(shift - 1) <= scale < 2^shift
    multiplier = _round(scale * Fraction(2) ** (31 - shift))
    if multiplier == _INT32:
        multiplier, shift = _INT32 // 2, shift + 1
    if shift > MAX_SHIFT:
        raise UsageError(
            f"scale {float(scale):g} is out of range: an int32 kernel cannot scale by 2^{MAX_SHIFT} or more"
        )
    return (multiplier, shift) if shift >= MIN_SHIFT else (0, 0)


def requantization(steps: Sequence[float], input_scale: float, output_scale: float) -> Requantization:
    """Multipliers and shifts of a layer.

    Args:
        steps: step of the weights of each output channel.
        input_scale: value of one unit of the int8 input.
        output_scale: value of one unit of the int8 output.

    Raises:
        UsageError: a scale is not a positive finite number, or their ratio is out of range.
    """
    ratio = _fraction(input_scale, "input scale") / _fraction(output_scale, "output scale")
    known = {step: multiplier_and_shift(_fraction(step, "step") * ratio) for step in set(steps)}
    pairs = [known[step] for step in steps]
    return Requantization(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def integer_bias(bias: Sequence[float], steps: Sequence[float], input_scale: float) -> tuple[int, ...]:
    """Convert a float bias, one value per output, to int32 in units of ``input_scale * step``, halves away from 0.

    Raises:
        UsageError: a value is not finite or exceeds int32.
    """
    scale = _fraction(input_scale, "input scale")
    out = []
    for value, step in zip(bias, steps, strict=True):
        if not math.isfinite(value):
            raise UsageError(f"bias {value} is not finite")
        units = Fraction(value) / (scale * _fraction(step, "step"))
        rounded = _round(units) if units >= 0 else -_round(-units)
        if not -_INT32 <= rounded < _INT32:
            raise UsageError(
                f"bias {value:g} exceeds int32 in units of {float(scale) * step:g}: use a larger input scale"
            )
        out.append(rounded)
    return tuple(out)


def _round(value: Fraction) -> int:
    """Nearest integer to a value >= 0, halves up."""
    return math.floor(value + Fraction(1, 2))


def _fraction(value: float, what: str) -> Fraction:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{what} {value} is out of range: give a finite number greater than 0")
    return Fraction(value)
