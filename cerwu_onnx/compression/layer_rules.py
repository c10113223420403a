"""Rules for single layers: find the tensors that their globs match, and apply them to the graph.

A rule keeps a tensor exact, or gives a weight another price or fewer bits per symbol. If several rules match a tensor,
the last one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from cerwu_onnx.config import LayerRule
from cerwu_onnx.errors import UsageError
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.tensors import tensor_bytes, type_name
from cerwu_onnx.types import Kept, Layer

SKIPPED = "skipped by"
"""The beginning of the reason why a tensor stays exact that a rule leaves alone."""


def rules_of(names: Iterable[str], rules: Sequence[LayerRule]) -> dict[str, LayerRule]:
    """Find the rule of each tensor that a rule matches.

    Raises:
        UsageError: a glob matches no tensor.
    """
    known = list(names)
    found: dict[str, LayerRule] = {}
    for rule in rules:
        matched = [name for name in known if fnmatchcase(name, rule.glob)]
        if not matched:
            raise UsageError(f"{rule.where} {rule.glob!r} matches no tensor of the model{_like(rule.glob, known)}")
        found.update(dict.fromkeys(matched, rule))
    return found


def apply_rules(graph: Graph, rules: Mapping[str, LayerRule]) -> Graph:
    """Apply the rules to the layers of a graph.

    A weight that stays exact is no longer a layer; a bias or normalisation parameter that stays exact no longer belongs
    to one.

    Args:
        graph: the analysed model.
        rules: by name of the tensor, from :func:`rules_of`.

    Raises:
        UsageError: a rule has a price or bits, but matches no weight that is quantised.
    """
    layers = {layer.weight: layer for layer in graph.layers}
    of_weights = {rule.glob for name, rule in rules.items() if name in layers}
    for rule in rules.values():
        if not rule.skip and rule.glob not in of_weights:
            raise UsageError(
                f"{rule.where} {rule.glob!r}: price and bits are only for quantised weights, and this is not one"
                f"{_like(rule.glob, list(layers))}"
            )
    skipped = {name: rule for name, rule in rules.items() if rule.skip}
    kept = [
        Kept(name, tuple(tensor.dims), type_name(tensor.data_type), tensor_bytes(tensor), _reason(rule))
        for name, rule in skipped.items()
        if name in layers
        for tensor in (graph.tensors[name],)
    ]
    known = [
        replace(tensor, reason=_reason(skipped[tensor.name])) if tensor.name in skipped else tensor
        for tensor in graph.kept
    ]
    left = [
        replace(_bare(layer, skipped), price=rules[name].price, bits=rules[name].bits)
        if name in rules
        else _bare(layer, skipped)
        for name, layer in layers.items()
        if name not in skipped
    ]
    return replace(graph, layers=tuple(left), kept=(*known, *kept))


def _bare(layer: Layer, skipped: Mapping[str, LayerRule]) -> Layer:
    """Take the parameters that stay exact from a layer; those of a normalisation stay exact all together."""
    if layer.bias is not None and layer.bias.name in skipped:
        layer = replace(layer, bias=None)
    if layer.norm is not None and any(name in skipped for name in layer.parameters if name != _bias(layer)):
        layer = replace(layer, norm=None)
    return layer


def _bias(layer: Layer) -> str:
    return "" if layer.bias is None else layer.bias.name


def _reason(rule: LayerRule) -> str:
    return f"{SKIPPED} {rule.where} {rule.glob!r}"


def _like(glob: str, names: Sequence[str]) -> str:
    """End of an error message: a similar name that the user may have meant."""
    similar = get_close_matches(glob, names, 1)
    return f": did you mean {similar[0]!r}?" if similar else "; `cerwu-onnx inspect` lists them"
