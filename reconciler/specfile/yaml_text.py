"""YAML text to nodes with places.

The parser's events are composed here and not by PyYAML, because its composer recurses, keeps the last of
two equal keys without a word, and follows aliases without counting. Scalars stay text; what an unquoted
one means is decided by `core_value`, by the core schema of YAML 1.2 (so `no` and `022` are text).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias

import yaml

from reconciler.model.errors import SpecError
from reconciler.model.value import Part, field

if TYPE_CHECKING:
    from reconciler.specfile.reading import SourceText

MAX_NESTING: Final = 64
MAX_SIZE: Final = 2_000_000
"""Size of one file with every alias expanded: a value counts one, and one more for every 16 characters."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Scalar(Part):
    """A scalar as written; `plain` without quotes. Not frozen, as all nodes: there are many of them."""

    file: SourceText
    line: int
    column: int
    end_line: int
    end_column: int
    text: str
    plain: bool


class Entry(Part):
    """One key with its value."""

    key: Scalar
    value: Node


class Map(Part):
    """A mapping; merges are worked in."""

    file: SourceText
    line: int
    column: int
    entries: dict[str, Entry]
    end_line: int = 0
    end_column: int = 0
    size: int = 1
    height: int = 1
    repeated: list[Node] = field(default_factory=list)
    """Values of keys that were given before: a mistake, but what is secret in them stays so."""

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None when it is not there."""
        entry = self.entries.get(key)
        return None if entry is None else entry.value


class List(Part):
    """A sequence."""

    file: SourceText
    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    end_line: int = 0
    end_column: int = 0
    size: int = 1
    height: int = 1


Node: TypeAlias = Scalar | Map | List
Report: TypeAlias = Callable[[SpecError], None]


def size_of(node: Node) -> int:
    """Return how much a node is when all aliases in it are expanded, in the unit of `MAX_SIZE`."""
    return 1 + len(node.text) // 16 if isinstance(node, Scalar) else node.size


class _Refused(Exception):
    """The text cannot be composed; carries its mistake."""

    def __init__(self, error: SpecError) -> None:
        super().__init__(error.message)
        self.error = error


def compose(file: SourceText, report: Report) -> Node | None:
    """Return the root node of a file; None when it holds nothing or the mistake was reported.

    Mistakes that leave the rest readable (equal keys) are reported, and composing goes on.
    """
    try:
        return _Composer(file, report).document()
    except _Refused as refused:
        report(refused.error)
    except yaml.MarkedYAMLError as error:
        report(_syntax_error(file, error))
    except yaml.YAMLError as error:
        report(SpecError(file.path, 0, 0, "", f"cannot read the YAML: {error}".partition("\n")[0]))
    return None


_TOO_DEEP: Final = f"nested deeper than {MAX_NESTING} levels"
_UNCLOSED: Final = "the quotes or brackets that begin here are not closed"
_SYNTAX: Final = (
    ("mapping values are not allowed", "found a second ':' in one entry",
     "quote the value, or check the indentation"),
    ("did not find expected node content", "expected a value here", ""),
    ("could not find expected ':'", "expected ':' after this key", "write: key: value"),
    ("did not find expected key", "expected a key or the end of the block",
     "check the indentation and the quotes of the lines above"),
    ("expected ',' or", _UNCLOSED, ""),
    ("did not find expected alphabetic or numeric character", "a value that begins with '*' or '&' needs quotes",
     'write: cron: "*/5 * * * *"'),
    ("unexpected end of stream", _UNCLOSED, ""),
    # Where brackets alone open what lies ahead, libyaml comes to its own limit before we come to ours.
    ("exceeded maximum nesting depth", _TOO_DEEP, ""),
)  # fmt: skip
"""libyaml's words and ours. Those of its messages that blame the end of the file are placed at the beginning."""
_AT_THE_BEGINNING: Final = ("could not find", "expected ',' or", "end of stream")


def _syntax_error(file: SourceText, error: yaml.MarkedYAMLError) -> SpecError:
    problem = str(error.problem or error.context or "it is not YAML")
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and any(words in problem for words in _AT_THE_BEGINNING):
        mark = error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    text = file.lines[line - 1] if 0 < line <= len(file.lines) else ""
    if "cannot start any token" in problem:
        found = text[column - 1 : column]
        message, hint = f"a value cannot begin with '{found}'", "put the value into quotes"
        if found == "\t":
            message, hint = "found a tab where YAML wants spaces", "indent with spaces"
        return SpecError(file.path, line, column, "", message, hint)
    reference = _unquoted_reference(file, error)
    if reference is not None:
        return reference
    for words, message, hint in _SYNTAX:
        if words in problem:
            return SpecError(file.path, line, column, "", message, hint)
    context = f" {error.context}" if error.context else ""
    return SpecError(file.path, line, column, "", f"cannot read the YAML: {problem}{context}")


def _unquoted_reference(file: SourceText, error: yaml.MarkedYAMLError) -> SpecError | None:
    """Return the mistake that `${...}` stands without quotes inside of { } or [ ]: there braces are YAML's."""
    mark = error.problem_mark
    if mark is None or "flow" not in str(error.context) or mark.line >= len(file.lines):
        return None
    before = file.lines[mark.line][: mark.column]
    if not before.endswith("$"):
        return None
    begin = max(before.rfind(sign) + len(sign) for sign in (": ", ", ", "[", "{"))
    message = "text with ${...} needs quotes inside of { } and [ ]"
    hint = 'put it into quotes: "...${...}..."'
    return SpecError(file.path, mark.line + 1, max(begin, 0) + 1, "", message, hint)


class _Composer:
    """Composes one file; what its depth is limited to bounds the recursion."""

    def __init__(self, file: SourceText, report: Report) -> None:
        self._file = file
        self._report = report
        self._loader = _Loader(file.text)
        self._anchors: dict[str, Node] = {}
        self._open: list[Map | List] = []
        """Collections whose end has not come yet."""
        self._above: list[str] = []
        """The keys that lead to what is composed."""
        self._aliases_size = 0

    def document(self) -> Node | None:
        """Return the root of the only document."""
        documents, root = 0, None
        try:
            while not isinstance(event := self._loader.get_event(), yaml.StreamEndEvent):
                if isinstance(event, yaml.NodeEvent):
                    root = self._node(event)
                elif isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        message = "a spec file holds one document, found a second '---'"
                        self._refuse(event, message, "put it into a file of its own and include it")
        finally:
            self._loader.dispose()
        return root

    def _node(self, event: yaml.Event) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            tag = re.sub("^tag:yaml.org,2002:", "!!", tag)
            self._refuse(event, f"tags are not used in a spec, found {tag}", "leave it out")
        start = _place(event.start_mark)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            end = _place(event.end_mark)
            node = Scalar(self._file, *start, *end, event.value, plain=not event.style)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Map(self._file, *start, {})
        else:
            node = List(self._file, *start)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = node
        if not isinstance(node, Scalar):
            if len(self._open) >= MAX_NESTING:
                self._refuse(event, _TOO_DEEP, "")
            self._open.append(node)
            last = self._items(node) if isinstance(node, List) else self._entries(node)
            node.end_line, node.end_column = _place(last.end_mark)
            self._open.pop()
        return node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            message = f"*{event.anchor} stands for nothing: there is no &{event.anchor} above"
            self._refuse(event, message, "")
        if any(each is node for each in self._open):
            self._refuse(event, f"*{event.anchor} stands inside of what it stands for", "")
        self._aliases_size += size_of(node)
        if self._aliases_size > MAX_SIZE:
            self._refuse(event, "the aliases of this file expand to more than 32 MiB", "")
        if not isinstance(node, Scalar) and len(self._open) + node.height > MAX_NESTING:
            self._refuse(event, _TOO_DEEP, "")
        return node

    def _items(self, into: List) -> yaml.Event:
        """Fill a list, and return the event that ends it."""
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            item = self._node(event)
            into.items.append(item)
            into.size += size_of(item)
            if not isinstance(item, Scalar):
                into.height = max(into.height, item.height + 1)
        return event

    def _entries(self, into: Map) -> yaml.Event:
        """Fill a map, and return the event that ends it."""
        merges: list[Entry] = []
        above = self._above
        above.append("")
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._node(event)
            if not isinstance(key, Scalar):
                self._refuse(event, "a key must be text", "")
            above[-1] = key.text
            value = self._node(self._loader.get_event())
            into.size += size_of(value)
            if not isinstance(value, Scalar):
                into.height = max(into.height, value.height + 1)
            if key.text == "<<" and key.plain:
                merges.append(Entry(key, value))
                if len(merges) > 1:
                    message = f"'<<' is given twice, the first time in line {merges[0].key.line}"
                    hint = "write one list, in which the first wins: <<: [*a, *b]"
                    self._mistake(key, "", message, hint)
            elif key.text in into.entries:
                first = into.entries[key.text].key
                message = f"'{key.text}' is given twice, the first time in line {first.line}, column {first.column}"
                into.repeated.append(Map(self._file, 0, 0, {key.text: Entry(key, value)}))
                self._mistake(key, ".".join(above), message, "keep one of them")
            else:
                into.entries[key.text] = Entry(key, value)
        above.pop()
        for merge in merges:
            self._merge(into, merge)
        return event

    def _merge(self, into: Map, merge: Entry) -> None:
        """Work in what `<<` names: keys that are there win, then the earlier of several maps."""
        sources = merge.value.items if isinstance(merge.value, List) else [merge.value]
        for source in sources:
            if not isinstance(source, Map):
                message = "expected a map, or a list of maps, after <<"
                hint = "<<: *name takes over the entries of what is marked &name"
                self._mistake(merge.key, "", message, hint)
                return
            for name, entry in source.entries.items():
                into.entries.setdefault(name, entry)

    def _mistake(self, at: Scalar, where: str, message: str, hint: str) -> None:
        self._report(SpecError(self._file.path, at.line, at.column, where, message, hint))

    def _refuse(self, event: yaml.Event, message: str, hint: str) -> NoReturn:
        place = _place(event.start_mark)
        raise _Refused(SpecError(self._file.path, *place, "", message, hint))


class _Mark(Protocol):
    """A place as both of PyYAML's parsers give it, from 0."""

    line: int
    column: int


def _place(mark: _Mark | None) -> tuple[int, int]:
    """Return line and column, from 1."""
    assert mark is not None, "events of a parser have marks"
    return mark.line + 1, mark.column + 1


_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL: Final = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INT: Final = re.compile(r"0|[-+]?[1-9][0-9]{0,18}")
_BASED: Final = re.compile(r"0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}")
_LARGEST: Final = 2**63 - 1
_FLOAT: Final = re.compile(
    r"(?=.*[.eE])[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
)


def core_value(text: str) -> str | int | float | bool | None:
    """Return what unquoted text means: null, true, false, a number, or itself (YAML 1.2 core schema).

    A whole number has no leading zeros: `022` stays text, for modes. So does what not every reader of a
    spec could take: infinity, NaN, and whole numbers of more than 64 bits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INT.fullmatch(text) or _BASED.fullmatch(text):
        whole = int(text, 0)
        return whole if -_LARGEST <= whole <= _LARGEST else text
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def value_of(node: Node) -> object:
    """Return the plain value of a node: maps, lists and scalars, as far down as it goes."""
    if isinstance(node, Scalar):
        return core_value(node.text) if node.plain else node.text
    if isinstance(node, List):
        return [value_of(item) for item in node.items]
    return {name: value_of(entry.value) for name, entry in node.entries.items()}
