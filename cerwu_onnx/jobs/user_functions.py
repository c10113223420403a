"""Load functions that the user names as ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cerwu_onnx.errors import CalibrationError, UsageError, first_line


def load_function(module: str, name: str, what: str) -> Callable[..., Any]:
    """Load ``name`` from a module, or from a Python file if ``module`` ends in ``.py``; that file must exist.

    Args:
        module: dotted name, or path of a file.
        name: name of the function.
        what: its purpose, the beginning of every message.

    Raises:
        UsageError: there is no such module or function.
        CalibrationError: importing it fails.
    """
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            if spec is None or spec.loader is None:
                raise UsageError(f"{what}: {module} cannot be imported")
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"{what}: there is no module {module!r}") from error
        raise CalibrationError(f"{what}: importing {module} failed: {first_line(error)}") from error
    except (Exception, SystemExit) as error:  # anything the user's module may raise
        raise CalibrationError(
            f"{what}: importing {module} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    function = getattr(loaded, name, None)
    if not callable(function):
        raise UsageError(f"{what}: {module} has no function {name!r}")
    found: Callable[..., Any] = function
    return found
