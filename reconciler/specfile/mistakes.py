"""The collector of mistakes: each once, with its place, its source line and no secret.

Values of `env` and of names that look secret are never shown: not in a message, not in an excerpt.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError
from reconciler.specfile.reading import SourceText, excerpt
from reconciler.specfile.yaml_text import List, Map, Node, Scalar, core_value

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MISTAKES: Final = 1_000
HIDDEN: Final = "***"

_SECRET: Final = re.compile(
    r"pass|pwd|secret|token|credential|private|api_?key|auth|dsn|salt", re.IGNORECASE
)
_NAMED: Final = frozenset(("watchers", "sockets"))
_SECRET_BLOCKS: Final = frozenset(("env", "vars", "secrets", "environment"))
_ARGUMENT: Final = re.compile(
    r"[\w.-]*(?:pass|pwd|secret|token|credential|private|api_?key|auth)[\w.-]*=([^\s\"',\]}]+)",
    re.IGNORECASE,
)
"""As in `--password=...`."""
_IN_LINE: Final = re.compile(
    r"""([\w.-]*(?:pass|pwd|secret|token|credential|private|api_?key|auth|dsn|salt)[\w.-]*["']?\s*[:=]\s*)\S.*""",
    re.IGNORECASE,
)
_BLOCK_LINE: Final = re.compile(r"^(\s*)(?:- )?(?:env|vars|secrets|environment)\s*:")
_KEY: Final = re.compile(r"^(\s*(?:- )?[\w.-]+[\"']?\s*[:=]\s*)\S.*")

_Span = tuple[int, int, int, int]


class Mistakes:
    """What was found wrong so far."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], SpecError] = {}
        self._texts: dict[str, SourceText] = {}
        self._roots: dict[str, Node] = {}
        self._spans: dict[str, list[_Span]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def knows(self, file: SourceText, root: Node | None = None) -> None:
        """Take note of a file, so that its lines can be shown."""
        self._texts[file.path] = file
        if root is not None:
            self._roots[file.path] = root

    def report(self, error: SpecError) -> None:
        """Take a mistake, unless the same was found at the same place (by another user of an anchor)."""
        key = (error.path, error.line, error.column, error.message)
        if key not in self._found and len(self._found) < MAX_MISTAKES:
            self._found[key] = error

    def at(self, node: Node, where: str, message: str, hint: str = "") -> None:
        """Take a mistake at a node; `where` is the field's path."""
        self.report(SpecError(node.file.path, node.line, node.column, where, message, hint))

    def all(self) -> tuple[SpecError, ...]:
        """Return all mistakes in the order of their places, with their source lines."""
        errors = sorted(self._found.values(), key=lambda e: (e.path, e.line, e.column))
        shown = [self._with_excerpt(error) for error in errors]
        if len(shown) == MAX_MISTAKES:
            message = f"there are more than {MAX_MISTAKES} mistakes, the rest is not shown"
            shown.append(SpecError(shown[-1].path, 0, 0, "", message))
        return tuple(shown)

    def _with_excerpt(self, error: SpecError) -> SpecError:
        file = self._texts.get(error.path)
        if file is None or error.excerpt or not 0 < error.line <= len(file.lines):
            return error
        line, column = self._without_secrets(file, error.line, error.column)
        return replace(error, excerpt=excerpt(line, column))

    def _without_secrets(self, file: SourceText, line: int, column: int) -> tuple[str, int]:
        text = file.lines[line - 1]
        root = self._roots.get(file.path)
        if root is None:
            return _masked_blindly(file, line, column)
        if file.path not in self._spans:
            self._spans[file.path] = list(_secret_spans(root))
        masked, at = text, column
        words = [(line, m.start(1) + 1, line, m.end(1) + 1) for m in _ARGUMENT.finditer(text)]
        for first, start, last, end in sorted([*self._spans[file.path], *words], reverse=True):
            if not first <= line <= last:
                continue
            left = start - 1 if line == first else len(text) - len(text.lstrip())
            right = end - 1 if line == last else len(masked)
            if right <= left:
                continue
            masked = masked[:left] + HIDDEN + masked[right:]
            if column - 1 >= right:
                at += len(HIDDEN) - (right - left)
            elif column - 1 > left:
                at = left + 1
        return masked, at


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
    match = _KEY.match(text) if inside else _IN_LINE.search(text)
    if match is not None:
        text = text[: match.end(1)] + HIDDEN
    elif inside:
        text = text[: len(text) - len(text.lstrip())] + HIDDEN
    return text, min(column, len(text) + 1)


def _secret_spans(root: Node) -> Iterator[_Span]:
    """Yield the places of the scalars that are not to be shown."""
    waiting: list[tuple[Node, bool, bool]] = [(root, False, False)]
    seen: set[tuple[int, bool]] = set()
    while waiting:
        node, secret, names = waiting.pop()
        if (id(node), secret) in seen:
            continue
        seen.add((id(node), secret))
        if isinstance(node, Scalar):
            if secret:
                yield node.line, node.column, node.end_line, node.end_column
        elif isinstance(node, List):
            waiting += [(item, secret, False) for item in node.items]
        else:
            for name, entry in node.entries.items():
                hidden = secret or (not names and _hides(name, entry.value))
                waiting.append((entry.value, hidden, node is root and name in _NAMED))
            waiting += [(each, secret, names) for each in node.repeated]


def _hides(name: str, value: Node) -> bool:
    block = isinstance(value, Map)
    return name in _SECRET_BLOCKS or (not block and _SECRET.search(name) is not None)


def is_secret(where: str) -> bool:
    """Tell whether the value of a field is never shown.

    A watcher may be called `auth`: its name makes no secret of its fields.
    """
    parts = where.split(".")
    if parts[0] in _NAMED:
        del parts[1:2]
    return not _SECRET_BLOCKS.isdisjoint(parts) or _SECRET.search(parts[-1]) is not None


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
    return quoted(_ARGUMENT.sub(lambda m: m[0].replace(m[1], HIDDEN), node.text))


def quoted(text: str) -> str:
    """Return text in quotes, safe for a terminal and not too long."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:61]
    )
    return f"'{shown[:60]}…'" if len(shown) > 60 else f"'{shown}'"
