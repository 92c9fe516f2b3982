"""Nodes to plain data in the shape of the declarations: substitution, and fields that do not exist.

What does not fit a type is passed on as it is: `validate` says so with the place. What was reported here
is left out of the data (`SKIP`).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

from reconciler.specfile import hints
from reconciler.specfile.merge import is_null, says_nothing
from reconciler.specfile.mistakes import Mistakes
from reconciler.specfile.shapes import (
    EXTENSION,
    WATCHER,
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    chosen,
)
from reconciler.specfile.substitute import Place, Scope, SubstitutionError, expand
from reconciler.specfile.yaml_text import List, Map, Node, Scalar, core_value, value_of

_SHELL_WORD: Final = re.compile(r"[^ \t\r\n]+")
_QUOTES: Final = frozenset("\"'\\")

SKIP: Final = object()
"""Stands for a value that was reported already."""

SOCKET_FIELDS: Final = ("cmd", "env", "stop.cmd", "reload.cmd")
"""Fields of a watcher in which `${sockets.NAME}` may stand: only the process itself inherits sockets."""


def _slot_fields(shape: Shape, path: str) -> list[str]:
    match shape:
        case Block(_, fields):
            return [
                each
                for name, (_, inner) in fields.items()
                for each in _slot_fields(inner, f"{path}.{name}")
            ]
        case OneOf(blocks, _):
            return [each for one in blocks for each in _slot_fields(one, path)]
        case MapOf(value):
            return _slot_fields(value, path)
        case Words(per_slot=True) | Value(per_slot=True):
            return [path.lstrip(".")]
        case _:
            return []


def _summary(fields: list[str]) -> str:
    short = dict.fromkeys("hooks.*.cmd" if each.startswith("hooks.") else each for each in fields)
    *most, last = short
    return f"{', '.join(most)} and {last}"


SLOT_PLACES: Final = _summary(_slot_fields(WATCHER, ""))
SOCKET_PLACES: Final = _summary(list(SOCKET_FIELDS))


@dataclass(slots=True)
class Resolver:
    """Resolves the nodes of one scope."""

    scope: Scope
    mistakes: Mistakes

    def block(self, shape: Block, node: Map, where: str, inner: str = "") -> dict[str, object]:
        """Return the data of a block by attribute; unknown fields are reported and left out."""
        data: dict[str, object] = {}
        extensions: dict[str, object] = {}
        for name, entry in node.entries.items():
            path = f"{where}.{name}" if where else name
            declared = shape.fields.get(name)
            if declared is not None:
                if says_nothing(entry.value, declared):
                    continue
                about, inner_shape = declared
                value = self.value(
                    inner_shape, entry.value, path, f"{inner}.{name}" if inner else name
                )
                if value is not SKIP:
                    data[about.attribute] = value
            elif name.startswith(EXTENSION) and shape.extensible:
                extensions[name] = value_of(entry.value)
            else:
                hint = hints.for_unknown_field(name, shape.cls.__name__, shape.fields)
                self.mistakes.at(entry.key, path, f"unknown field '{name}'", hint)
        if shape.extensible:
            data["x"] = extensions
        return data

    def value(self, shape: Shape, node: Node, where: str, inner: str) -> object:
        """Return the data of one node; `inner` is the field's path within the watcher."""
        match shape:
            case Value():
                return self._scalar(shape, node, where, inner)
            case Words(per_slot):
                return self._words(node, where, inner, per_slot=per_slot)
            case Free():
                return value_of(node)
            case Block() if isinstance(node, Map):
                return self.block(shape, node, where, inner)
            case MapOf(value) if isinstance(node, Map):
                pairs = (
                    (k, self.value(value, e.value, f"{where}.{k}", inner))
                    for k, e in node.entries.items()
                )
                return {key: item for key, item in pairs if item is not SKIP}
            case ListOf(item):
                if isinstance(node, List):
                    return self._list(item, node, where, inner)
                return self._scalar(Value(text=False), node, where, inner)
            case OneOf(_, other):
                if isinstance(node, Map):
                    return self.block(chosen(shape, set(node.entries)), node, where, inner)
                return self.value(other, node, where, inner)
            case _:
                return value_of(node)

    def _list(self, item: Shape, node: List, where: str, inner: str) -> object:
        items = [
            self.value(item, each, f"{where}[{i}]", inner) for i, each in enumerate(node.items)
        ]
        return SKIP if SKIP in items else items

    def _scalar(self, shape: Value, node: Node, where: str, inner: str) -> object:
        if not isinstance(node, Scalar):
            return value_of(node)
        if "$" in node.text:
            text = self.text(node, node.text, where, inner, per_slot=shape.per_slot)
            if text is None:
                return SKIP
            return text if shape.text or shape.octal else core_value(text)
        as_written = shape.verbatim or not node.plain or (shape.octal and not is_null(node))
        return node.text if as_written else core_value(node.text)

    def _words(self, node: Node, where: str, inner: str, *, per_slot: bool) -> object:
        """Return the words of a command. A text is split first, so that a variable stays in its word."""
        if isinstance(node, Scalar):
            if is_null(node):
                return None
            try:
                words = [(node, word) for word in split(node.text)]
            except ValueError as error:
                cause = (
                    "the quotes are not closed" if "quotation" in str(error) else str(error).lower()
                )
                self.mistakes.at(
                    node, where, f"cannot split the command: {cause}", "or write a list of words"
                )
                return SKIP
            texts = [self.text(one, word, where, inner, per_slot=per_slot) for one, word in words]
        elif isinstance(node, List):
            if not all(isinstance(item, Scalar) for item in node.items):
                return value_of(node)
            scalars = [item for item in node.items if isinstance(item, Scalar)]
            texts = [self.text(one, one.text, where, inner, per_slot=per_slot) for one in scalars]
        else:
            return value_of(node)
        return SKIP if None in texts else texts

    def text(
        self, node: Scalar, text: str, where: str, inner: str, *, per_slot: bool
    ) -> str | None:
        """Return expanded text, or None when that was a mistake, which is reported at the node."""
        sockets = per_slot and inner in SOCKET_FIELDS
        try:
            return expand(text, self.scope, Place(per_slot, sockets, SLOT_PLACES, SOCKET_PLACES))
        except SubstitutionError as error:
            self.mistakes.at(node, where, error.message, error.hint)
            return None


def split(text: str) -> list[str]:
    """Return the words of a command as a shell would split it. Raises `ValueError`.

    Most commands have no quotes, and then shlex is not needed, which takes most of the time.
    """
    return _SHELL_WORD.findall(text) if _QUOTES.isdisjoint(text) else shlex.split(text)
