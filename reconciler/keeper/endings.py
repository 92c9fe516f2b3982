"""How far the end of the keeper has come."""

from __future__ import annotations

from typing import TypeAlias

from reconciler.model.value import Struct


class Asked(Struct, frozen=True):
    """Asked to stop; at `due_ns` the controller must have shown that it listens."""

    due_ns: int


class Terminating(Struct, frozen=True):
    """The controller does not answer: everything was sent TERM, and is sent KILL then."""

    due_ns: int


class Killing(Struct, frozen=True):
    """Everything was sent KILL, and is again until it is gone or nothing helps."""

    due_ns: int
    code: int
    times: int = 1


class Leaving(Struct, frozen=True):
    """Nothing is left but the controller, which was hung up on and may end by itself until then."""

    code: int
    due_ns: int


Ending: TypeAlias = Asked | Terminating | Killing | Leaving
