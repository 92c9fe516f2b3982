"""`${name}` and its kin: what may stand in text, and what becomes of it.

    $$                  a dollar sign
    ${name}             a variable of `vars:`
    ${env.NAME}         the environment of the manager
    ${x-name}           an extension key, the watcher's before the spec's
    ${hostname}         the name of the machine
    ${watcher}          the name of the watcher
    ${slot}             the number of the slot             }
    ${slot+7999}        that and a number, also ${slot-1}  } stay as they are, for the core to expand
    ${slot:02}          with zeros up to a width           } when a slot is known
    ${sockets.NAME}     the descriptor of a socket         }
    ${name:-default}    the default when it is unset or empty (also for env. and x-)

A dollar sign before anything else is itself. Text for a slot (`PER_SLOT`) stays a template: what is final
in it has its dollar signs doubled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from reconciler.model.units import SLOT_PATTERN
from reconciler.model.value import Part, Struct
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.reading import is_unicode
from reconciler.specfile.shapes import WATCHER, Block, MapOf, OneOf, Shape, Value, Words
from reconciler.specfile.yaml_text import Scalar

OWN_WORDS: Final = frozenset(("slot", "watcher", "hostname"))
"""Names that mean something by themselves."""
MAX_TEXT: Final = 2**20
"""Characters that one text may expand to: variables that double each other are refused here."""
_MAX_DEPTH: Final = 32
_REFERENCE: Final = re.compile(r"\$(\$|\{)")
_OTHER_DEFAULT: Final = re.compile(r"([A-Z_][A-Z0-9_]*)-")
"""`${PORT-3000}`, which other tools read as a default; here a dash belongs to the name."""
_SLOT: Final = re.compile(SLOT_PATTERN)
_NEAR_SLOT: Final = re.compile(r"slot\s*[^\w.-]|slot\s*-\s*\d|slot\s+-")
"""What can only be meant as something about a slot; `slot-name` is the name of a variable."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


SOCKET_FIELDS: Final = ("cmd", "env", "stop.cmd", "reload.cmd")
"""Fields of a watcher in which `${sockets.NAME}` may stand: only the process itself inherits sockets."""


def _slot_fields(shape: Shape, path: str) -> list[str]:
    match shape:
        case Block(_, fields):
            return [
                each
                for name, (_, inner) in fields.items()
                for each in _slot_fields(inner, f"{path}.{name}")
            ]
        case OneOf(choices):
            return [each for one in choices for each in _slot_fields(one, path)]
        case MapOf(value):
            return _slot_fields(value, path)
        case Words(per_slot=True) | Value(per_slot=True):
            return [path.lstrip(".")]
        case _:
            return []


def _summary(fields: list[str]) -> str:
    short = {"hooks": "hooks.*.cmd", "ready": "all of ready", "health": "all of health"}
    *most, last = dict.fromkeys(short.get(each.partition(".")[0], each) for each in fields)
    return f"{', '.join(most)} and {last}"


SLOT_PLACES: Final = _summary(_slot_fields(WATCHER, ""))
SOCKET_PLACES: Final = _summary(list(SOCKET_FIELDS))


class SubstitutionError(ValueError):
    """A text cannot be expanded: message, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Scope(Struct, frozen=True):
    """What names mean. `watcher` None: outside of a watcher; `own`: the variables of its environment."""

    variables: Mapping[str, Scalar]
    environ: Mapping[str, str]
    extensions: Mapping[str, Scalar]
    sockets: Mapping[str, object]
    watcher: str | None = None
    own: frozenset[str] = frozenset()
    hostname: str = ""


def expand(text: str, scope: Scope, *, per_slot: bool, sockets: bool) -> str:
    """Return the text with its references resolved. Raises `SubstitutionError`.

    `per_slot`: it stays a template; `sockets`: it may name sockets.
    """
    if "$" not in text:
        return text
    return _Expansion(scope, per_slot, sockets).text(text, ())


class _Expansion(Part):
    scope: Scope
    per_slot: bool
    sockets: bool
    length: int = 0

    def text(self, text: str, inside: tuple[str, ...]) -> str:
        if len(inside) > _MAX_DEPTH:
            msg = "variables stand in each other more than 32 deep"
            raise SubstitutionError(msg)
        parts = []
        position = 0
        while (match := _REFERENCE.search(text, position)) is not None:
            parts.append(self._literal(text[position : match.start()]))
            if match[1] == "$":
                parts.append("$$" if self.per_slot else "$")
                position = match.end()
                continue
            end = closing(text, match.end())
            if end is None:
                msg = "'${' is not closed by a '}'"
                hint = "in a command, quote a default with spaces; a dollar sign is written $$"
                raise SubstitutionError(msg, hint)
            parts.append(self._reference(text[match.end() : end], inside))
            position = end + 1
        parts.append(self._literal(text[position:]))
        return "".join(parts)

    def _literal(self, text: str) -> str:
        """A single dollar sign at the end could meet a brace that comes from a variable."""
        self.length += len(text)
        if self.length > MAX_TEXT:
            msg = f"the text is longer than {MAX_TEXT} characters when its variables are put in"
            raise SubstitutionError(msg)
        return text + "$" if self.per_slot and text.endswith("$") else text

    def _final(self, value: str) -> str:
        self.length += len(value)
        return value.replace("$", "$$") if self.per_slot else value

    def _reference(self, body: str, inside: tuple[str, ...]) -> str:
        name, separator, default = body.partition(":-")
        if name.startswith("sockets."):
            return self._socket(body)
        if _SLOT.fullmatch(body) or _NEAR_SLOT.match(body):
            return self._slot(body)
        if name == "watcher" and not separator:
            return self._watcher()
        value = self._value(name, inside)
        if separator:
            return value or self.text(default, inside)
        if value is None:
            raise self._unset(name)
        return value

    def _value(self, name: str, inside: tuple[str, ...]) -> str | None:
        """Return the expanded value of a name, None when it is not set."""
        if name.startswith("env."):
            value = self.scope.environ.get(name.removeprefix("env."))
            if value is not None and not is_unicode(value):
                msg = f"the environment variable '{name.removeprefix('env.')}' is not UTF-8 text"
                raise SubstitutionError(msg)
            return None if value is None else self._final(value)
        if name == "hostname":
            return self._final(self.scope.hostname)
        known = self.scope.extensions if name.startswith("x-") else self.scope.variables
        if not _NAME.fullmatch(name):
            msg = f"cannot read '${{{name[:40]}}}': expected a name"
            raise SubstitutionError(
                msg, "a dollar sign is written $$, so that a shell sees ${ when $${ is written"
            )
        node = known.get(name)
        if node is None:
            return None
        if name in inside:
            msg = f"'${{{name}}}' stands inside of its own value"
            raise SubstitutionError(msg, " -> ".join((*inside, name)))
        return self.text(node.text, (*inside, name))

    def _slot(self, body: str) -> str:
        if body.startswith("slot:-"):
            msg = "${slot} has no default"
            raise SubstitutionError(msg, "it is always set: write ${slot}")
        if not _SLOT.fullmatch(body):
            msg = f"cannot read '${{{body[:40]}}}'"
            raise SubstitutionError(msg, _slot_hint(body))
        if not self.per_slot:
            msg = f"'${{{body}}}' cannot be used here"
            raise SubstitutionError(msg, f"it may be used in {SLOT_PLACES}")
        return f"${{{body}}}"

    def _watcher(self) -> str:
        if self.scope.watcher is None:
            msg = "'${watcher}' cannot be used outside of a watcher"
            raise SubstitutionError(msg)
        return self._final(self.scope.watcher)

    def _socket(self, body: str) -> str:
        name = body.removeprefix("sockets.")
        if not self.sockets:
            msg = f"'${{{body}}}' cannot be used here"
            raise SubstitutionError(msg, f"it may be used in {SOCKET_PLACES}")
        if name not in self.scope.sockets:
            msg = f"there is no socket '{name}'"
            raise SubstitutionError(msg, did_you_mean(name, self.scope.sockets, what="sockets"))
        return f"${{{body}}}"

    def _unset(self, name: str) -> SubstitutionError:
        default = f"give a default: ${{{name}:-...}}"
        if name.startswith("env."):
            short = name.removeprefix("env.")
            near = did_you_mean(short, self.scope.environ)
            message = f"the environment variable '{short}' is not set"
            return SubstitutionError(message, near or default)
        if name.startswith("x-"):
            near = did_you_mean(name, self.scope.extensions)
            return SubstitutionError(f"'{name}' is not set, or is not text", near or default)
        message = f"the variable '{name}' is not set"
        if name in self.scope.own:
            hint = f"for the process's own {name} write $${{{name}}}, which a shell or the program reads"
            return SubstitutionError(message, hint)
        other = _OTHER_DEFAULT.match(name)
        if other is not None:
            return SubstitutionError(message, f"a default is written ${{{other[1]}:-...}}")
        if name in self.scope.environ:
            hint = f"write ${{env.{name}}} for the environment's, or $${{{name}}} to leave it to a shell"
            return SubstitutionError(message, hint)
        near = did_you_mean(name, [*self.scope.variables, *OWN_WORDS])
        hint = (
            f"set it in vars:, or {default}; for a shell or the program to read write $${{{name}}}"
        )
        return SubstitutionError(message, near or hint)


def _slot_hint(body: str) -> str:
    """Return what is written instead of something about a slot that cannot be read."""
    closer = "".join(body.split())
    if _SLOT.fullmatch(closer):
        return f"write: ${{{closer}}}"
    if re.match(r"slot-\d", closer):
        return "slots count from 1: only ${slot-1} is never below 0"
    return "a number is added, as in ${slot+7999}, or ${slot-1}; a width is written ${slot:02} or ${slot+7999:05}"


def closing(text: str, start: int) -> int | None:
    """Return the index of the brace that closes the reference whose body starts there."""
    depth = 1
    for match in re.finditer(r"\$\$|\$\{|\}", text[start:]):
        if match[0] != "$$":
            depth += 1 if match[0] == "${" else -1
        if depth == 0:
            return start + match.start()
    return None
