"""Nodes to plain data in the shape of the declarations: substitution, and fields that do not exist.

What does not fit a type is passed on as it is: `validate` says so with the place. What was reported here
is left out of the data (`SKIP`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reconciler.model.units import MODE
from reconciler.model.value import Part
from reconciler.specfile import foreign, hints
from reconciler.specfile.commands import (
    SplitError,
    first_word,
    holds_several,
    runs_shell,
    shell_syntax,
    split,
)
from reconciler.specfile.merge import is_null, says_nothing
from reconciler.specfile.shapes import (
    ANY_SCALAR,
    EXTENSION,
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    map_of,
)
from reconciler.specfile.substitute import SOCKET_FIELDS, Scope, SubstitutionError, expand
from reconciler.specfile.yaml_text import List, Map, Node, Scalar, core_value, value_of

if TYPE_CHECKING:
    from reconciler.specfile.mistakes import Mistakes

_REFERENCE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\{([A-Za-z_][A-Za-z0-9_]*)(:-)?")
_UNBRACED: Final = re.compile(r"(?<!\$)(?:\$\$)*\$([A-Z_][A-Z0-9_]*)")
_MAY_REFER: Final = re.compile(r"\$|%\(|\(\(|\{\{")

SKIP: Final = object()
"""Stands for a value that was reported already."""


class Resolver(Part):
    """Resolves the nodes of one scope."""

    scope: Scope
    mistakes: Mistakes

    def block(self, shape: Block, node: Map, where: str, inner: str = "") -> dict[str, object]:
        """Return the data of a block by attribute; unknown fields are reported and left out."""
        data: dict[str, object] = {}
        extensions: dict[str, object] = {}
        for name, entry in node.entries.items():
            path = f"{where}.{name}" if where else name
            declared = shape.fields.get(name)
            if declared is not None:
                if says_nothing(entry.value, declared):
                    continue
                about, inner_shape = declared
                value = self.value(
                    inner_shape, entry.value, path, f"{inner}.{name}" if inner else name
                )
                if value is not SKIP:
                    data[about.attribute] = value
            elif name.startswith(EXTENSION) and shape.extensible:
                extensions[name] = value_of(entry.value)
            else:
                hint = hints.for_unknown_field(name, shape.cls.__name__, shape.fields)
                self.mistakes.at(entry.key, path, f"unknown field '{name}'", hint)
        if shape.extensible:
            data["x"] = extensions
        return data

    def value(self, shape: Shape, node: Node, where: str, inner: str) -> object:
        """Return the data of one node; `inner` is the field's path within the watcher."""
        match shape:
            case Value():
                return self._scalar(shape, node, where, inner)
            case Words(per_slot):
                return self._words(node, where, inner, per_slot=per_slot)
            case Free():
                return value_of(node)
            case Block() if isinstance(node, Map):
                return self.block(shape, node, where, inner)
            case MapOf(value) if isinstance(node, Map):
                pairs = (
                    (k, self.value(value, e.value, f"{where}.{k}", inner))
                    for k, e in node.entries.items()
                )
                return {key: item for key, item in pairs if item is not SKIP}
            case ListOf(item):
                if isinstance(node, List):
                    return self._list(item, node, where, inner)
                return self._scalar(ANY_SCALAR, node, where, inner)
            case OneOf(_, (), _) if isinstance(node, Map) and (named := map_of(shape)) is not None:
                return self.value(named, node, where, inner)
            case OneOf(_, blocks, other):
                if blocks and isinstance(node, Map):
                    return self.block(shape.chosen(node.entries), node, where, inner)
                return self.value(other, node, where, inner)
            case _:
                return value_of(node)

    def _list(self, item: Shape, node: List, where: str, inner: str) -> object:
        items = [
            self.value(item, each, f"{where}[{i}]", inner) for i, each in enumerate(node.items)
        ]
        return SKIP if SKIP in items else items

    def _scalar(self, shape: Value, node: Node, where: str, inner: str) -> object:
        if not isinstance(node, Scalar):
            return value_of(node)
        is_mode = shape.kind is MODE
        if _MAY_REFER.search(node.text) is not None:
            self._check_as_written(node, where)
            text = self.text(node, node.text, where, inner, per_slot=shape.per_slot)
            if text is None:
                return SKIP
            return text if shape.verbatim or is_mode or shape.kind is str else core_value(text)
        # YAML would read 660 as a decimal number.
        as_written = shape.verbatim or not node.plain or (is_mode and not is_null(node))
        return node.text if as_written else core_value(node.text)

    def _words(self, node: Node, where: str, inner: str, *, per_slot: bool) -> object:
        """Return the words of a command. A text is split first, so that a variable stays in its word."""
        if isinstance(node, Scalar):
            if is_null(node):
                return None
            try:
                words = [(node, word) for word in split(node.text)]
            except SplitError as error:
                at = _within(node, error.offset)
                message = f"cannot split the command: {error}"
                self.mistakes.at(at, where, message, "or write a list of words")
                return SKIP
            self._check_for_shell(node, where, inner)
            texts = [self.text(one, word, where, inner, per_slot=per_slot) for one, word in words]
        elif isinstance(node, List):
            if not all(isinstance(item, Scalar) for item in node.items):
                return value_of(node)
            scalars = [item for item in node.items if isinstance(item, Scalar)]
            wrong = first_word([each.text for each in scalars[:1]])
            if wrong is not None:
                self.mistakes.at(node, where, wrong.message, _for_shell(wrong.hint, inner))
            elif not runs_shell([each.text for each in scalars]):
                for index, each in enumerate(scalars):
                    self._check_as_written(each, where)
                    if holds_several(each.text, is_first=index == 0):
                        message = (
                            "this is one word, with spaces in it: a list has a word in each item"
                        )
                        hint = "write an item for each word, or the command as one text"
                        self.mistakes.warn(each, where, message, hint)
            texts = [self.text(one, one.text, where, inner, per_slot=per_slot) for one in scalars]
        else:
            return value_of(node)
        return SKIP if None in texts else texts

    def _check_as_written(self, node: Scalar, where: str) -> None:
        """Warn of `$HOME` where no shell reads it; only of known names: `$` may belong to a password."""
        for name in _UNBRACED.findall(node.text):
            if name in self.scope.own or name in self.scope.environ:
                message = f"'${name}' is taken as it is written: no shell reads it"
                hint = f"write ${{env.{name}}} for the manager's variable, or $${name} when that is meant"
                self.mistakes.warn(node, where, message, hint)

    def _check_for_own(self, node: Scalar, text: str, where: str) -> None:
        """Warn of `${PORT:-3000}` where the process has a PORT of its own, which is never asked."""
        for name, default in _REFERENCE.findall(text) if "${" in text else ():
            if default and name in self.scope.own and name not in self.scope.variables:
                message = f"'${{{name}}}' means a variable of vars:, not the process's own {name}"
                hint = (
                    f"for the process's own write $${{{name}:-...}} and let a shell read it; for the"
                    f" manager's ${{env.{name}}}"
                )
                self.mistakes.warn(node, where, message, hint)

    def _check_for_shell(self, node: Scalar, where: str, inner: str) -> None:
        """Report what is written for a shell in a command that none runs."""
        folded = _is_folded(node)
        for each in shell_syntax(node.text, breaks_end=not folded):
            at = _within(node, each.offset)
            hint = _for_shell(each.hint, inner)
            if each.is_certain:
                self.mistakes.at(at, where, each.message, hint)
            else:
                self.mistakes.warn(at, where, each.message, hint)

    def text(
        self, node: Scalar, text: str, where: str, inner: str, *, per_slot: bool
    ) -> str | None:
        """Return expanded text, or None when that was a mistake, which is reported at the node."""
        sockets = per_slot and inner in SOCKET_FIELDS
        other = foreign.find(text)
        if other is not None:
            message = f"'{other.text}' is a variable of {other.tool}, and means nothing here"
            self.mistakes.at(node, where, message, other.hint)
            return None
        self._check_for_own(node, text, where)
        try:
            return expand(text, self.scope, per_slot=per_slot, sockets=sockets)
        except SubstitutionError as error:
            self.mistakes.at(node, where, error.message, error.hint)
            return None


def _is_folded(node: Scalar) -> bool:
    """Tell whether a text was written with `>`: whoever folds lines means one, also where YAML keeps a break."""
    source = node.file.lines[node.line - 1] if node.line <= len(node.file.lines) else ""
    return source[node.column - 1 : node.column] == ">" and node.end_line > node.line


def _within(node: Scalar, offset: int) -> Scalar:
    """Return the place in a scalar, where its source shows it as it is: in one line, without escapes."""
    source = node.file.lines[node.line - 1] if node.line <= len(node.file.lines) else ""
    begin = node.column - 1 + (0 if node.plain else 1)
    if node.line != node.end_line or source[begin : begin + len(node.text)] != node.text:
        return node
    column = begin + offset + 1
    return Scalar(node.file, node.line, column, node.line, column, node.text, node.plain)


def _for_shell(hint: str, inner: str) -> str:
    """Only the command of a watcher can be given a shell by a field."""
    return hint if inner == "cmd" else hint.replace("write: shell: true", "write: sh -c '...'")
