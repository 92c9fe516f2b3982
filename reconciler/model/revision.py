"""Revisions of the applied spec: what each has to prove, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from reconciler.model.units import SECOND_NS

OnFailure: TypeAlias = Literal["pause", "rollback", "keep"]
RevisionOutcome: TypeAlias = Literal[
    "pending", "good", "paused", "rolled_back", "failed", "superseded"
]
"""`pending`: on trial. `good`: all that it changed stayed up. `paused`: it did not, and its roll has stopped.
`rolled_back`: it did not, or an operator did not want it, and an older one was put in its place. `failed`:
it did not, and goes on all the same. `superseded`: the next one came before anything was known."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a revision has to prove: that all it changed stays up for `confirm_after` (nanoseconds).

    `changed` are the watchers of which it starts processes, each with the lowest slot that it starts.
    Nothing that happened before `begun_ns` (monotonic, of the present keeper) counts against it.
    """

    changed: Mapping[str, int] = field(default_factory=dict)
    begun_ns: int = 0
    confirm_after: int = 10 * SECOND_NS
    on_failure: OnFailure = "pause"
    outcome: RevisionOutcome = "pending"
    reason: str = ""
    """Why it is not good, in a sentence."""

    @property
    def stops_roll(self) -> bool:
        """Tell whether slots that still run as before shall stay so."""
        return self.outcome in {"paused", "rolled_back"}
