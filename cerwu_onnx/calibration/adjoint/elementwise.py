"""Rules of element-wise operators: each number of the output comes from one number of each input."""

from __future__ import annotations

import math

from cerwu_onnx.calibration.adjoint.calls import Call, Rule, elementwise, first_only
from cerwu_onnx.calibration.adjoint.values import Blocked, Value


def add(call: Call, index: int) -> Value:
    """Add, Sum."""
    return call.fit(call.g, index)


def sub(call: Call, index: int) -> Value:
    """Sub: a - b."""
    return call.fit(-call.g if index else call.g, index)


def mean(call: Call, index: int) -> Value:
    """Mean: (a + b + ...) / n."""
    return call.fit(call.g / len(call.inputs), index)


def mul(call: Call, index: int) -> Value:
    """Mul: a * b, the gradient of each times the other."""
    return call.fit(call.g * call.input(1 - index), index)


def div(call: Call, index: int) -> Value:
    """Div: a / b."""
    quotient = call.g / call.input(1)
    return call.fit(-(quotient * call.y) if index else quotient, index)


def extreme(call: Call, index: int) -> Value:
    """Max, Min: the gradient goes to every input that equals the output."""
    return call.fit(call.g * call.y.equals(call.input(index)), index)


def power(call: Call) -> Value:
    """Pow: x^p, whose derivative is p x^(p - 1)."""
    p = call.input(1).cast(call.x.dtype)
    return call.fit(call.g * (p * call.tape.emit("Pow", call.x, p - 1)), 0)


def where(call: Call, index: int) -> Value:
    """Where: the gradient goes to the input that was chosen."""
    chosen = (call.g, 0) if index == 1 else (0, call.g)
    return call.fit(call.tape.emit("Where", call.input(0), *chosen), index)


# Functions of one number


def leaky_relu(call: Call) -> Value:
    """LeakyRelu: slope alpha below 0."""
    return call.g.where(call.g * call.number("alpha", 0.01), call.x.above(0))


def p_relu(call: Call) -> Value:
    """PRelu: the slope below 0 is the second input."""
    return call.g.where(call.g * call.input(1), call.x.above(0))


def elu(call: Call) -> Value:
    """Elu: alpha (e^x - 1) below 0, whose derivative is y + alpha."""
    return call.g.where(call.g * (call.y + call.number("alpha", 1.0)), call.x.above(0))


def celu(call: Call) -> Value:
    """Celu: alpha (e^(x / alpha) - 1) below 0, whose derivative is y / alpha + 1."""
    return call.g.where(call.g * (call.y / call.number("alpha", 1.0) + 1), call.x.above(0))


def selu(call: Call) -> Value:
    """Selu: gamma x, and gamma alpha (e^x - 1) below 0, whose derivative is y + gamma alpha."""
    alpha, gamma = call.number("alpha", 1.6732632423543772), call.number("gamma", 1.0507009873554805)
    return call.g * (call.y + gamma * alpha).where(call.g.filled(gamma), call.x.above(0).apply("Not"))


def soft_sign(g: Value, x: Value, y: Value) -> Value:
    """Softsign: x / (1 + |x|)."""
    below = 1 + x.apply("Abs")
    return g / (below * below)


def mish(g: Value, x: Value, y: Value) -> Value:
    """Mish: the product x t(x) with t = tanh of softplus."""
    t = x.apply("Softplus").apply("Tanh")
    return g * (t + x * (x.apply("Sigmoid") * (1 - t * t)))


def hard_sigmoid(call: Call) -> Value:
    """HardSigmoid: a line between 0 and 1; y (1 - y) is positive on its slope, and 0 elsewhere."""
    return call.g * (call.number("alpha", 0.2) * (call.y * (1 - call.y)).step())


def hard_swish(g: Value, x: Value, y: Value) -> Value:
    """HardSwish: the product x h(x) with h(x) = x / 6 + 1/2, limited to 0 and 1."""
    h = g.tape.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return g * (h + x * (h * (1 - h)).step() / 6)


def gelu(call: Call) -> Value:
    """Gelu: the product x P(x), with P the normal distribution or its approximation by tanh."""
    x = call.x
    if call.text("approximate", "none") == "tanh":
        scale = math.sqrt(2 / math.pi)
        tanh = (scale * (x + 0.044715 * x * x * x)).apply("Tanh")
        return call.g * (0.5 * (1 + tanh) + 0.5 * scale * x * (1 - tanh * tanh) * (1 + 3 * 0.044715 * x * x))
    density = (-0.5 * x * x).apply("Exp") / math.sqrt(2 * math.pi)
    return call.g * (0.5 * (1 + (x / math.sqrt(2)).apply("Erf")) + x * density)


def cast(call: Call) -> Value:
    """Cast: the gradient is cast back to the type of the input."""
    if not call.x.dtype:
        raise Blocked("its element type is unknown")
    return call.g.cast(call.x.dtype)


def clip(call: Call) -> Value:
    """Clip: the gradient goes to the elements that were not clipped."""
    return call.g * call.y.equals(call.x)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sum"), add),
    **dict.fromkeys(("Max", "Min"), extreme),
    "Sub": sub,
    "Mean": mean,
    "Mul": mul,
    "Div": div,
    "Pow": first_only(power),
    "Where": where,
    "Relu": elementwise(lambda g, x, y: g * y.step()),
    "Sigmoid": elementwise(lambda g, x, y: g * (y * (1 - y))),
    "Tanh": elementwise(lambda g, x, y: g * (1 - y * y)),
    "Erf": elementwise(lambda g, x, y: g * ((-(x * x)).apply("Exp") * (2 / math.sqrt(math.pi)))),
    "Softplus": elementwise(lambda g, x, y: g * x.apply("Sigmoid")),
    "Exp": elementwise(lambda g, x, y: g * y),
    "Log": elementwise(lambda g, x, y: g / x),
    "Sqrt": elementwise(lambda g, x, y: g / (2 * y)),
    "Sin": elementwise(lambda g, x, y: g * x.apply("Cos")),
    "Cos": elementwise(lambda g, x, y: g * -x.apply("Sin")),
    "Softsign": elementwise(soft_sign),
    "Mish": elementwise(mish),
    "Reciprocal": elementwise(lambda g, x, y: g * -(y * y)),
    "Neg": elementwise(lambda g, x, y: -g),
    "Abs": elementwise(lambda g, x, y: g * x.apply("Sign")),
    "HardSwish": elementwise(hard_swish),
    "LeakyRelu": first_only(leaky_relu),
    "PRelu": first_only(p_relu),
    "Elu": first_only(elu),
    "Celu": first_only(celu),
    "Selu": first_only(selu),
    "HardSigmoid": first_only(hard_sigmoid),
    "Gelu": first_only(gelu),
    "Clip": first_only(clip),
    **dict.fromkeys(("Cast", "CastLike"), first_only(cast)),
}
