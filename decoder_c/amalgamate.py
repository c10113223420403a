# SPDX-License-Identifier: Apache-2.0
"""``make amalgamate``: writes cwb.c and cwb.h, the two files that firmware compiles, from the kernels in src/."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
LICENCE = "/* SPDX-License-Identifier: Apache-2.0\n *\n"
NOTE = " * Written by `make amalgamate` from decoder_c/src/: make changes there.\n *\n"
KERNEL = re.compile(re.escape(LICENCE) + r"(.*?\*/\n)#ifndef (\w+_H)\n#define \2\n(.*\n)\n?#endif\n", re.DOTALL)
"""A header of src/: its comment, its guard, its body."""
INCLUDE = re.compile(r'^#include "(\w+)\.h"\n', re.MULTILINE)


def amalgamate(folder: Path) -> dict[str, str]:
    """The contents of cwb.c and cwb.h.

    Args:
        folder: of the kernels, with the files cwb.c, which includes them all, and cwb.h.

    Raises:
        ValueError: a file does not begin with the licence, a kernel is not one comment and one guarded body, or a
            kernel includes one that cwb.c includes later: then the order of cwb.c is not that of the bodies.
    """
    head, *names = _parts((folder / "cwb.c").read_text(encoding="utf-8"))
    source = _noted(head, "cwb.c").rstrip() + '\n#include "cwb.h"\n'
    for place, name in enumerate(names):
        match = KERNEL.fullmatch((folder / f"{name}.h").read_text(encoding="utf-8"))
        if match is None:
            raise ValueError(f"{name}.h is not a licence, one comment and one body between #ifndef and #endif")
        body, *needed = _parts(match[3])
        late = set(needed) - {"cwb", *names[:place]}
        if late:
            raise ValueError(f"{name}.h includes {', '.join(sorted(late))}, which cwb.c must include before it")
        source += f"\n/* ---- {name} {'-' * (108 - len(name))}\n *\n{match[1]}\n{body.strip()}\n"
    return {"cwb.c": source, "cwb.h": _noted((folder / "cwb.h").read_text(encoding="utf-8"), "cwb.h")}


def _parts(text: str) -> list[str]:
    """A text without its includes of kernels, then their names; cwb.h, which all include, is not one."""
    return [INCLUDE.sub("", text), *(name for name in INCLUDE.findall(text) if name != "cwb")]


def _noted(text: str, name: str) -> str:
    """A text that says behind the licence where it comes from."""
    if not text.startswith(LICENCE):
        raise ValueError(f"{name} does not begin with {LICENCE!r}")
    return LICENCE + NOTE + text.removeprefix(LICENCE)


if __name__ == "__main__":
    for name, text in amalgamate(HERE / "src").items():
        (HERE / name).write_text(text, encoding="utf-8", newline="\n")
