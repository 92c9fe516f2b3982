"""What applying a spec would do, and why: the entries of `reconcile plan`."""

from __future__ import annotations

from reconciler.model.job import Instant
from reconciler.model.status import Override
from reconciler.model.value import Struct, Word

How = Word[
    "create", "remove", "replace", "scale", "live", "fire", "bind", "rebind", "unbind", "none"
]
Effect = Word["none", "live", "restart", "rebind"]
Kind = Word["watcher", "socket", "daemon", "apply"]


class FieldChange(Struct, frozen=True):
    """One field that differs; values are shown as users write them, secrets never."""

    field: str = ""
    effect: Effect = "none"
    old: str = ""
    new: str = ""


class Change(Struct, frozen=True):
    """What happens to one watcher or socket: how, to which slots, and the fields that are the reason."""

    kind: Kind = "watcher"
    name: str = ""
    how: How = "none"
    message: str = ""
    """One sentence: `replaced one by one: env.COLOUR changed`."""
    slots: tuple[int, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    next_runs: tuple[Instant, ...] = ()
    """Of a job with a schedule: its next instants."""
    impact: str = ""
    """What it means meanwhile: slots that go on, sockets that stay open, who waits for whom."""


class Drift(Struct, frozen=True):
    """A watcher that an operator keeps otherwise than the spec says; applying the spec does not undo it."""

    name: str = ""
    overrides: tuple[Override, ...] = ()


class Plan(Struct, frozen=True):
    """The answer to `plan`, and to `apply` and `rollback` that carry it out."""

    revision: int = 0
    changes: tuple[Change, ...] = ()
    drift: tuple[Drift, ...] = ()
    applied: bool = False
    restores: int = 0
    """Of `rollback`: the revision whose content is taken again."""


class Difference(Struct, frozen=True):
    """The answer to `diff`: what revision `new` says otherwise than revision `old`."""

    old: int = 0
    new: int = 0
    changes: tuple[Change, ...] = ()
