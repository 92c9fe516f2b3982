"""The text of a command: its words as a shell would split them, and what only a shell would understand.

Quoting is that of POSIX (Shell Command Language, 2.2): single quotes keep everything; within double quotes
`$` and backquotes keep their meaning; a backslash keeps the next character, and with a line break both go.
`${...}` belongs to reconcile and is passed over whole.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.specfile.substitute import closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PLAIN_WORD: Final = re.compile(r"[^ \t\r\n]+")
_NEEDS_QUOTING_RULES: Final = frozenset("\"'\\")
_SPECIAL: Final = re.compile(r"[\\'\"$&|;<>*?{~#(`\n]")
"""A command without any of these holds nothing for a shell but its first word."""

_SHELLS: Final = frozenset(re.findall(r"\w+", "sh ash bash busybox dash fish ksh runuser su zsh"))
_OPERATOR: Final = re.compile(r"[0-9]*(?:>>|>&|<<|<&|&>|[<>])[0-9&-]*|&&|\|\||;;|[;&|]")
_PIECE: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | \\\r?\n
    | \\(?P<escaped>.)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | (?P<plain>[^ \t\r\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE_WITHIN_DOUBLE: Final = re.compile(r'\\(?:\r?\n|([$`"\\]))')
_COMMAND_SUBSTITUTION: Final = re.compile(r"\$\((?!circus\.)|`")
_QUOTES_OF_BASH: Final = re.compile(r"\$['\"]")
_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|[0-9@*#?!-])")
_GLOB: Final = re.compile(r"(?<![^\s\0])(?!\S*://)[^\s\0]*\*")
_GLOB_OF_ONE: Final = re.compile(
    r"(?<![^\s\0])(?![^\s\0]*(?:://|=))(?:[^\s\0?]*\?(?=[.*?])|\.{0,2}/[^\s\0?]*\?)"
)
_BRACES: Final = re.compile(r"(?<![$\0])\{(?:[^\s\0{}:,]*,[^\s\0{}:]*|[\w-]+\.\.[\w-]+)\}")
_HOME: Final = re.compile(r"(?<![^\s])~(?=[a-z_][a-z0-9_-]*(?:/|\s|$)|[/\s]|$)")
_COMMENT: Final = re.compile(r"(?<![^\s])#")
_LINE_BREAK: Final = re.compile(r"(?<=\S)[ \t\r]*\n\s*(?=\S)")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_PROGRAM_AND_MORE: Final = re.compile(r"[^\s/]+\s+\S|\S+\s+-")
_OPTION_AND_VALUE: Final = re.compile(r"--[a-z][a-z0-9-]*[ \t]+[^\s-]\S*$")
_WITH_A_SHELL: Final = "write: shell: true"
_OF_THE_SHELL: Final = re.findall(
    r"\S+", "! : [[ { alias builtin case eval exit for if return set shopt trap unset until while"
)
_FIRST_WORDS: Final = {
    "cd": "write: working_dir",
    "export": "write: env",
    "exec": "leave it out: the command is executed as it stands",
    "pushd": "write: working_dir",
    "ulimit": "write: limits",
    "umask": "write: umask",
    **dict.fromkeys(
        (".", "source"), f"{_WITH_A_SHELL}, or virtualenv: for an environment of Python"
    ),
    **dict.fromkeys(_OF_THE_SHELL, _WITH_A_SHELL),
}
"""Words that begin a command of a shell and are no programs, and what is written instead."""

_LITERAL, _BARE, _DOUBLE = "l", "b", "d"


class ShellSyntax(NamedTuple):
    """Something that only a shell understands: its place in the text, what is wrong, what to try.

    `is_certain`: the command cannot mean what it says; else it may be meant as it stands.
    """

    offset: int
    message: str
    hint: str
    is_certain: bool


class SplitError(ValueError):
    """A text that has no words: what is wrong with it, and the offset where that begins."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def split(text: str) -> list[str]:
    """Return the words of a command as a shell would split it. Raises `SplitError`.

    Most commands have no quotes, and their words are found faster. In the words that a shell would be
    told to take a dollar sign as it is (`\\$`), it is doubled: references are looked for afterwards. (shlex
    knows neither that one within double quotes nor a backslash that continues a line.)
    """
    if _NEEDS_QUOTING_RULES.isdisjoint(text):
        return _PLAIN_WORD.findall(text)
    words: list[str] = []
    word: str | None = None
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            message = (
                "a backslash at its end" if text[position] == "\\" else "the quotes are not closed"
            )
            raise SplitError(message, position)
        position = match.end()
        if match.lastgroup == "space":
            words += [] if word is None else [word]
            word = None
        elif match.lastgroup is not None:
            word = (word or "") + _unquoted(match.lastgroup, match[match.lastgroup])
    return words if word is None else [*words, word]


def _unquoted(kind: str, text: str) -> str:
    if kind == "double":
        return _ESCAPE_WITHIN_DOUBLE.sub(lambda m: "$$" if m[1] == "$" else m[1] or "", text)
    return "$$" if kind == "escaped" and text == "$" else text


def shell_syntax(text: str, *, breaks_end: bool = True) -> list[ShellSyntax]:
    """Return what is written for a shell in a command that none runs, in the order of its places.

    `breaks_end`: a line break ends a command, as a shell takes it; else it only separates words.
    """
    found: list[ShellSyntax] = []
    if _SPECIAL.search(text) is not None:
        kinds = _kinds(text)
        bare = _view(text, kinds, _BARE)
        found += [*_breaks(bare)] if breaks_end else []
        found += [*_operators(bare), *_patterns(bare), *_quotes_of_bash(text, bare)]
        found += _dollars(bare, _view(text, kinds, _DOUBLE), runs_shell=_has_script(text))
    first = first_word(text.split(maxsplit=1)[:1])
    if first is not None:
        found.append(first._replace(offset=len(text) - len(text.lstrip())))
    return sorted(found, key=lambda each: (each.offset, not each.is_certain))


def first_word(words: Sequence[str]) -> ShellSyntax | None:
    """Return what is wrong with the first word of a command, when only a shell could run it."""
    if not words:
        return None
    word = words[0]
    if word in _FIRST_WORDS:
        message = f"'{word}' is a command of the shell, not a program"
        return ShellSyntax(0, message, _FIRST_WORDS[word], True)
    if word.startswith("("):
        return ShellSyntax(0, "'(' needs a shell", _WITH_A_SHELL, True)
    match = _ASSIGNMENT.match(word)
    if match is not None:
        message = f"'{match[0]}' before a command needs a shell"
        return ShellSyntax(0, message, f"write: env: {{{match[0][:-1]}: ...}}", True)
    return None


def holds_several(word: str, *, is_first: bool) -> bool:
    """Tell whether an item of a list is a program with arguments, or an option with its value."""
    pattern = _PROGRAM_AND_MORE if is_first else _OPTION_AND_VALUE
    return pattern.match(word) is not None


def _breaks(bare: str) -> Iterator[ShellSyntax]:
    line_break = _LINE_BREAK.search(bare)
    if line_break is not None:
        message = "the line break ends a command for a shell; without one it only separates words"
        hint = f"{_WITH_A_SHELL}, or fold the lines: cmd: >-"
        yield ShellSyntax(line_break.start(), message, hint, True)


def _operators(bare: str) -> Iterator[ShellSyntax]:
    match = _OPERATOR.search(bare)
    if match is None:
        return
    before, after = bare[: match.start()], bare[match.end() :]
    if not before or before[-1].isspace() or not after or after[0].isspace():
        hint = f"{_WITH_A_SHELL}, or put it into quotes"
        yield ShellSyntax(match.start(), f"'{match[0]}' needs a shell", hint, True)
    else:
        yield _as_written(match.start(), match[0], "or put the word into quotes")


def _patterns(bare: str) -> Iterator[ShellSyntax]:
    patterns = ((_GLOB, "*"), (_GLOB_OF_ONE, "?"), (_HOME, "~"), (_COMMENT, "#"))
    for pattern, shown in patterns:
        match = pattern.search(bare)
        if match is not None:
            yield _as_written(match.end() - 1, shown, "or put it into quotes when that is meant")
    braces = _BRACES.search(bare)
    if braces is not None:
        what = "or put it into quotes when that is meant"
        yield _as_written(braces.start(), braces[0], what, "write: shell: bash")


def _quotes_of_bash(text: str, bare: str) -> Iterator[ShellSyntax]:
    for match in _QUOTES_OF_BASH.finditer(text):
        if bare[match.start()] == "$":
            message = f"'{match[0]}' begins quotes that only some shells know"
            yield ShellSyntax(match.start(), message, "write: shell: bash", True)
            return


def _dollars(bare: str, double: str, *, runs_shell: bool) -> Iterator[ShellSyntax]:
    """What `$` and backquotes begin; within the double quotes of `sh -c "..."` they are for that shell."""
    match = _COMMAND_SUBSTITUTION.search(bare)
    if match is not None:
        yield ShellSyntax(match.start(), f"'{match[0]}' needs a shell", _WITH_A_SHELL, True)
    for view in [bare] if runs_shell else [bare, double]:
        match = _VARIABLE.search(view)
        if match is not None:
            hint = f"or $${match[0][1:]} when that is meant"
            if match[1] is not None:
                hint = f"or write ${{env.{match[1]}}} for the manager's variable, {hint}"
            yield _as_written(match.start(), match[0], hint)


def _as_written(offset: int, what: str, hint: str, mend: str = _WITH_A_SHELL) -> ShellSyntax:
    message = f"'{what}' is passed to the program as it is written: no shell runs this command"
    return ShellSyntax(offset, message, f"{mend}, {hint}", False)


def _has_script(text: str) -> bool:
    try:
        return runs_shell(split(text))
    except SplitError:
        return False


def runs_shell(words: Sequence[str]) -> bool:
    """Tell whether a command runs a shell with a script of its own: `sh -c ...`, `env X=1 bash -lc ...`."""
    for index, word in enumerate(words[:-1]):
        if os.path.basename(word) in _SHELLS:
            options = [each for each in words[index + 1 :] if re.fullmatch(r"-[a-z]*c", each)]
            return bool(options)
    return False


def _view(text: str, kinds: str, kind: str) -> str:
    """Return the text with all but one kind of characters blotted out; the places stay."""
    return "".join(c if each == kind else "\0" for c, each in zip(text, kinds, strict=True))


def _kinds(text: str) -> str:
    """Return for each character whether it is literal, bare or in double quotes."""
    kinds: list[str] = []
    quote, position = "", 0
    while position < len(text):
        character = text[position]
        length, kind = 1, _DOUBLE if quote == '"' else _BARE
        if quote == "'":
            kind = _LITERAL
            quote = "" if character == "'" else quote
        elif character == "\\":
            broken = re.match(r"\\\r?\n", text[position : position + 3])
            length, kind = len(broken[0]) if broken else 2, _LITERAL
        elif character == '"' or (character == "'" and not quote):
            quote, kind = ("" if quote else character), _LITERAL
        elif text.startswith("$$", position):
            length, kind = 2, _LITERAL
        elif text.startswith("${", position):
            end = closing(text, position + 2)
            length, kind = (len(text) if end is None else end + 1) - position, _LITERAL
        kinds += kind * min(length, len(text) - position)
        position += length
    return "".join(kinds)
