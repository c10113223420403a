"""The command ``cerwu-onnx doctor``: check an installation."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cerwu_onnx.errors import CheckFailed

from . import console
from .options import Verbose
from .text import printable

if TYPE_CHECKING:
    import numpy.typing as npt

EXAMPLE = "cerwu-onnx doctor"

_REQUIRED = ("numpy", "scipy", "threadpoolctl", "onnx", "onnxruntime")
_FIX = "To fix: install a C compiler, then pip install --force-reinstall --no-deps cerwu-onnx"


def doctor(verbose: Verbose = False) -> None:
    """Check this installation.

    Shows versions and decoders, and lets each decoder rebuild a test tensor. Exit code 1 if something fails.
    """
    lines = [("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")]
    lines.append(("cerwu-onnx", _installed("cerwu-onnx")))
    broken = []
    for name in _REQUIRED:
        version, works = _state(name)
        lines.append((name, version))
        broken += [] if works else [name]
    if broken:
        _show(lines)
        names = " ".join(broken)
        raise CheckFailed(f"cannot be used: {names} (try: pip install --force-reinstall {names})")
    lines.append(("C decoder", _native()))
    failed = []
    for decoder, identical in self_test():
        lines.append(("self-test", f"{decoder}: {'identical' if identical else 'DIFFERS'}"))
        failed += [] if identical else [decoder]
    _show(lines)
    if failed:
        raise CheckFailed(f"{' and '.join(failed)}: not what was encoded; please report this with the lines above")


def _show(lines: list[tuple[str, str]]) -> None:
    """Print the findings."""
    for name, value in lines:
        console.write(f"{name:<14}{printable(value)}\n")


def _installed(distribution: str) -> str:
    """The version of an installed distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "source tree, not installed"


def _state(module: str) -> tuple[str, bool]:
    """Version of a module, or its fault; and whether it can be imported."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return ("missing" if error.name == module else f"broken: {error}"), False
    except Exception as error:  # a damaged or foreign binary raises nearly anything
        return f"broken: {error}", False
    return _installed(module), True


def _native() -> str:
    """Where the C decoder is, or why there is none."""
    from cerwu_onnx import native

    if native.available():
        return f"version {native.version()}, {native.library_path()}"
    return f"not used: {native.unavailable_reason()}. Python codes instead, about 50 times slower. {_FIX}"


def self_test() -> Iterator[tuple[str, bool]]:
    """Code a tensor and let each decoder rebuild it; yield the decoder's name, and whether every bit is right."""
    import numpy as np

    from cerwu_onnx import native
    from cerwu_onnx.container import reader, writer
    from cerwu_onnx.types import QuantizedTensor

    symbols = np.random.default_rng(0).laplace(scale=3, size=(64, 65)).round().astype(np.int32)
    quantized = QuantizedTensor(symbols, float(np.float32(0.01)), distortion=0.0, energy=0.0, damping=0.0)
    coders = [writer.encode_tensor(writer.CodedTensor(coder, quantized, coder)) for coder in ("ans", "adaptive")]
    content = writer.assemble(coders)
    container = reader.parse(content)
    decoders: dict[str, Callable[[], npt.NDArray[Any]]] = {
        f"plain Python, {record.kind.name.lower()}": partial(container.symbols, record) for record in container.tensors
    }
    if native.available():
        for index, record in enumerate(container.tensors):
            decoders[f"C, {record.kind.name.lower()}"] = partial(native.decode_symbols, content, index)
    for name, decode in decoders.items():
        try:
            result = decode()
        except Exception:  # any error means that the decoder fails the test
            yield name, False
        else:
            yield name, np.array_equal(result.ravel(), symbols.ravel())
