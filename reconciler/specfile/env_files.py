"""Files of NAME=value lines, as `env_file:` names them.

    # a comment
    export NAME=value      # `export` may be there; a comment needs a space before it
    NAME='as it is, $HOME and all'
    NAME="with \\n, \\t, \\" and \\\\"; within quotes a value may go
    over several lines"

Values are final text: nothing in them is substituted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError
from reconciler.specfile.yaml_text import Scalar

if TYPE_CHECKING:
    from reconciler.specfile.mistakes import Mistakes
    from reconciler.specfile.reading import Reader, SourceText

_LINE: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*=[ \t]*")
_BREAK: Final = re.compile("\r\n|[\r\n]")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE: Final = re.compile(r"'([^']*)'")
_END: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_NAME_ALONE: Final = re.compile(r"\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*")
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_ESCAPE: Final = re.compile(r"""\\([ntr"'\\$`])""")
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}
_VARIABLE: Final = re.compile(
    r"(?<![$\\])\$(?:\{(?P<braced>[A-Za-z_]\w*)[}:]|(?P<name>[A-Za-z_]\w*))"
)


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
    """Return the values of a file; lines that make no sense are reported, never shown.

    Of several such lines on end the first is reported: they are the rest of a value that went over
    several lines.
    """
    values: dict[str, str] = {}
    text = _BREAK.sub("\n", file.text)
    position, makes_sense = 0, True
    references: list[tuple[int, re.Match[str]]] = []
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end]
        match = _LINE.match(line)
        if not line.strip() or line.lstrip().startswith("#"):
            position = end + 1
        elif match is None:
            if makes_sense:
                at = _at(file, text, position + len(line) - len(line.lstrip()))
                hint = "a comment begins with #; a value of several lines stands in quotes"
                if _NAME_ALONE.fullmatch(line):
                    hint = f"{hint}; inherit_env: passes on the manager's variables"
                mistakes.at(at, "", "expected NAME=value", hint)
            position, makes_sense = end + 1, False
        else:
            begin, name, makes_sense = position + match.end(), match["name"], True
            value, position = _value(text, begin, end)
            if value is None:
                message = f"the quotes of {name} are not closed, or something follows them"
                hint = f"for a key or a certificate use secrets: {{{name}: {{file: ...}}}}"
                mistakes.at(_at(file, text, begin), name, message, hint)
            else:
                values[name] = value
            if value and "$" in value and text[begin] != "'":
                references += [(begin, each) for each in _VARIABLE.finditer(text, begin, position)]
    for begin, match in references:
        # `$NAME` alone may belong to a password, unless the file has such a name.
        if match["braced"] or match["name"] in values:
            _warn_of_reference(match["braced"] or match["name"], _at(file, text, begin), mistakes)
    return values


def _warn_of_reference(name: str, at: Scalar, mistakes: Mistakes) -> None:
    message = f"a reference to {name} is taken as it is written: nothing is replaced in this file"
    hint = (
        f"write the value, or put it into single quotes when that is meant; in env: ${{env.{name}}}"
    )
    mistakes.warn(at, "", message, f"{hint} is the manager's variable")


def _at(file: SourceText, text: str, position: int) -> Scalar:
    """Return a place in the text of a file, which has other line breaks."""
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return Scalar(file, line, column, line, column, "", plain=True)


def _value(text: str, begin: int, end: int) -> tuple[str | None, int]:
    """Return a value and where the next line begins; None: its quotes are not closed, or something follows.

    A value in quotes may go over several lines. Where the quotes are never closed the rest is not looked
    at: nobody knows what in it belongs to the value.
    """
    if not text.startswith(("'", '"'), begin):
        return _COMMENT.sub("", text[begin:end]).strip(), end + 1
    double = text[begin] == '"'
    match = (_DOUBLE if double else _SINGLE).match(text, begin)
    if match is None:
        return None, len(text)
    after = _END.match(text, match.end())
    if after is None:
        line_end = text.find("\n", match.end())
        return None, len(text) if line_end < 0 else line_end + 1
    value = _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), match[1]) if double else match[1]
    return value, max(after.end(), match.end())
