"""Warn if much of a model stays exact for reasons that its user may not expect."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable

from cerwu_onnx.compression.layer_rules import SKIPPED
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.tensors import tensor_bytes
from cerwu_onnx.types import Kept

log = logging.getLogger(__name__)

SHARE = 0.25
"""A warning is due if floats that stay exact have at least so large a share of the bytes of all tensors."""

LEAST = 1 << 12
"""Fewer bytes are not worth a warning."""

_FLOATS = ("float32", "float16", "bfloat16", "float64")
_NAMES = re.compile(r"'[^']*'")


def warn_if_much_is_exact(graph: Graph, kept: Iterable[Kept]) -> None:
    """Warn, once, with the share and the reason that the most bytes have.

    Args:
        graph: the analysed model.
        kept: the tensors that stay exact in the file; those that the user has asked to skip do not count.
    """
    floats = [tensor for tensor in kept if tensor.dtype in _FLOATS and not tensor.reason.startswith(SKIPPED)]
    size = sum(tensor.nbytes for tensor in floats)
    inside = (tensor.nbytes for tensor in graph.kept if tensor.name not in graph.tensors)  # bodies, local functions
    total = sum(map(tensor_bytes, graph.tensors.values())) + sum(inside)
    if size < max(LEAST, SHARE * total):
        return
    kinds = defaultdict[str, list[Kept]](list)
    for tensor in floats:
        kinds[_NAMES.sub("", tensor.reason)].append(tensor)  # the same reason, whatever node it names
    most = max(kinds.values(), key=lambda kind: sum(tensor.nbytes for tensor in kind))
    largest = max(most, key=lambda tensor: tensor.nbytes)
    log.warning(
        "%s of the %s bytes of tensors (%.0f %%) are floats that stay exact, most of them like %r: %s; "
        "cerwu-onnx inspect lists all",
        f"{size:,}",
        f"{total:,}",
        100 * size / total,
        largest.name,
        largest.reason,
    )
