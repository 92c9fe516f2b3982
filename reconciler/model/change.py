"""What applying a spec would do, and why: the entries of `reconcile plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from reconciler.model.status import OperatorWord

How: TypeAlias = Literal[
    "create", "remove", "replace", "scale", "live", "fire", "bind", "rebind", "unbind", "none"
]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs; values are shown as users write them, secrets never."""

    field: str
    effect: Literal["none", "live", "restart", "rebind"]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one watcher or socket: how, to which slots, and the fields that are the reason."""

    kind: Literal["watcher", "socket", "daemon", "apply"]
    name: str
    how: How
    message: str
    """One sentence: `replaced one by one: env.COLOUR changed`."""
    slots: tuple[int, ...] = ()
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """A watcher that an operator keeps otherwise than the spec says; applying the spec does not undo it."""

    name: str
    words: tuple[OperatorWord, ...]
