"""What the bench is made of: graphs with inputs to run them on."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from cerwu_onnx.model.tensors import model_inputs

LARGEST_ERROR = 1e-3
"""Of an output: root of squared error over energy, summed over all feeds, as ``verify --against`` prints."""

Feed = dict[str, np.ndarray]


class Skipped(Exception):
    """A graph that cannot be made here: a package is missing, or its exporter or onnxruntime gives up on it."""


@dataclass(frozen=True)
class Sample:
    """A model and inputs for it.

    Attributes:
        model: the model, or the path of its file.
        feeds: what it is run and calibrated on.
        runs: whether onnxruntime can run it.
        largest_error: of its outputs at a high rate.
    """

    model: onnx.ModelProto | Path
    feeds: Sequence[Feed] = ()
    runs: bool = True
    largest_error: float = LARGEST_ERROR


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the graph; unique.
        source: where it comes from.
        make: builds it. Raises :class:`Skipped` if that is impossible.
    """

    name: str
    source: str
    make: Callable[[], Sample]


def case(source: str, name: str, make: Callable[[], onnx.ModelProto], count: int = 8, **sizes: int) -> Case:
    """A model with :func:`random_feeds`; ``sizes`` are those of its symbolic axes."""

    def sample() -> Sample:
        model = make()
        return Sample(model, random_feeds(model, count, **sizes))

    return Case(name, source, sample)


def random_feeds(model: onnx.ModelProto, count: int, *, seed: int = 0, most: int = 8, **sizes: int) -> list[Feed]:
    """Feeds for a model: standard normal floats, integers below ``most``, fair coins, short words.

    Args:
        model: whose inputs are fed.
        count: number of feeds.
        seed: of the random numbers.
        most: bound of the integers.
        sizes: of symbolic axes by name; 3 for those that are not given.
    """
    rng = np.random.default_rng(seed)
    words = np.array(["one", "two", "three", "four", ""], object)

    def values(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        if dtype.kind == "O":
            return rng.choice(words, shape)
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        if dtype.kind in "iu":
            return rng.integers(0, most, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)

    infos = model_inputs(model)
    shapes = {i.name: tuple(d if isinstance(d, int) else sizes.get(str(d), 3) for d in i.shape or ()) for i in infos}
    return [{info.name: np.asarray(values(info.dtype, shapes[info.name])) for info in infos} for _ in range(count)]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters and converters from talking, those in C++ too: they warn about what the bench asks for."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    sys.stdout.flush()
    standard = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(standard, 1)
        os.close(standard)
        logging.disable(level)


def completed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types and shapes of its outputs as ONNX infers them."""
    names = [output.name for output in model.graph.output]
    del model.graph.output[:]
    known = {info.name: info for info in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in names)
    return model


def is_float(elem_type: int) -> bool:
    """Whether an element type is a floating-point number of 16 to 64 bits."""
    return elem_type in (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
    )


def array_type(array: np.ndarray) -> int:
    """The element type of an array in ONNX; that of strings for objects."""
    return onnx.TensorProto.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)
