"""Revisions of the applied spec: what each has to prove, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from reconciler.model.units import SECOND_NS
from reconciler.model.value import Struct, field

OnFailure: TypeAlias = Literal["pause", "rollback", "keep"]
RevisionOutcome: TypeAlias = Literal[
    "pending", "good", "paused", "rolled_back", "failed", "superseded"
]
"""`pending`: on trial. `good`: all that it changed stayed up. `paused`: it did not, and its roll has stopped.
`rolled_back`: it did not, or an operator did not want it, and an older one was put in its place. `failed`:
it did not, and goes on all the same. `superseded`: the next one came before anything was known."""


class Trial(Struct, frozen=True):
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
    """Why it is good or not, in a sentence."""
    watcher: str = ""
    """Whose process decided against it."""

    @property
    def stops_roll(self) -> bool:
        """Tell whether slots that still run as before shall stay so."""
        return self.outcome in {"paused", "rolled_back"}


class Outlook(Struct, frozen=True):
    """When a trial is over if nothing happens (monotonic); None: nobody can tell, and `reason` says what it waits for.

    With an instant, `reason` says why that is later than usual; mostly it is empty.
    """

    due_ns: int | None
    reason: str = ""


class Revision(Struct, frozen=True):
    """One entry of the history of applied specs; its content lies in the store."""

    number: int
    wall_ns: int = 0
    who: str = ""
    """Who applied it, as people are told: a user, or `saved files`."""
    uid: int | None = None
    digest: str = ""
    """Over the paths and contents of the files that it was read from."""
    commit: str = ""
    """The commit that the files were checked out at, empty when they lie in no repository."""
    dirty: bool = False
    """The files are not as they are in that commit."""
    restores: int = 0
    """The older revision whose content it took again; 0: it was read from files."""
    files_differ: bool = False
    """The files say something else, and are left aside until they change."""
    trial: Trial = field(default_factory=Trial)
    judged_wall_ns: int | None = None
    log: tuple[str, ...] = ()
    """The last lines that the process wrote for which it is not good."""

    @property
    def outcome(self) -> RevisionOutcome:
        """Return what came of it."""
        return self.trial.outcome

    @property
    def place(self) -> int:
        """Return the number of the revision whose content it has, first of all."""
        return self.restores or self.number
