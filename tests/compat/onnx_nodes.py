"""The single-operator models of ``onnx.backend.test``, with inputs turned into initializers.

Of each model up to two graphs are made: one keeps the first input and turns the floats behind it into initializers, one
turns the first input, if it holds floats, into an initializer. A model with a single input becomes one without any.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .case import Case, Sample, Skipped, is_float
from .check import session

SOURCE = "onnx.backend.test"


def cases() -> Iterator[Case]:
    """One case per graph that onnxruntime can run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about the reference values of some operators
        from onnx.backend.test.case.node import collect_testcases

        tests = collect_testcases(None)
    for test in tests:
        if len(test.model.graph.node) != 1:
            continue
        name = test.name.removeprefix("test_")
        for names in _choices(test.model):
            yield Case(f"{name} [{', '.join(names)}]", SOURCE, partial(_sample, test, names))


def _choices(model: onnx.ModelProto) -> list[tuple[str, ...]]:
    """Which inputs become initializers."""
    inputs = [(value.name, is_float(value.type.tensor_type.elem_type)) for value in model.graph.input]
    if not inputs:
        return []
    first = tuple(name for name, floats in inputs[:1] if floats)
    rest = tuple(name for name, floats in inputs[1:] if floats)
    return [names for names in (rest, first) if names]


def _sample(test: Any, names: tuple[str, ...]) -> Sample:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    inputs = [value.name for value in model.graph.input]
    values = [dict(zip(inputs, (_array(value) for value in data[0]), strict=False)) for data in test.data_sets]
    tensors = [numpy_helper.from_array(values[0][name], name) for name in names]
    if any(tensor.data_type != _input_type(model, tensor.name) for tensor in tensors):
        raise Skipped("its data is of another type than its inputs")
    feeds = [{name: array for name, array in value.items() if name not in names} for value in values]
    kept = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(tensors)
    model.ir_version = max(model.ir_version, 4)  # before, initializers had to be inputs as well
    try:
        session(model).run(None, feeds[0])
    except Exception as error:  # onnxruntime has no kernel, or wants an input
        raise Skipped(f"onnxruntime cannot run it: {str(error).splitlines()[0]}") from error
    return Sample(model, feeds)


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if isinstance(value, list | dict) or value is None else np.asarray(value)


def _input_type(model: onnx.ModelProto, name: str) -> int:
    return next(int(value.type.tensor_type.elem_type) for value in model.graph.input if value.name == name)
