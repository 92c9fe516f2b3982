"""Several files to one document, and `defaults` to each watcher.

The order of files never matters: what two of them say differently is a mistake that names both places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.model.value import Part, field
from reconciler.specfile import hints
from reconciler.specfile.shapes import DOCUMENT, EXTENSION, Block, Shape, item_of, map_of
from reconciler.specfile.yaml_text import Entry, List, Map, Node, Scalar, core_value, value_of

if TYPE_CHECKING:
    from reconciler.model.spec import Field
    from reconciler.specfile.mistakes import Mistakes

VERSION: Final = 1
OF_ONE_FILE: Final = ("defaults", "env")
"""What an included file says for its own watchers only; what the file that includes it says holds for all."""
NAMES_FILES: Final = ("include", "overrides")
NAMED: Final = {"watchers": "watcher", "plugins": "plugin", "sockets": "socket"}
ALTERNATIVES: Final = (
    *(("python", "cmd"), ("file", "to"), ("url", "port")),
    ("http", "tcp", "unix", "exec", "log", "delay", "notify"),
)
"""Fields of which a block has one: a watcher's choice displaces the other one of `defaults`."""


class Definition(Entry):
    """A watcher or a plugin as it is written, with its path: `plugins.web`."""

    where: str


class Merged(Part):
    """All files as one document: the entries of each top-level map, and the extension keys.

    `included` has, by the path of an included file, what concerns only the watchers of that file.
    """

    maps: dict[str, Map] = field(default_factory=dict)
    extensions: dict[str, Entry] = field(default_factory=dict)
    included: dict[str, dict[str, Map]] = field(default_factory=dict)

    def definitions(self, name: str) -> dict[str, Definition]:
        """Return the entries of `watchers` or `plugins`."""
        entries = self.entries(name).items()
        return {each: Definition(e.key, e.value, f"{name}.{each}") for each, e in entries}

    def entries(self, name: str) -> dict[str, Entry]:
        """Return the entries of a top-level map."""
        found = self.maps.get(name)
        return found.entries if found is not None else {}


def merge_documents(roots: list[Map], included: list[Map], mistakes: Mistakes) -> Merged:
    """Return all files as one document: those that were given, and those that they include."""
    merged = Merged()
    for root in roots:
        for name, entry in root.entries.items():
            _take(merged.maps, merged, name, entry, mistakes)
    for root in included:
        own: dict[str, Map] = {}
        for name, entry in root.entries.items():
            into = own if name in OF_ONE_FILE else merged.maps
            _take(into, merged, name, entry, mistakes)
        if own:
            merged.included[root.file.path] = own
    return merged


def _take(
    maps: dict[str, Map], merged: Merged, name: str, entry: Entry, mistakes: Mistakes
) -> None:
    value = entry.value
    if name.startswith(EXTENSION):
        _join(merged.extensions, {name: entry}, "", mistakes)
    elif name == "version":
        check_version(value, mistakes)
    elif name in NAMES_FILES:
        pass  # it was followed already
    elif is_map_of_document(name, entry, mistakes) and isinstance(value, Map):
        into = maps.setdefault(name, Map(value.file, value.line, value.column, {}))
        _join(into.entries, value.entries, name, mistakes)


def is_map_of_document(name: str, entry: Entry, mistakes: Mistakes) -> bool:
    """Tell whether a field is one that a spec has, and holds a map; what else it holds is reported."""
    if name not in DOCUMENT.fields:
        hint = hints.for_unknown_field(name, DOCUMENT.cls.__name__, DOCUMENT.fields)
        mistakes.at(entry.key, name, f"unknown field '{name}'", hint)
    elif not isinstance(entry.value, Map) and not is_null(entry.value):
        is_list = name in NAMED and isinstance(entry.value, List)
        hint = f"write: {name}: {{NAME: {{...}}}}, without the dash" if is_list else ""
        mistakes.unexpected(entry.value, name, "a map", hint)
    return name in DOCUMENT.fields and isinstance(entry.value, Map)


def check_version(value: Node, mistakes: Mistakes) -> None:
    """Report a version of the language that this program does not know."""
    number = core_value(value.text) if isinstance(value, Scalar) else None
    if number == VERSION and not isinstance(number, bool | float):
        return
    if isinstance(number, int) and not isinstance(number, bool) and number > VERSION:
        message = f"this spec is written in version {number} of the language, this program knows {VERSION}"
        mistakes.at(value, "version", message, "use a newer reconcile")
        return
    mistakes.unexpected(value, "version", str(VERSION))


def is_null(node: Node) -> bool:
    """Tell whether a node says null, or nothing."""
    return isinstance(node, Scalar) and node.plain and core_value(node.text) is None


def says_nothing(node: Node, declared: tuple[Field, Shape]) -> bool:
    """Tell whether a block, a map or a list is left empty, as when all that is in it is commented out."""
    field, shape = declared
    empty = is_null(node) and (
        isinstance(shape, Block) or map_of(shape) or item_of(shape) is not None
    )
    return empty and not field.required and field.default is not None


def place_of(node: Node) -> str:
    """Return `path:line:column` of a node."""
    return f"{node.file.path}:{node.line}:{node.column}"


def _join(
    into: dict[str, Entry], entries: dict[str, Entry], where: str, mistakes: Mistakes
) -> None:
    """Take entries into a map: watchers and sockets are defined once, what else is given twice must agree."""
    for name, entry in entries.items():
        first = into.setdefault(name, entry)
        if first is entry:
            continue
        path = f"{where}.{name}" if where else name
        one, other = first.value, entry.value
        if where in NAMED:
            message = f"the {NAMED[where]} '{name}' is defined twice, also at {place_of(first.key)}"
            mistakes.at(entry.key, path, message, "rename or remove one of them")
        elif isinstance(one, Map) and isinstance(other, Map):
            size = one.size + other.size
            both = Map(one.file, one.line, one.column, dict(one.entries), size=size)
            _join(both.entries, other.entries, path, mistakes)
            into[name] = Entry(first.key, both)
        elif not (isinstance(one, Scalar) and isinstance(other, Scalar) and one.text == other.text):
            message = (
                f"'{name}' is given twice with different values, also at {place_of(first.key)}"
            )
            mistakes.at(entry.key, path, message, "keep one of them")


def with_defaults(own: Map, defaults: Map | None, shape: Block) -> Map:
    """Return a block with what it does not say itself taken from `defaults`: blocks by key, the rest whole.

    A map written as `{}` says that it takes nothing.
    """
    if defaults is None or not defaults.entries:
        return own
    entries = dict(own.entries)
    for name, default in defaults.entries.items():
        mine = entries.get(name)
        declared = shape.fields.get(name)
        if mine is None or (declared is not None and says_nothing(mine.value, declared)):
            if not any(name in pair and (set(pair) & own.entries.keys()) for pair in ALTERNATIVES):
                entries[name] = default
            continue
        if (
            declared is None
            or not isinstance(mine.value, Map)
            or not isinstance(default.value, Map)
        ):
            continue
        entries[name] = Entry(mine.key, _merged_value(mine.value, default.value, declared[1]))
    return Map(own.file, own.line, own.column, entries, own.end_line, own.end_column)


def _merged_value(own: Map, default: Map, shape: Shape) -> Map:
    if not own.entries:
        return own
    if isinstance(shape, Block):
        return with_defaults(own, default, shape)
    if map_of(shape) is not None:
        return Map(own.file, own.line, own.column, default.entries | own.entries)
    return own


def with_restart(own: Map, where: str, mistakes: Mistakes) -> Map:
    """Return a watcher in which the alias `respawn` is written as `restart`."""
    alias = own.entries.get("respawn")
    if alias is None:
        return own
    entries = {name: entry for name, entry in own.entries.items() if name != "respawn"}
    value, path, hint = (
        value_of(alias.value),
        f"{where}.respawn",
        "respawn: false is restart: never",
    )
    if not isinstance(value, bool):
        mistakes.unexpected(alias.value, path, "true or false", hint)
    elif "restart" in entries:
        message = "'respawn' and 'restart' are given both"
        mistakes.at(alias.key, path, message, f"keep restart; {hint}")
    else:
        node = alias.value
        text = "always" if value else "never"
        scalar = Scalar(node.file, node.line, node.column, node.line, node.column, text, plain=True)
        entries["restart"] = Entry(alias.key, scalar)
    return Map(own.file, own.line, own.column, entries, own.end_line, own.end_column)
