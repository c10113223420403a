"""The JSON of a report: ``compress --json``, whose layout is docs/schema/report.json."""

from __future__ import annotations

import json
import math
from typing import Any

from cerwu_onnx.report_files.page import Page


def to_json(page: Page) -> str:
    """The report as one JSON object; unknown values, NaN and infinity are null."""
    return json.dumps(strict(page.report.to_dict() | {"output": page.output}), indent=2) + "\n"


def strict(value: Any) -> Any:
    """``value`` in JSON's types: tuples become lists, NaN and infinity null."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
