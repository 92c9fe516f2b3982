"""What applying a spec would do, and why: the entries of `reconcile plan`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.status import OperatorWord
from reconciler.model.value import Struct

How: TypeAlias = Literal[
    "create", "remove", "replace", "scale", "live", "fire", "bind", "rebind", "unbind", "none"
]


class FieldChange(Struct, frozen=True):
    """One field that differs; values are shown as users write them, secrets never."""

    field: str
    effect: Literal["none", "live", "restart", "rebind"]
    old: str
    new: str


class Change(Struct, frozen=True):
    """What happens to one watcher or socket: how, to which slots, and the fields that are the reason."""

    kind: Literal["watcher", "socket", "daemon", "apply"]
    name: str
    how: How
    message: str
    """One sentence: `replaced one by one: env.COLOUR changed`."""
    slots: tuple[int, ...] = ()
    fields: tuple[FieldChange, ...] = ()


class Drift(Struct, frozen=True):
    """A watcher that an operator keeps otherwise than the spec says; applying the spec does not undo it."""

    name: str
    words: tuple[OperatorWord, ...]
