"""How far the end of the keeper has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Asked:
    """Asked to stop; at `due_ns` the controller must have shown that it listens."""

    due_ns: int


@dataclass(frozen=True, slots=True)
class Terminating:
    """The controller does not answer: everything was sent TERM, and is sent KILL then."""

    due_ns: int


@dataclass(frozen=True, slots=True)
class Killing:
    """Everything was sent KILL, and is again until it is gone or nothing helps."""

    due_ns: int
    code: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Leaving:
    """Nothing is left but the controller, which was hung up on and may end by itself until then."""

    code: int
    due_ns: int


Ending: TypeAlias = Asked | Terminating | Killing | Leaving
