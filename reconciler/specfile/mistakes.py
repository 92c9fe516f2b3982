"""The collector of mistakes: each once, with its place, its source line and no secret.

Values of `env` and of names that look secret are never shown: not in a message, not in an excerpt.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError
from reconciler.model.hiding import HIDDEN, Span, is_secret_name, secret_spans
from reconciler.model.value import replace
from reconciler.specfile.reading import SourceText, excerpt
from reconciler.specfile.yaml_text import List, Map, Node, Scalar, core_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MISTAKES: Final = 1_000
MAX_WARNINGS: Final = 100
_PLAIN: Final = re.compile(r"[\w./~][\w./~:+-]*")
_NAMED: Final = frozenset(("watchers", "plugins", "sockets"))
_SECRET_BLOCKS: Final = frozenset(("env", "vars", "secrets", "environment"))
_IN_LINE: Final = re.compile(r"""(?<![\w.-])([\w.-]++)["']?\s*+[:=]\s*+(?=\S)""")
_BLOCK_LINE: Final = re.compile(r"^(\s*)(?:- )?(?:env|vars|secrets|environment)\s*:")
_KEY: Final = re.compile(r"^(\s*(?:- )?[\w.-]+[\"']?\s*[:=]\s*)\S.*")

_MARGIN: Final = 160
"""Characters of a line that are looked at on both sides of a mistake: a line can be megabytes long."""
_LONGEST_WORD: Final = 4096


class Mistakes:
    """What was found wrong so far."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], SpecError] = {}
        self._warned: dict[tuple[str, int, int, str], SpecError] = {}
        self._texts: dict[str, SourceText] = {}
        self._roots: dict[str, Node] = {}
        self._spans: dict[str, dict[int, list[Span]]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def knows(self, file: SourceText, root: Node | None = None) -> None:
        """Take note of a file, so that its lines can be shown."""
        self._texts[file.path] = file
        if root is not None:
            self._roots[file.path] = root

    def report(self, error: SpecError) -> None:
        """Take a mistake, unless the same was found at the same place (by another user of an anchor)."""
        if len(self._found) < MAX_MISTAKES:
            self._found.setdefault((error.path, error.line, error.column, error.message), error)

    def at(self, node: Node, where: str, message: str, hint: str = "") -> None:
        """Take a mistake at a node; `where` is the field's path."""
        self.report(SpecError(node.file.path, node.line, node.column, where, message, hint))

    def unexpected(self, node: Node, where: str, expected: str, hint: str = "") -> None:
        """Take a mistake: something else stands at a node than was expected."""
        self.at(node, where, f"expected {expected}, found {found(node, where)}", hint)

    def warn(self, node: Node, where: str, message: str, hint: str = "") -> None:
        """Take something at a node that may be meant as it stands, and seldom is."""
        place = (node.file.path, node.line, node.column)
        if len(self._warned) < MAX_WARNINGS:
            self._warned.setdefault((*place, message), SpecError(*place, where, message, hint))

    def warnings(self) -> list[SpecError]:
        """Return all warnings in the order of their places, with their source lines."""
        return self._shown(self._warned.values())

    def all(self) -> list[SpecError]:
        """Return all mistakes in the order of their places, with their source lines."""
        shown = self._shown(self._found.values())
        if len(shown) == MAX_MISTAKES:
            message = f"there are more than {MAX_MISTAKES} mistakes, the rest is not shown"
            shown.append(SpecError(shown[-1].path, 0, 0, "", message))
        return shown

    def _shown(self, errors: Iterable[SpecError]) -> list[SpecError]:
        in_order = sorted(errors, key=lambda each: (each.path, each.line, each.column))
        return [self._with_excerpt(each) for each in in_order]

    def _with_excerpt(self, error: SpecError) -> SpecError:
        file = self._texts.get(error.path)
        if file is None or error.excerpt or not 0 < error.line <= len(file.lines):
            return error
        line, column = self._without_secrets(file, error.line, error.column)
        return replace(error, excerpt=excerpt(line, column))

    def _without_secrets(self, file: SourceText, line: int, column: int) -> tuple[str, int]:
        """Return what surrounds a column in its line, with secrets hidden, and the column in that."""
        root = self._roots.get(file.path)
        if root is None:
            return _masked_blindly(file, line, column)
        if file.path not in self._spans:
            self._spans[file.path] = _secret_spans(root, file.lines)
        text = file.lines[line - 1]
        low, high = max(0, column - 1 - _MARGIN), column - 1 + _MARGIN
        # What hides a word may stand before the part that is shown: look from a space on.
        start = max(text.rfind(" ", 0, low) + 1, low - _LONGEST_WORD)
        words = [(a + start, b + start) for a, b in secret_spans(text[start:high])]
        spans = self._spans[file.path].get(line, [])
        first = max(0, bisect(spans, (low, 0)) - 1)
        last = bisect(spans, (high, 0))
        return _masked(text[low:high], low, column, [*spans[first:last], *words])


def _masked(text: str, offset: int, column: int, spans: list[Span]) -> tuple[str, int]:
    """Return the text, which begins at `offset` of its line, with the spans hidden; and the new column."""
    at = column - offset
    end = len(text)
    for left, right in sorted(((a - offset, b - offset) for a, b in spans), reverse=True):
        left, right = max(left, 0), min(right, end)
        if right <= left:
            continue
        text = text[:left] + HIDDEN + text[right:]
        if column - offset - 1 >= right:
            at += len(HIDDEN) - (right - left)
        elif column - offset - 1 > left:
            at = left + 1
        end = left
    return text, at


def _masked_blindly(file: SourceText, line: int, column: int) -> tuple[str, int]:
    """Hide what looks secret in a file that could not be read, where nobody knows what is what."""
    text = file.lines[line - 1]
    indent = len(text) - len(text.lstrip())
    inside = _BLOCK_LINE.match(text) is not None
    for above in range(line - 2, max(line - 200, -1), -1):
        other = file.lines[above]
        depth = len(other) - len(other.lstrip())
        if other.strip() and depth < indent:
            inside = inside or _BLOCK_LINE.match(other) is not None
            indent = depth
    match = _KEY.match(text) if inside else None
    ends = [each.end() for each in _IN_LINE.finditer(text) if is_secret_name(each[1])]
    if match is not None:
        text = text[: match.end(1)] + HIDDEN
    elif ends:
        text = text[: ends[0]] + HIDDEN
    elif inside:
        text = text[: len(text) - len(text.lstrip())] + HIDDEN
    return text, min(column, len(text) + 1)


def _secret_spans(root: Node, lines: list[str]) -> dict[int, list[Span]]:
    """Return the places of the scalars that are not to be shown, in order, by line."""
    spans: dict[int, set[Span]] = {}
    for node in _secret_scalars(root):
        for line in range(node.line, min(node.end_line, len(lines)) + 1):
            text = lines[line - 1]
            left = node.column - 1 if line == node.line else len(text) - len(text.lstrip())
            right = node.end_column - 1 if line == node.end_line else len(text)
            if left < right:
                spans.setdefault(line, set()).add((left, right))
    return {line: sorted(each) for line, each in spans.items()}


def _secret_scalars(root: Node) -> Iterator[Scalar]:
    waiting: list[tuple[Node, bool, bool]] = [(root, False, False)]
    seen: set[tuple[int, bool]] = set()
    while waiting:
        node, secret, names = waiting.pop()
        if (id(node), secret) in seen:
            continue
        seen.add((id(node), secret))
        if isinstance(node, Scalar):
            if secret:
                yield node
        elif isinstance(node, List):
            waiting += [(item, secret, False) for item in node.items]
        else:
            for name, entry in node.entries.items():
                hidden = secret or (not names and _hides(name, entry.value))
                waiting.append((entry.value, hidden, node is root and name in _NAMED))
            waiting += [(each, secret, names) for each in node.repeated]


def _hides(name: str, value: Node) -> bool:
    block = isinstance(value, Map)
    return name in _SECRET_BLOCKS or (not block and is_secret_name(name))


def is_secret(where: str) -> bool:
    """Tell whether the value of a field is never shown.

    A watcher may be called `auth`: its name makes no secret of its fields.
    """
    parts = where.split(".")
    if parts[0] in _NAMED:
        del parts[1:2]
    return not _SECRET_BLOCKS.isdisjoint(parts) or is_secret_name(parts[-1])


def found(node: Node, where: str) -> str:
    """Return what stands at a node, for a message: `'two'`, `a map`, `nothing`; never a secret."""
    if isinstance(node, Map):
        return "a map"
    if isinstance(node, List):
        return "a list"
    if node.plain and core_value(node.text) is None:
        return f"{node.text or 'nothing'}"
    if is_secret(where):
        return "a value that is not shown"
    start = node.text[: 4 * _MARGIN]
    return quoted(_masked(start, 0, 1, secret_spans(start))[0])


def list_of(text: str) -> str:
    """Return a YAML list of one text, to be written in its place: in quotes where YAML would take it otherwise."""
    short = text[:40]
    return f"[{short}]" if _PLAIN.fullmatch(short) else f"[{json.dumps(short)}]"


def quoted(text: str) -> str:
    """Return text in quotes, safe for a terminal and not too long."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:61]
    )
    return f"'{shown[:60]}…'" if len(shown) > 60 else f"'{shown}'"
