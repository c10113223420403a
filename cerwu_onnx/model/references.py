"""Replace the names of values by short references, and restore them (docs/format.md, "Graph section")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx

from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.model.tensors import all_messages, bodies, without_initializers

_STANDARD = ("", "ai.onnx")
_MAX_OPERATOR = 32
"""Characters of an operator's type that an invented name begins with."""

_NUMBER = 32
"""Bytes that follow in it, more or less: a number, and what makes it differ from all other names."""

_REFERENCE = re.compile(r"([+-])([0-9]{0,9})|(0|[1-9][0-9]{0,8})")


def _rename(model: onnx.ModelProto, change: Callable[[str], str]) -> None:
    """Pass every name that the skeleton codes through ``change``, in the order of docs/format.md.

    These are the inputs and outputs of nodes, of functions, and of the bodies of standard operators, which all
    bind by position. Empty names stay: they mean that there is no value.
    """

    def values(infos: Iterable[onnx.ValueInfoProto]) -> None:
        for info in infos:
            info.name = info.name and change(info.name)

    def strings(names: Any) -> None:
        names[:] = [name and change(name) for name in names]

    def nodes(of: Iterable[onnx.NodeProto]) -> None:
        for node in of:
            strings(node.input)
            for body in bodies(node):
                by_position = node.domain in _STANDARD
                values(body.input if by_position else ())
                nodes(body.node)
                values(body.output if by_position else ())
            strings(node.output)

    nodes(model.graph.node)
    for function in model.functions:
        strings(function.input)
        nodes(function.node)
        strings(function.output)


def _ends(model: onnx.ModelProto) -> list[str]:
    """The names that are known before the first node: outputs, then inputs of the main graph, each once."""
    return list(dict.fromkeys(value.name for value in (*model.graph.output, *model.graph.input)))


def strings_of(model: onnx.ModelProto) -> set[str]:
    """Every string in the model, whatever it means, without those of string tensors.

    Raises:
        UnicodeError: one is not UTF-8.
    """
    found: set[str] = set()
    for message in all_messages(model):
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                texts: Any = (value,) if isinstance(value, str | bytes) else value
                if any(isinstance(text, bytes) for text in texts):  # what protobuf makes of strings it cannot decode
                    raise UnicodeError(f"{field.full_name} is not UTF-8")
                found.update(texts)
        if isinstance(message, onnx.AttributeProto):
            found.update(text.decode(errors="replace") for text in (message.s, *message.strings))
    return found


def shorten_names(model: onnx.ModelProto, initializers: Sequence[str]) -> None:
    """Replace names by references, as docs/format.md describes them.

    References depend only on names, not on what these mean: equal names have equal references, and equal references are
    resolved to equal names, in all scopes. So this code needs to know no rule of ONNX about scopes.
    """
    others = onnx.ModelProto()
    others.CopyFrom(model)
    _rename(others, lambda _: "")
    fixed = strings_of(others)
    index = {name: i for i, name in enumerate(initializers)}
    seen = {name: i for i, name in enumerate(_ends(model))}
    last = -1

    def shorten(name: str) -> str:
        nonlocal last
        if name in index:
            step, last = index[name] - last, index[name]
            return {1: "+", -1: "-"}.get(step, f"{step:+}")
        if name in seen:
            return str(len(seen) - seen[name])
        if name in fixed:
            return f"'{name}"
        seen[name] = len(seen)
        return "0"

    _rename(model, shorten)


def name_bytes(model: onnx.ModelProto) -> int:
    """How many bytes of names the references to those of a model stand for at most, whatever a reader invents."""
    copy = without_initializers(model, [tensor.name for tensor in model.graph.initializer])
    nodes = [message for message in all_messages(copy) if isinstance(message, onnx.NodeProto)]
    invented = max((len(node.op_type[:_MAX_OPERATOR].encode()) for node in nodes), default=0) + _NUMBER
    size = 0

    def add(name: str) -> str:
        nonlocal size
        size += max(len(name.encode()), invented)
        return name

    _rename(copy, add)
    return size


def restore_names(
    model: onnx.ModelProto, constants: Sequence[tuple[onnx.NodeProto, str]], strings: set[str], most: int
) -> None:
    """Replace references by names; lost names become operator and number.

    Args:
        model: the skeleton with all else restored.
        constants: the Constant nodes that define a tensor of the directory, with its name.
        strings: the strings of the skeleton.
        most: bytes of names that all references together may stand for.

    Raises:
        CorruptFileError: a reference leads nowhere, or the names exceed ``most``.
    """
    initializers = [tensor.name for tensor in model.graph.initializer]
    names = {str(i): name for i, name in enumerate(_ends(model))}
    known, last = len(names), -1

    def identify(reference: str) -> str:
        """Make a reference independent of its place: a number; that of an initializer has a sign."""
        nonlocal known, last
        if reference.startswith("'"):
            return reference
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise CorruptFileError(f"the graph section has a malformed name {reference[:40]!r}: the file is damaged")
        sign, change, back = match.groups()
        if sign:
            last += int(sign + (change or "1"))
            if not 0 <= last < len(initializers):
                raise CorruptFileError(
                    "the graph section refers to an initializer that it does not have: the file is damaged"
                )
            return f"+{last}"
        if int(back) > known:
            raise CorruptFileError("the graph section refers to a name that it does not have: the file is damaged")
        known += back == "0"
        return str(known - (int(back) or 1))

    _rename(model, identify)
    names |= {f"+{i}": name for i, name in enumerate(initializers)}
    for node, name in constants:
        names.setdefault(node.output[0], name)
    taken = strings | {text[1:] for text in strings} | set(names.values())
    for part in (model.graph, *model.functions):
        for node in all_messages(part):
            for identity in node.output if isinstance(node, onnx.NodeProto) else ():
                if identity not in names:
                    names[identity] = _free(f"{node.op_type[:_MAX_OPERATOR]}_{identity}", taken)
    size = 0

    def lengthen(identity: str) -> str:
        nonlocal size
        name = identity[1:] if identity.startswith("'") else names.get(identity)
        if name is None:  # once: a file may make it collide with many others
            name = names[identity] = _free(f"input_{identity}", taken)
        size += len(name) if name.isascii() else len(name.encode())
        if size > most:
            raise CorruptFileError(f"the names of the graph section exceed {most} bytes: do not trust it")
        return name

    _rename(model, lengthen)


def _free(name: str, taken: set[str]) -> str:
    """The name, made longer until it is not taken."""
    while name in taken:
        name += "_"
    return name
