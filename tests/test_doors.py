"""docs/doors.md: every test that its table names is there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "doors.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    found = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(found) > 20
    for path, name in found:
        text = (HERE / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^ *def {name}\(", text, re.MULTILINE), f"{path} has no {name}"
