"""Data to values, and what does not fit to mistakes with places and in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

from reconciler.model.units import Between, Reads
from reconciler.model.value import Struct
from reconciler.specfile import cures, hints
from reconciler.specfile.mistakes import Mistakes, found, list_of
from reconciler.specfile.shapes import (
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    block,
    blocks_in,
    item_of,
    map_of,
)
from reconciler.specfile.values import Misfit, Wrong, read
from reconciler.specfile.yaml_text import Entry, List, Map, Node, Scalar, core_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.model.spec import Field

T = TypeVar("T", bound=Struct)


def validated(
    cls: type[T], data: Mapping[str, object], entry: Entry, where: str, mistakes: Mistakes
) -> T | None:
    """Return the value that the data describes, or None when there were mistakes, all of them reported.

    `entry` is the key and the node that the data was made from.
    """
    try:
        return cast("T", read(block(cls), data))
    except Misfit as misfit:
        for wrong in misfit.wrong:
            _report(cls, wrong, entry, where, mistakes)
        return None


class _Spot:
    """Where a walk along a location has come to."""

    def __init__(self, cls: type, entry: Entry, where: str) -> None:
        self.shape: Shape = block(cls)
        self.key = entry.key
        self.node: Node = entry.value
        self.where = where
        self.missing: tuple[Field, Shape] | None = None

    def step(self, element: int | str) -> None:
        """Go one element further."""
        blocks, item = blocks_in(self.shape), item_of(self.shape)
        if isinstance(self.node, List):
            if isinstance(element, int) and element < len(self.node.items) and item is not None:
                self.node, self.shape = self.node.items[element], item
                self.where += f"[{element}]"
        elif isinstance(self.node, Map) and blocks:
            inner = (
                self.shape.chosen(self.node.entries) if isinstance(self.shape, OneOf) else blocks[0]
            )
            self._into_field(next(e for e in inner.fields.values() if e[0].attribute == element))
        elif isinstance(self.node, Map) and (named := map_of(self.shape)) is not None:
            entry = self.node.entries.get(str(element))
            if entry is not None:
                self.key, self.node = entry.key, entry.value
                self.where += f".{element}"
                self.shape = named.value

    def _into_field(self, declared: tuple[Field, Shape]) -> None:
        assert isinstance(self.node, Map)
        name, self.shape = declared[0].name, declared[1]
        self.where = f"{self.where}.{name}" if self.where else name
        entry = self.node.entries.get(name)
        if entry is None:
            self.missing = declared
        else:
            self.key, self.node = entry.key, entry.value


def _report(cls: type, wrong: Wrong, entry: Entry, where: str, mistakes: Mistakes) -> None:
    spot = _Spot(cls, entry, where)
    for element in wrong.location:
        spot.step(element)
    if spot.missing is None and not wrong.is_missing:
        what = found(spot.node, spot.where)
        cause = wrong.cause or f"expected {expected(spot.shape)}"
        mistakes.at(spot.node, spot.where, f"{cause}, found {what}", _hint(spot))
    elif spot.missing is not None and wrong.is_missing:
        at = spot.key if spot.key.line else spot.node
        field, shape = spot.missing
        hint = f"write: {example(field.name, shape)}"
        mistakes.at(at, spot.where, f"'{field.name}' is missing", hint)


def _hint(spot: _Spot) -> str:
    node, shape = spot.node, spot.shape
    if not isinstance(node, Scalar):
        return ""
    value = core_value(node.text)
    if "$" not in node.text:
        cure = _cure(shape, node.text[:60])
        if cure:
            return cure
    if item_of(shape) is not None and value is not None:
        is_hidden = "not shown" in found(node, spot.where)
        return "write a list: [...]" if is_hidden else f"write: {list_of(node.text)}"
    choices = shape.choices if isinstance(shape, OneOf) else (shape,)
    values = [each for each in choices if isinstance(each, Value)]
    words = [word for each in values for word in each.words if isinstance(word, str)]
    if words:
        name = spot.where.rpartition(".")[2]
        other = hints.VALUE_WORDS.get((name, node.text.lower())) or hints.nearest(node.text, words)
        return f"did you mean '{other}'?" if other else ""
    if not node.plain and not isinstance(value, str) and "$" not in node.text:
        return "write it without quotes"
    accepts_text = any(each.kind is str for each in values)
    if node.plain and not isinstance(value, str) and value is not None and accepts_text:
        return "put it into quotes"
    return ""


def _cure(shape: Shape, text: str) -> str:
    """Return what other spelling of a text would fit."""
    blocks = blocks_in(shape)
    for each in shape.choices if isinstance(shape, OneOf) else (shape,):
        if isinstance(each, Value) and isinstance(each.kind, Reads):
            return cures.for_kind(each.kind.kind, text)
    if isinstance(shape, Value) and shape.kind is bool:
        return cures.for_bool(text)
    return cures.for_block(blocks[0].cls.__name__, text) if blocks and text else ""


_NAMES: Final[dict[object, list[str]]] = {
    str: ["text"],
    int: ["a whole number"],
    float: ["a number"],
    bool: ["true", "false"],
}


def expected(shape: Shape) -> str:
    """Return what may stand in a place, in words: `a whole number from 0 to 10000`."""
    words = _alternatives(shape) + (["null"] if shape.nullable else [])
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


def _alternatives(shape: Shape) -> list[str]:
    match shape:
        case Block(_, fields):
            return [f"a map with {', '.join(fields)}" if len(fields) <= 4 else "a map"]
        case MapOf():
            return ["a map"]
        case ListOf():
            return ["a list"]
        case Words():
            return ["a command (text, or a list of words)"]
        case OneOf(choices):
            return [text for each in choices for text in _alternatives(each)]
        case Value(Between(low, high)):
            return [f"a whole number from {low} to {high}"]
        case Value(Reads() as marker):
            article = "an" if marker.kind[0] in "aeiou" else "a"
            return [f"{article} {marker.kind} such as {marker.example}"]
        case Value(kind):
            return [str(word).lower() for word in shape.words] or _NAMES[kind]
        case Free():
            return ["something else"]


def example(name: str, shape: Shape) -> str:
    """Return how a field could be written: `listen: 127.0.0.1:8000`."""
    examples = {"cmd": "python -m http.server", "count": "10", "soft": "1024", "hard": "4096"}
    if isinstance(shape, Value) and isinstance(shape.kind, Reads):
        return f"{name}: {shape.kind.example}"
    return f"{name}: {examples.get(name, '...')}"
