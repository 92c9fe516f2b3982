"""One-shot jobs: generations, and the runs of their slots."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.process import Exit
from reconciler.model.value import Struct, field

Outcome: TypeAlias = Literal["succeeded", "failed", "timeout", "stopped", "lost", "vetoed"]
Trigger: TypeAlias = Literal["first", "spec_change", "boot", "daemon_start", "lost", "operator"]


class Generation(Struct, frozen=True):
    """One firing of a job. `slots` None means every slot; else those that it fires."""

    number: int
    run_hash: str
    trigger: Trigger
    boot_id: str
    keeper_id: str
    slots: tuple[int, ...] | None = None
    replace: bool = False
    """Stop a slot of an older generation that still runs, instead of waiting for it."""
    who: str = ""
    """The operator who asked for it, empty when nobody did."""
    doubted: tuple[int, ...] = ()
    """Slots of a damaged ledger that may have run and that nobody has named since: it fires none of them."""


class Run(Struct, frozen=True):
    """One run of one slot; the row is on the disk before the process is. Open until it has an outcome."""

    slot: int
    generation: int
    keeper_id: str
    boot_id: str
    fired_at_ns: int
    """Monotonic, of this boot."""
    fired_wall_ns: int = 0
    """Since the epoch, for people; the store fills it in."""
    ended_wall_ns: int | None = None
    outcome: Outcome | None = None
    exit: Exit | None = None
    duration_ns: int | None = None
    note: str = ""
    trigger: Trigger = "first"
    who: str = ""
    pid: int | None = None

    @property
    def result(self) -> str:
        """Return in words what came of it, and why: `failed: exit 3`."""
        how = self.note or (str(self.exit) if self.exit is not None else "")
        return f"{self.outcome}: {how}" if how else f"{self.outcome}"


class Job(Struct, frozen=True):
    """What the ledger knows of one job: the newest generation and the newest run of each slot.

    `known` is False when the ledger was damaged: then nothing is fired until somebody reruns it.
    """

    generation: Generation | None = None
    runs: dict[int, Run] = field(default_factory=dict)
    known: bool = True
