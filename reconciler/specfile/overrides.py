"""Files that are merged last, and say only what is different: on some machines, at some customers.

Maps are merged by key, everything else is replaced as a whole. `null` takes away what the other files say,
except where it is a value of the field; a map written as `{}` takes nothing from them. A watcher or a socket
that no other file has must be a whole one: else its name is mistyped. What is left empty says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.merge import (
    ALTERNATIVES,
    NAMED,
    NAMES_FILES,
    OF_ONE_FILE,
    Merged,
    check_version,
    is_map_of_document,
    is_null,
    with_restart,
)
from reconciler.specfile.shapes import (
    DOCUMENT,
    EXTENSION,
    SOCKET,
    WATCHER,
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    item_of,
)
from reconciler.specfile.yaml_text import Entry, Map, Node, Scalar

if TYPE_CHECKING:
    from reconciler.specfile.mistakes import Mistakes

_MAKES_IT_WHOLE: Final = {"watchers": "cmd", "plugins": "cmd", "sockets": "listen"}
_FREE: Final = Free()


def override(merged: Merged, root: Map, mistakes: Mistakes) -> None:
    """Put what a file says over what others say; what it cannot say is reported."""
    for name, entry in root.entries.items():
        if name.startswith(EXTENSION):
            _put(merged.extensions, name, entry, _FREE)
        elif name == "version":
            check_version(entry.value, mistakes)
        elif name in NAMES_FILES:
            message = f"'{name}' has no meaning in a file of overrides"
            mistakes.at(entry.key, name, message, "write it into the spec itself")
        elif is_map_of_document(name, entry, mistakes) and isinstance(entry.value, Map):
            _override_map(merged, name, entry.value, mistakes)


def _override_map(merged: Merged, name: str, value: Map, mistakes: Mistakes) -> None:
    into = merged.maps.setdefault(name, Map(value.file, value.line, value.column, {}))
    if name in NAMED:
        for each, entry in value.entries.items():
            _override_named(into.entries, name, each, entry, mistakes)
        return
    shape = WATCHER if name == "defaults" else DOCUMENT.fields[name][1]
    over = with_restart(value, name, mistakes) if name == "defaults" else value
    merged.maps[name] = _laid(into, over, shape)
    for own in merged.included.values() if name in OF_ONE_FILE else ():
        if name in own:  # it would win over what holds for all
            own[name] = _laid(own[name], over, shape)


def _override_named(
    into: dict[str, Entry], kind: str, name: str, entry: Entry, mistakes: Mistakes
) -> None:
    """Override one watcher or one socket."""
    where, noun, value = f"{kind}.{name}", NAMED[kind], entry.value
    base = into.get(name)
    if base is None:
        whole = _MAKES_IT_WHOLE[kind]
        if isinstance(value, Map) and whole in value.entries:
            into[name] = entry
            return
        message = f"there is no {noun} '{name}' to override"
        near = did_you_mean(name, into) or f"a new {noun} needs {whole}"
        mistakes.at(entry.key, where, message, near)
        return
    shape = SOCKET if kind == "sockets" else WATCHER
    if isinstance(value, Map) and isinstance(base.value, Map) and shape is WATCHER:
        entry = Entry(entry.key, with_restart(value, where, mistakes))
        into[name] = Entry(base.key, with_restart(base.value, where, mistakes))
    _put(into, name, entry, shape)


def _put(into: dict[str, Entry], name: str, entry: Entry, shape: Shape) -> None:
    """Put one entry over what a map holds at its name."""
    value, before = entry.value, into.get(name)
    if _is_left_empty(value) and _holds_several(shape):
        return
    if is_null(value) and not _is_left_empty(value) and not _may_be_null(shape):
        into.pop(name, None)
        return
    inner = _inner(shape)
    if before is None or inner is None:
        into[name] = entry
    elif isinstance(value, Map) and isinstance(before.value, Map) and value.entries:
        into[name] = Entry(before.key, _laid(before.value, value, inner))
    else:
        into[name] = entry


def _laid(base: Map, over: Map, shape: Shape) -> Map:
    """Return a map with another one put over it."""
    size = base.size + over.size
    entries = dict(base.entries)
    for name, entry in over.entries.items():
        for pair in ALTERNATIVES:
            if name in pair and not is_null(entry.value):
                for other in set(pair) - over.entries.keys():
                    entries.pop(other, None)
        _put(entries, name, entry, _of(shape, name))
    return Map(base.file, base.line, base.column, entries, base.end_line, base.end_column, size)


def _of(shape: Shape, name: str) -> Shape:
    """Return the shape of what a map holds at a name."""
    if isinstance(shape, Block):
        return shape.fields[name][1] if name in shape.fields else _FREE
    return shape.value if isinstance(shape, MapOf) else _FREE


def _inner(shape: Shape) -> Shape | None:
    """Return as what two maps in a place are merged; None: they may be of two kinds, and the later one counts."""
    if not isinstance(shape, OneOf):
        return shape if isinstance(shape, Block | MapOf | Free) else None
    maps = [each for each in shape.choices if isinstance(each, Block | MapOf)]
    return maps[0] if len(maps) == 1 else None


def _holds_several(shape: Shape) -> bool:
    return isinstance(shape, Block | MapOf | ListOf) or item_of(shape) is not None


def _may_be_null(shape: Shape) -> bool:
    return shape.nullable or isinstance(shape, Free)


def _is_left_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and not node.text
