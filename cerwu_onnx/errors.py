"""The errors that the package raises on purpose; each class has the exit code of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_NO_MEMORY = re.compile(
    r"bad_alloc|bad allocation|Arena alloc failed|Failed to allocate memory|Failed to serialize proto"
)
"""What onnxruntime and protobuf say instead of raising MemoryError; the last one says no more than that it failed."""

_PLACE = re.compile(r"\[\w+Error\](?: : \d+ :(?: [A-Z_]+ :)?)? |\S*onnxruntime[/\\]core[/\\]\S*:\d+ .*?\) (?=\S)")
"""Where in its own sources onnxruntime gave up, which helps nobody who reads a message."""


class CerwuError(Exception):
    """Base of every error raised on purpose. The message says what, where and what to do, in one line."""

    exit_code = 1


class CheckFailed(CerwuError):
    """A verification or budget did not hold (exit 1)."""

    exit_code = 1


class UsageError(CerwuError):
    """The call is at fault: a missing file, an existing output, an impossible option (exit 2)."""

    exit_code = 2


class MissingPackageError(UsageError, ImportError):
    """A feature needs a package that is not installed: the reader alone needs numpy only (exit 2)."""


class GeneratorError(UsageError):
    """The C generator of ``--inference`` is of a version that was not tried, or writes what is not known (exit 2)."""


class ModelError(CerwuError):
    """The ONNX model is invalid or unsupported (exit 3)."""

    exit_code = 3


class CalibrationError(CerwuError):
    """The calibration data is missing, malformed or does not fit the model (exit 3)."""

    exit_code = 3


class CorruptFileError(CerwuError):
    """A .cwb file is damaged, truncated or too new (exit 4)."""

    exit_code = 4


class BaseError(UsageError):
    """A delta was opened without its base, or with another file than its base (exit 2)."""


class WorkerError(CerwuError):
    """A cluster does not answer, or too many workers were lost (exit 5)."""

    exit_code = 5


class InputChangedError(CerwuError):
    """A file that is read was replaced, written or removed before the run was done; nothing was written (exit 6)."""

    exit_code = 6


def first_line(error: BaseException) -> str:
    """The first line of an exception's message that says something, or the exception's type."""
    lines = (_PLACE.sub("", line).strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def raise_if_out_of_memory(error: BaseException) -> None:
    """Call a lack of memory by its name; libraries in C++ have exceptions of their own for it.

    Raises:
        MemoryError: that is what the exception is about.
    """
    if isinstance(error, MemoryError):
        raise error
    if not isinstance(error, CerwuError) and _NO_MEMORY.search(str(error)):
        raise MemoryError(first_line(error)[:200]) from error


@contextmanager
def packages_for(feature: str) -> Iterator[None]:
    """Within this context, a package that is missing is an error that names the feature.

    Raises:
        MissingPackageError: in place of ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{feature} needs the package {error.name}, which is not installed: pip install cerwu-onnx brings it (the "
            "reader alone opens .cwb files and decodes their arrays)",
            name=error.name,
        ) from None
