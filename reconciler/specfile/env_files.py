"""Files of NAME=value lines, as `env_file:` names them.

    # a comment
    export NAME=value      # `export` may be there; a comment needs a space before it
    NAME='as it is, $HOME and all'
    NAME="with \\n, \\t, \\" and \\\\"

Values are final text: nothing in them is substituted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError

if TYPE_CHECKING:
    from reconciler.specfile.mistakes import Mistakes
    from reconciler.specfile.reading import Reader, SourceText

_LINE: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*=[ \t]*")
_BREAK: Final = re.compile("\r\n|[\r\n]")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$')
_SINGLE: Final = re.compile(r"'([^']*)'\s*(?:#.*)?$")
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}


class EnvFiles:
    """Reads each file once, however many watchers name it."""

    def __init__(self, reader: Reader, mistakes: Mistakes) -> None:
        self._reader = reader
        self._mistakes = mistakes
        self._known: dict[str, dict[str, str] | SpecError] = {}

    def read(self, path: str) -> dict[str, str] | SpecError:
        """Return the values of a file, or why it cannot be read. Mistakes within it are reported."""
        if path not in self._known:
            text = self._reader.read(path)
            self._known[path] = text if isinstance(text, SpecError) else parse(text, self._mistakes)
        return self._known[path]


def parse(file: SourceText, mistakes: Mistakes) -> dict[str, str]:
    """Return the values of a file; lines that make no sense are reported, never shown."""
    values: dict[str, str] = {}
    for number, line in enumerate(_BREAK.split(file.text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            column = len(line) - len(line.lstrip()) + 1
            mistakes.report(
                SpecError(
                    file.path, number, column, "", "expected NAME=value", "a comment begins with #"
                )
            )
            continue
        value = _value(line[match.end() :])
        if value is None:
            message = f"the quotes of {match['name']} are not closed in its line, or something follows them"
            mistakes.report(
                SpecError(
                    file.path,
                    number,
                    match.end() + 1,
                    match["name"],
                    message,
                    'write \\n for a line break, in "..."',
                )
            )
            continue
        values[match["name"]] = value
    return values


def _value(text: str) -> str | None:
    if text.startswith('"'):
        match = _DOUBLE.match(text)
        return None if match is None else _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), match[1])
    if text.startswith("'"):
        match = _SINGLE.match(text)
        return None if match is None else match[1]
    return _COMMENT.sub("", text).strip()
