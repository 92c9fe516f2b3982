"""The slots of one watcher as one plan sees them: made once for that plan, and asked by all that takes part in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from reconciler.model.observed import WatcherObserved
from reconciler.model.process import MAIN, Exited, ProcessId, ProcessRecord, Requested, Starting
from reconciler.model.status import SlotState
from reconciler.model.value import Part, Struct, field

URGENCY: Final[tuple[SlotState, ...]] = (
    *("Failed", "Unknown", "BackOff", "Failing", "Waiting", "Stopping", "Starting"),
    *("Running", "Completed", "Idle", "Scheduled", "Held", "Stopped"),
)
"""States of slots, the one first that people have to know of."""


class SlotCondition(Struct, frozen=True):
    """What a slot does, or what keeps it from running. Times are monotonic, 0 is unknown."""

    state: SlotState
    note: str = ""
    since_ns: int = 0
    next_ns: int | None = None
    """When it goes on by itself."""
    outdated: bool = False
    """Its process runs, but not as the spec now says."""
    of_older_spec: bool = False
    """It is outdated by the spec or its secrets, and not only by a restart or by files that are watched."""
    held_back: bool = False
    """It would be replaced, but was too often already."""
    runs: bool = False
    """Its program runs and is not being stopped; and it is ready."""
    ready: bool = False
    began: bool = False
    """Of a run that has ended: its program was executed."""
    stuck: bool = False
    """It waits for another watcher, which does not come to what is waited for by itself."""
    waits_for: str = ""
    """What it waits for of another watcher, without how that stands."""
    surplus: bool = False
    """It is beyond those that there are to be: what it has come to counts for nobody who waits for the watcher."""


BEING_STARTED: Final = SlotCondition("Starting", "is being started")


class Slots(Part):
    """Which slots a plan looks at, and their own processes.

    Of the others it is known what they do, and that nothing is to be done for them: whatever would change that has them
    looked at.
    """

    name: str
    observed: WatcherObserved
    looked_at: frozenset[int] | None = None
    """None: all."""
    awaited_elsewhere: int = 0
    """So many of the others does the watcher as a whole wait for, see `Plan.awaited`."""
    failed_elsewhere: int = 0
    """So many of them has failed what took the place of another one, see `Plan.failed`."""
    unhealthy_elsewhere: int = 0
    """So many of them run and are unhealthy."""
    resting_elsewhere: int = 0
    """So many of them stay down, see `Plan.resting`."""
    serving_elsewhere: int = 0
    """So many of them serve beyond those wanted, see `Plan.serving`."""
    put_off_elsewhere: int = 0
    """So many of them wait for their turn to be replaced."""
    beyond: AbstractSet[int] = frozenset()
    """Those beyond the wanted ones, whether looked at or not, see `Plan.beyond`."""
    mains: dict[int, ProcessRecord] = field(default_factory=dict)
    """The records of their own processes, dead or alive, in order."""
    forgotten: set[int] = field(default_factory=set)
    """Whose record this plan lets go of: for all that is still decided they are gone."""
    is_starting: bool = False
    """A process of one of them is asked for, and does not run yet."""
    _starts: list[tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if self.looked_at is None:
            self.mains = dict(sorted(self._all()))
        else:
            mains = ((slot, self.main(slot)) for slot in sorted(self.looked_at))
            self.mains = {slot: record for slot, record in mains if record is not None}

    def main(self, slot: int) -> ProcessRecord | None:
        """Return the record of a slot's own process, whether the plan looks at it or not."""
        return self.observed.records.get(ProcessId(self.name, slot))

    def _all(self) -> Iterator[tuple[int, ProcessRecord]]:
        records, gone = self.observed.records.items(), self.forgotten
        return ((id.slot, it) for id, it in records if id.role == MAIN and id.slot not in gone)

    def all_mains(self) -> dict[int, ProcessRecord]:
        """Return the own processes of all slots."""
        return dict(self.mains) if self.looked_at is None else dict(sorted(self._all()))

    def any_main(self) -> ProcessRecord | None:
        """Return the own process of some slot, first of those that are looked at; None: no slot has a record."""
        found = next(iter(self.mains.values()), None)
        return found or next((record for _, record in self._all()), None)

    def desired(self, want: int) -> Sequence[int]:
        """Return which of the slots from 1 to `want` are to be looked at."""
        if self.looked_at is None:
            return range(1, want + 1)
        return sorted(slot for slot in self.looked_at if 0 < slot <= want)

    def among(self, slots: Collection[int]) -> Collection[int]:
        """Return which of some slots are to be looked at."""
        if self.looked_at is None:
            return slots
        return [slot for slot in self.looked_at if slot in slots]

    def newest_starts(self) -> Sequence[tuple[int, int]] | None:
        """Return the two newest starts of slots, newest first, with the slots; None while one is being started."""
        if self._starts is None:
            starts = []
            for slot, record in self.mains.items():
                if isinstance(record.phase, Requested | Starting):
                    self.is_starting = True
                else:
                    starts.append((record.phase.started_at_ns or 0, slot))
            self._starts = sorted(starts, reverse=True)[:2]
        return None if self.is_starting else self._starts


def is_gone(record: ProcessRecord) -> bool:
    """Tell whether a process is dead and, where the scope in force asks for that, its descendants too."""
    return isinstance(record.phase, Exited) and not record.phase.survivors
