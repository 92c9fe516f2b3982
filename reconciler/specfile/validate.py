"""Data to values, and what does not fit to mistakes with places and in our words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, Literal, TypeVar, cast, get_args, get_origin

from reconciler.model.spec import Field, declared_fields
from reconciler.model.units import Between, Reads
from reconciler.model.value import Struct
from reconciler.specfile import cures, hints
from reconciler.specfile.mistakes import Mistakes, found
from reconciler.specfile.shapes import (
    Free,
    OneOf,
    bare,
    block,
    block_classes,
    chosen,
    is_word,
    members,
)
from reconciler.specfile.values import Misfit, Wrong, reader_of
from reconciler.specfile.yaml_text import Entry, List, Map, Node, Scalar, core_value

T = TypeVar("T")


def validated(
    cls: type[T], data: Mapping[str, object], entry: Entry, where: str, mistakes: Mistakes
) -> T | None:
    """Return the value that the data describes, or None when there were mistakes, all of them reported.

    `entry` is the key and the node that the data was made from.
    """
    try:
        return cast("T", reader_of(cast("Hashable", cls))(data))
    except Misfit as misfit:
        for wrong in misfit.wrong:
            _report(cls, wrong, entry, where, mistakes)
        return None


class _Spot:
    """Where a walk along a location has come to."""

    def __init__(self, cls: type, entry: Entry, where: str) -> None:
        self.hint: object = cls
        self.markers: tuple[object, ...] = ()
        self.key = entry.key
        self.node: Node = entry.value
        self.where = where
        self.missing: Field | None = None

    def step(self, element: int | str) -> None:
        """Go one element further."""
        hint, more = bare(self.hint)
        self.markers += more
        blocks = block_classes(hint)
        if isinstance(self.node, Map) and blocks:
            self._into_block(element, blocks)
        elif (
            isinstance(element, int)
            and isinstance(self.node, List)
            and element < len(self.node.items)
        ):
            self.node = self.node.items[element]
            self.where += f"[{element}]"
            tuples = [
                get_args(bare(m)[0])[0] for m in members(hint) if get_origin(bare(m)[0]) is tuple
            ]
            self.hint, self.markers = (tuples[0] if tuples else hint), ()
        elif isinstance(self.node, Map) and element in self.node.entries:
            entry = self.node.entries[str(element)]
            self.key, self.node = entry.key, entry.value
            self.where += f".{element}"
            arguments = get_args(hint)
            self.hint, self.markers = (arguments[1] if len(arguments) == 2 else hint), ()

    def _into_block(self, element: int | str, blocks: tuple[type, ...]) -> None:
        assert isinstance(self.node, Map)
        either = OneOf(tuple(block(each) for each in blocks), Free())
        cls = chosen(either, set(self.node.entries)).cls
        field = next(each for each in declared_fields(cls) if each.attribute == element)
        self.where = f"{self.where}.{field.name}" if self.where else field.name
        self.hint, self.markers = field.type, field.markers
        entry = self.node.entries.get(field.name)
        if entry is None:
            self.missing = field
        else:
            self.key, self.node = entry.key, entry.value


def _report(cls: type, wrong: Wrong, entry: Entry, where: str, mistakes: Mistakes) -> None:
    spot = _Spot(cls, entry, where)
    for element in wrong.location:
        spot.step(element)
    if wrong.is_missing:
        if spot.missing is not None:
            at = spot.key if spot.key.line else spot.node
            mistakes.at(
                at,
                spot.where,
                f"'{spot.missing.name}' is missing",
                f"write: {example(spot.missing)}",
            )
        return
    if spot.missing is not None:
        return
    what = found(spot.node, spot.where)
    cause = wrong.cause or f"expected {expected(spot.hint, spot.markers)}"
    mistakes.at(spot.node, spot.where, f"{cause}, found {what}", _hint(spot))


def _hint(spot: _Spot) -> str:
    node, hint = spot.node, spot.hint
    name = spot.where.rpartition(".")[2]
    if not isinstance(node, Scalar):
        return ""
    value = core_value(node.text)
    if "$" not in node.text:
        cure = _cure(spot, node.text[:60])
        if cure:
            return cure
    wants_list = any(get_origin(bare(member)[0]) is tuple for member in members(hint))
    if wants_list and value is not None:
        return (
            "write a list: [...]"
            if "not shown" in found(node, spot.where)
            else f"write: [{node.text[:40]}]"
        )
    words = _words(hint)
    if words:
        other = hints.VALUE_WORDS.get((name, node.text.lower()), "") or hints.nearest(
            node.text, words
        )
        return f"did you mean '{other}'?" if other else ""
    if not node.plain and not isinstance(value, str) and "$" not in node.text:
        return "write it without quotes"
    accepts_text = str in members(hint) and not any(
        isinstance(each, Reads) for each in spot.markers
    )
    if node.plain and not isinstance(value, str) and value is not None and accepts_text:
        return "put it into quotes"
    return ""


def _cure(spot: _Spot, text: str) -> str:
    """Return what other spelling of a text would fit."""
    markers = (*spot.markers, *bare(spot.hint)[1])
    reads = next((each for each in markers if isinstance(each, Reads)), None)
    blocks = block_classes(spot.hint)
    if reads is not None:
        return cures.for_kind(reads.kind, text)
    if blocks and text:
        return cures.for_block(blocks[0].__name__, text)
    kinds = {bare(member)[0] for member in members(spot.hint)} - {type(None)}
    if kinds == {bool}:
        return cures.for_bool(text)
    return ""


def _words(hint: object) -> list[str]:
    """Return the words of a type that is nothing but some words, or null."""
    found: list[str] = []
    for member in members(hint):
        if get_origin(bare(member)[0]) is Literal:
            found += [each for each in get_args(bare(member)[0]) if isinstance(each, str)]
    return found


_NAMES: Final[dict[object, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def expected(hint: object, markers: tuple[object, ...] = ()) -> str:
    """Return what a type accepts, in words: `a whole number from 0 to 10000`."""
    hint, more = bare(hint)
    for marker in markers + more:
        if isinstance(marker, Between):
            return f"a whole number from {marker.low} to {marker.high}"
        if isinstance(marker, Reads):
            article = "an" if marker.kind[0] in "aeiou" else "a"
            return f"{article} {marker.kind} such as {marker.example}"
    choices = members(hint)
    if len(choices) > 1:
        return _or([each for choice in choices for each in expected(choice).split(" or ")])
    origin = get_origin(hint)
    if origin is Literal:
        return _or([str(each).lower() for each in get_args(hint)])
    if origin is tuple:
        item = get_args(hint)[0]
        return "a command (text, or a list of words)" if is_word(item) else "a list"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a map"
    if isinstance(hint, type) and issubclass(hint, Struct):
        fields = [each.name for each in declared_fields(hint) if each.attribute != "x"]
        return f"a map with {', '.join(fields)}" if len(fields) <= 4 else "a map"
    return _NAMES.get(hint, "something else")


def _or(words: list[str]) -> str:
    unique = list(dict.fromkeys(words))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def example(declared: Field) -> str:
    """Return how a field could be written: `listen: 127.0.0.1:8000`."""
    reads = [marker for marker in declared.markers if isinstance(marker, Reads)]
    nested = bare(declared.type)[1]
    reads += [marker for marker in nested if isinstance(marker, Reads)]
    examples = {"cmd": "python -m http.server", "count": "10", "soft": "1024", "hard": "4096"}
    text = reads[0].example if reads else examples.get(declared.name, "...")
    return f"{declared.name}: {text}"
