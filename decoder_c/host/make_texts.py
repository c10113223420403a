# SPDX-License-Identifier: Apache-2.0
"""``make amalgamate``: writes cwb_texts.c, the texts that are part of the format, unless it holds them already."""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "cwb_texts.c"
HEAD = """/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `make amalgamate`: see cwb_texts.h.
 */
#include "cwb_texts.h"

"""


def texts() -> bytes:
    """The primer, and behind it the dictionary."""
    sys.path.insert(0, str(HERE.parents[1]))
    from cerwu_onnx.container.dictionary import DICTIONARY
    from cerwu_onnx.container.primer import PRIMER

    return PRIMER + DICTIONARY


def held(source: str) -> bytes:
    """The texts that such a source holds."""
    return zlib.decompress(bytes(map(int, re.findall(r"\d+(?=[,}])", source))), -15)


def source(content: bytes) -> str:
    """The C source that holds these texts."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    code = deflater.compress(content) + deflater.flush()
    rows = ["    " + ",".join(map(str, code[i : i + 30])) for i in range(0, len(code), 30)]
    array = ",\n".join(rows)
    return f"{HEAD}const uint8_t cwb_texts[] = {{\n{array}}};\n\nconst size_t cwb_texts_size = {len(code)};\n"


if __name__ == "__main__" and not (FILE.exists() and held(FILE.read_text()) == texts()):
    FILE.write_text(source(texts()), encoding="utf-8", newline="\n")
