"""What an order of an operator does to one watcher, and what has to come about until it is done."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.intent import Intent
from reconciler.model.job import Generation
from reconciler.model.observation import Observation
from reconciler.model.spec import DependencyCondition
from reconciler.model.value import Struct

Taken: TypeAlias = Literal["accepted", "skipped", "refused"]
"""What became of an order: skipped is a watcher that a glob or label selects and that it says nothing to."""


Awaited: TypeAlias = DependencyCondition | Literal["stopped"]
"""What may be waited for without an order."""
GoalKind: TypeAlias = Literal["up", "down", "ended", "reloaded"] | Awaited


class Goal(Struct, frozen=True):
    """When an order is done with one watcher, or a wait for it is over.

    up: the slots run as the spec now says. down: nothing runs in them. ended: the runs of a job have, those of
    generation `number` or newer. reloaded: the processes that ran have carried out reload `number`.
    The others are not of an order: it has come to that condition as the spec now says, stopped: nothing runs in it.
    A value, not a state: whoever waits may ask the next controller with the same one.
    """

    name: str
    kind: GoalKind
    slots: tuple[int, ...] = ()
    """Empty: all that there are."""
    number: int = 0


class Judged(Struct, frozen=True):
    """Whether a goal has come about; `failed` is for good: waiting longer changes nothing."""

    state: Literal["open", "done", "failed"]
    message: str = ""


class Decision(Struct, frozen=True):
    """What one order does to one watcher: what is written down, what the core is told, and what people are."""

    message: str
    taken: Taken = "accepted"
    goal: Goal | None = None
    """None: there is nothing to wait for."""
    intent: Intent | None = None
    generation: Generation | None = None
    observations: tuple[Observation, ...] = ()
    fired: tuple[int, ...] = ()
    """Slots of a job that it fires."""
    queued: tuple[int, ...] = ()
    """Those of them that it fires once their present run has ended."""
    running: tuple[int, ...] = ()
    """Slots of a job that it leaves alone because they still run."""
