"""What is never shown: values whose name says that they are secret, passwords in commands and addresses.

A rule for what people write down without saying that it is secret; what is declared under `secrets` never
comes near an output. The names that hide their values are told in docs/guide/secrets.md:

    DB_PASSWORD, GITHUB_TOKEN, API_KEY, DATABASE_URL ...      by `SECRET_NAME`
    DB_PASSWORD_FILE, --token-path                            a path is shown: it is not the secret
    COMPASS, BYPASS, PASSENGER, max-passes, AUTHOR, PWD ...   are other words
    --password=VALUE, --password VALUE, NAME=VALUE            in a command, by the same names
    scheme://user:VALUE@host                                  in any text
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN: Final = "(hidden)"
MAX_SHOWN_LINE: Final = 200
"""Of a line that a process wrote, so much is shown beside its status or kept with a revision."""

SECRET_NAME: Final = re.compile(
    r"(?<!COM)(?<!BY)PASS(?!ENGER|ES)|(?<!^)(?<!OLD)PWD|SECRET|TOKEN(?!I[SZ])|CREDENTIAL|PRIVATE"
    r"|(?:API|ACCESS)[_-]?KEY|[_-]KEY$|(?<!no-)AUTH(?!ORS?(?:$|[_-]))|DSN|SALT|_URL$|_URI$",
    re.IGNORECASE,
)
"""Names of environment variables, options and fields whose values are hidden (URLs carry passwords)."""
_PLACE: Final = re.compile(r"[_-](?:FILE|PATH|DIR)S?$", re.IGNORECASE)
_NAMING: Final = re.compile(r"(?<![\w.-])([\w.-]++)=")
_OPTION: Final = re.compile(r"(?<![\w.-])--?([\w.-]++)[\"']?,?\s++[\"']?(?![\s\"'-])")
_WORD: Final = re.compile(r"[^\s\"',\]}]++")
_LOGIN: Final = re.compile(r"://[^\s/@:]{0,200}:([^\s/@]{1,200})@")

Span = tuple[int, int]


def is_secret_name(name: str) -> bool:
    """Tell whether the value of something with this name is never shown."""
    return SECRET_NAME.search(name) is not None and _PLACE.search(name) is None


def secret_spans(text: str) -> list[Span]:
    """Return the places in a text that are not to be shown: what follows a secret name, and logins."""
    found = [each.span(1) for each in _LOGIN.finditer(text)]
    for pattern in (_NAMING, _OPTION):
        for naming in pattern.finditer(text):
            word = _WORD.match(text, naming.end())
            if word is not None and is_secret_name(naming[1]):
                found.append(word.span())
    return found


def hide(text: str) -> str:
    """Return the text without what is not to be shown in it."""
    end = len(text)
    for left, right in sorted(secret_spans(text), reverse=True):
        if right <= end:
            text = text[:left] + HIDDEN + text[right:]
            end = left
    return text


def shown_lines(output: bytes) -> list[str]:
    """Return the lines of what a process wrote that are not blank, as they may be shown."""
    lines = (line.strip() for line in output.decode(errors="replace").splitlines())
    return [hide(line[:MAX_SHOWN_LINE]) for line in lines if line]


def hide_in_command(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command, those hidden that a secret name announces."""
    announced = False
    for word in words:
        if announced and not word.startswith("-"):
            yield HIDDEN
            announced = False
            continue
        name, equals, value = word.partition("=")
        secret = is_secret_name(name.lstrip("-")) and not set(name) & set(" /:")
        announced = secret and not equals and word.startswith("-")
        whole = secret and equals and value and word.split() == [word]
        yield f"{name}={HIDDEN}" if whole else hide(word)
