"""How the metadata of a .cwb file say the types of its arrays (docs/format.md, "Metadata")."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cerwu_onnx.array_files.dtypes import DTYPES

KEY = "arrays"
"""Key of the object type -> mask. A file that has it holds named arrays; those that no mask marks are float32."""

ABOUT = "safetensors"
"""Key of the texts that a .safetensors file had about itself."""


def masks(dtypes: Mapping[str, str], tables: Collection[str]) -> dict[str, Any]:
    """The entries of the metadata that say the types of arrays.

    Args:
        dtypes: by name, in the order of the file.
        tables: names of arrays that are coded without loss.
    """
    found: dict[str, int] = {}
    mark = 0
    for index, (name, dtype) in enumerate(dtypes.items()):
        if dtype != "float32":
            found[dtype] = found.get(dtype, 0) | 1 << index
        mark |= (name in tables) << index
    entries: dict[str, Any] = {KEY: {dtype: f"{mask:x}" for dtype, mask in found.items()}}
    return entries | ({"tables": f"{mark:x}"} if mark else {})


def dtypes(metadata: Mapping[str, Any], names: Sequence[str]) -> dict[str, str] | None:
    """The types of arrays by name; None for a file of a model.

    Raises:
        ValueError: the entry is damaged.
    """
    if KEY not in metadata:
        return None
    entry = metadata[KEY]
    if not isinstance(entry, dict):
        raise ValueError("no object of masks")
    found = dict.fromkeys(names, "float32")
    marked = 0
    for dtype, text in entry.items():
        if dtype not in DTYPES or not isinstance(text, str) or len(text) > len(names) // 4 + 1:
            raise ValueError(f"the type {dtype[:40]!r}, or its mask")
        mask = int(text, 16)
        if mask < 0 or mask >> len(names) or mask & marked:
            raise ValueError(f"the mask of {dtype}")
        marked |= mask
        found.update((name, dtype) for index, name in enumerate(names) if mask >> index & 1)
    return found
