"""The JSON schema of reports, made from the dataclasses: ``python -m cerwu_onnx.report_files.schema`` prints it."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from cerwu_onnx.report import SCHEMA, Report

_SIMPLE = {int: "integer", str: "string", bool: "boolean"}


def schema() -> dict[str, Any]:
    """What ``compress --json`` and a report's ``.json`` hold (JSON Schema 2020-12).

    Floats may be null: JSON has neither NaN nor infinity. Keys may be added; ``schema`` grows when one changes its
    meaning.
    """
    body = _object(Report)
    first = {
        "schema": {"const": SCHEMA, "description": "version of this layout"},
        "output": {"type": "string", "description": "path of the .cwb file."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of a compression by cerwu-onnx",
        **body,
        "properties": first | body["properties"],
        "required": [*first, *body["required"]],
    }


def _object(kind: Any) -> dict[str, Any]:
    """The schema of a dataclass, with all properties and fields required."""
    about = _attributes(kind)
    hints = {}
    for name, value in vars(kind).items():
        if isinstance(value, property):
            hints[name] = get_type_hints(value.fget)["return"]
            about[name] = inspect.getdoc(value) or ""
    hints |= {field.name: get_type_hints(kind)[field.name] for field in fields(kind)}
    properties = {}
    for name, hint in hints.items():
        shown = _type(hint)
        properties[name.rstrip("_")] = shown | ({"description": about[name]} if name in about else {})
    return {"type": "object", "properties": properties, "required": list(properties)}


def _type(hint: Any) -> dict[str, Any]:
    if is_dataclass(hint):
        return _object(hint)
    if hint is float:
        return {"type": ["number", "null"]}
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return _type(kind) if kind is float else {"anyOf": [_type(kind), {"type": "null"}]}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type(arguments[0])}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    return {"type": _SIMPLE[hint]}


def _attributes(kind: type) -> dict[str, str]:
    """The sentences in the section ``Attributes`` of a docstring, without markup."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    return {name: re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`|`+", r"\1", " ".join(text.split())) for name, text in found}


def text() -> str:
    """The text of docs/schema/report.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
