# SPDX-License-Identifier: Apache-2.0
"""``make amalgamate``: writes cwb_texts.c, the texts that are part of the format, and the tables of cwb_crc.c."""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE, TABLES = HERE / "cwb_texts.c", HERE / "cwb_crc_tables.h"
HEAD = """/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `make amalgamate`: see cwb_texts.h.
 */
#include "cwb_texts.h"

"""
TABLES_HEAD = """/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `make amalgamate`: see cwb_crc.c.
 */
#ifndef CWB_CRC_TABLES_H
#define CWB_CRC_TABLES_H

#include <stdint.h>

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


def crc_tables() -> str:
    """The header that holds the tables of cwb_crc.c."""
    tables = [[zlib.crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]]
    tables[0] = [value ^ tables[0][0] for value in tables[0]]
    for _ in range(7):
        tables.append([tables[0][value & 255] ^ value >> 8 for value in tables[-1]])
    rows = [", ".join(f"0x{value:08X}" for value in table[i : i + 10]) for table in tables for i in range(0, 256, 10)]
    texts = [",\n     ".join(rows[i : i + 26]) for i in range(0, len(rows), 26)]
    array = ",\n".join(f"    {{{text}}}" for text in texts)
    return TABLES_HEAD + f"static const uint32_t tables[8][256] = {{\n{array},\n}};\n\n#endif\n"


if __name__ == "__main__":
    if not FILE.exists() or held(FILE.read_text()) != texts():  # other versions of zlib make other streams of them
        FILE.write_text(source(texts()), encoding="utf-8", newline="\n")
    TABLES.write_text(crc_tables(), encoding="utf-8", newline="\n")
