"""Let emx-onnx-cgen write the graph in C, and take its program apart.

What the generator writes is no interface. So only versions that were tried are accepted, everything that is replaced
must look exactly as expected, and the weights in its text must be, bit for bit, those of the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.errors import GeneratorError, ModelError, UsageError, first_line
from cerwu_onnx.inference.prepared import CODED, Prepared

PACKAGE = "emx-onnx-cgen"
TESTED = ("1.4.0",)
"""Versions of the generator whose text is known."""

SIZES = {"float": 4, "double": 8, "_Bool": 1, "bool": 1}
SIZES |= {f"{sign}int{bits}_t": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""Bytes of the types that programs have."""

_TYPE = "|".join(SIZES)
_DIMS = r"(?:\[\d+\])+"
_EXTERN = re.compile(rf"^extern const (?:{_TYPE}) (\w+){_DIMS};\n", re.MULTILINE)
_WEIGHT = re.compile(
    rf"^/\*\n \* Weight \d+:\n(?: \*[^\n]*\n)* \*/\nconst EMX_UNUSED ({_TYPE}) (\w+)({_DIMS}) = (\{{[^;]*\}});\n\n?",
    re.MULTILINE,
)
_NODE = re.compile(
    r"^/\*\n \* Node \d+:\n \* OpType: (\w+)\n.*?\*/\n(EMX_NODE_FN void (\w+)\(([^)]*)\) \{\n.*?^\}\n)\n?",
    re.MULTILINE | re.DOTALL,
)
_LOAD = "_Bool model_load(const char *path) {\n    (void)path;\n    return 1;\n}\n\n"
_ENTRY = re.compile(r"^void model\(([^)]*)\) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(rf"(const )?({_TYPE}) (\w+)({_DIMS})")
_TEMPORARY = re.compile(rf"    ({_TYPE}) (\w+)({_DIMS});")
_CALL = re.compile(r"    (\w+)\(([\w, ]+)\);")
_LEFT = re.compile(r"\bEMX_NODE_FN void|\bWeight \d+:|\bmodel_load\b|\bextern\b|\b(?:m|re|c)alloc\b|\bfopen\b")


@dataclass(frozen=True, slots=True)
class Array:
    """A parameter or a variable: C type and dimensions."""

    name: str
    type: str
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many."""
        return int(np.prod(self.dims, dtype=np.int64))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * SIZES[self.type]


@dataclass(frozen=True, slots=True)
class Call:
    """A node's function, and the arguments with which it is called.

    Attributes:
        op: operator.
        function: name in C.
        text: its definition.
        arguments: names of arrays.
        parameters: the arrays as the function takes them.
        written: for each argument, whether the function writes it.
        parts: how often it is called, each time for other outputs: see ``split.py``.
        tiled: the array of weights of which each call takes a part of its own; "" if it is called once.
    """

    op: str
    function: str
    text: str
    arguments: tuple[str, ...]
    parameters: tuple[Array, ...]
    written: tuple[bool, ...]
    parts: int = 1
    tiled: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """What the generator wrote, in parts.

    Attributes:
        whole: its text as it was.
        preamble: what stands before the weights: includes and macros.
        helpers: what stands between the weights and the first node.
        constants: definitions, by name, of the arrays that stay in the program, and their bytes.
        coded: by name of an array, the tensor that is decoded in its place.
        inputs, outputs: parameters of the whole model.
        temporaries: values between nodes, by name.
        calls: the nodes, in the order in which they run.
        version: of the generator.
    """

    whole: str
    preamble: str
    helpers: str
    constants: Mapping[str, tuple[str, int]]
    coded: Mapping[str, int]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    temporaries: Mapping[str, Array]
    calls: tuple[Call, ...]
    version: str


def generate(prepared: Prepared) -> Program:
    """Generate C for a model.

    Raises:
        UsageError: the generator is not installed.
        GeneratorError: it is of a version that was not tried, or its text has not the form that is known.
        ModelError: it refuses the model.
    """
    version = _version()
    return _take_apart(_write(prepared.model), prepared, version)


def _version() -> str:
    install = f"pip install '{PACKAGE}=={TESTED[-1]}'"
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UsageError(f"--inference needs {PACKAGE}, which is not installed: {install}") from None
    if version not in TESTED:
        raise GeneratorError(f"{PACKAGE} {version} was never tried with cerwu-onnx: {install}")
    return version


def _write(model: onnx.ModelProto) -> str:
    try:
        return str(_compiler().compile(model))
    # emx-onnx-cgen has no error of its own: it raises these of what it does not know.
    except (RuntimeError, ValueError, KeyError, TypeError, NotImplementedError, IndexError, AttributeError) as error:
        raise ModelError(f"{PACKAGE} cannot write this model in C: {first_line(error)[:300]}") from error


@cache
def _compiler() -> Any:
    """The generator, which takes seconds to read its templates."""
    from emx_onnx_cgen.compiler import Compiler, CompilerOptions

    return Compiler(
        CompilerOptions(
            model_name="model", restrict_arrays=False, large_temp_threshold_bytes=0, large_weight_threshold=0
        )
    )


def _take_apart(whole: str, prepared: Prepared, version: str) -> Program:
    def expect(holds: bool, what: str) -> None:
        if not holds:
            raise GeneratorError(f"{PACKAGE} {version} wrote {what}, which cerwu-onnx does not know how to change")

    text = _without_header(whole)
    expect(text.count(_LOAD) == 1, "another model_load()")
    text = text.replace(_LOAD, "")
    entries = list(_ENTRY.finditer(text))
    expect(len(entries) == 1 and not text[entries[0].end() :].strip(), "no model() at the end")
    signature, body = entries[0].groups()
    text = text[: entries[0].start()]

    declared = _EXTERN.findall(text)
    text = _EXTERN.sub("", text)
    weights = {match[2]: match for match in _WEIGHT.finditer(text)}
    expect(list(weights) == declared, "other weights than it declared")
    functions = {match[3]: match for match in _NODE.finditer(text)}
    places = sorted([match.span() for match in (*weights.values(), *functions.values())])
    rest = _between(text, places)
    preamble, helpers = rest[0], "".join(rest[1:])
    expect(_LEFT.search(preamble + helpers) is None, "weights or nodes in another form")

    parameters = _parameters(signature)
    expect(parameters is not None, f"a model of variable shape, model({signature})")
    inputs = tuple(array for constant, array in parameters or () if constant)
    outputs = tuple(array for constant, array in parameters or () if not constant)
    temporaries, calls = {}, []
    known = {array.name for array in (*inputs, *outputs)} | set(weights)
    for line in body.splitlines():
        if made := _TEMPORARY.fullmatch(line):
            temporaries[made[2]] = Array(made[2], made[1], _dims(made[3]))
            known.add(made[2])
            continue
        called = _CALL.fullmatch(line)
        expect(called is not None and called[1] in functions, f"{line.strip()!r} in model()")
        assert called is not None  # noqa: S101 - for mypy
        function = functions[called[1]]
        arguments, taken = tuple(called[2].split(", ")), _parameters(function[4])
        expect(taken is not None and len(taken) == len(arguments), f"{called[1]}({function[4]})")
        expect(known.issuperset(arguments), f"{line.strip()!r} in model()")
        taken = taken or ()
        arrays, written = tuple(array for _, array in taken), tuple(not constant for constant, _ in taken)
        calls.append(Call(function[1], called[1], function[2], arguments, arrays, written))
    expect(sorted(call.function for call in calls) == sorted(functions), "functions that model() does not call once")
    coded, constants = {}, {}
    for name, match in weights.items():
        place = re.fullmatch(rf"weight\d+_{CODED}(\d+)", name)
        if place is not None and _same(match, prepared.coded[int(place[1])][1]):
            coded[name] = int(place[1])
        else:
            array = Array(name, match[1], _dims(match[3]))
            constants[name] = f"static const {match[1]} {name}{match[3]} = {match[4]};\n", array.size
    return Program(whole, preamble, helpers, constants, coded, inputs, outputs, temporaries, tuple(calls), version)


def _without_header(text: str) -> str:
    """The text without the comment at its beginning."""
    return re.sub(r"\A/\*.*?\*/\s*", "", text, flags=re.DOTALL)


def _between(text: str, places: list[tuple[int, int]]) -> list[str]:
    ends = [0, *(end for _, end in places)]
    starts = [*(start for start, _ in places), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _parameters(text: str) -> tuple[tuple[bool, Array], ...] | None:
    """Whether each parameter is constant, and the parameter; None if one has another form."""
    matches = [_PARAMETER.fullmatch(part) for part in text.split(", ")]
    found = tuple((bool(m[1]), Array(m[3], m[2], _dims(m[4]))) for m in matches if m is not None)
    return found if len(found) == len(matches) else None


def _dims(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _same(weight: re.Match[str], values: npt.NDArray[np.float32]) -> bool:
    """Whether a definition holds these values, bit for bit, row-major."""
    numbers = re.findall(r"[^\s{},]+", weight[4])
    if weight[1] != "float" or len(numbers) != values.size:
        return False
    try:
        written = np.array([float.fromhex(number.rstrip("f")) for number in numbers], np.float32)
    except ValueError:
        return False
    return written.tobytes() == np.ascontiguousarray(values).tobytes()
