"""One-shot jobs: generations, and the runs of their slots."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.process import Exit
from reconciler.model.value import Struct, field

Outcome: TypeAlias = Literal["succeeded", "failed", "timeout", "stopped", "lost", "vetoed"]
Trigger: TypeAlias = Literal[
    "first", "spec_change", "files_changed", "boot", "daemon_start", "lost", "operator", "schedule"
]


class Instant(Struct, frozen=True):
    """An instant of a schedule: since the epoch, and as people read it in its time zone (2026-12-01 03:00 CET)."""

    at_ns: int
    shown: str = ""


class Passed(Struct, frozen=True):
    """An instant that was passed over, and why."""

    instant: Instant
    why: Literal["missed", "overlap"]
    """missed: nobody was there to fire it in time. overlap: the former run had not ended."""


class Timetable(Struct, frozen=True):
    """How far the schedule of a job has come; in nanoseconds since the epoch."""

    timing: str
    """Of which schedule (`ScheduleSpec.timing`)."""
    since_ns: int | None
    """Instants up to this one are dealt with; None: the schedule is not in force, and no instant counts."""
    fired: tuple[tuple[int, int], ...] = ()
    """From which instant to which all were fired, the newest last: none is fired again, whatever the clock does."""
    passed: Passed | None = None
    """The newest that was passed over since the last was fired."""


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
    instant: Instant | None = None
    """The instant of its schedule that it was fired for."""
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
    instant_ns: int | None = None
    """The instant of its schedule that it was fired for, since the epoch."""

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
    timetable: Timetable | None = None
    """None: it never had a schedule."""
