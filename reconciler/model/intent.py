"""What an operator asked for by hand; it outlives edits, crashes and reboots until it is undone or over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler.model.value import Struct, field


class Until(Struct, frozen=True):
    """When an override ends by itself.

    While the machine is up the monotonic clock decides, `at_ns` in the boot `boot_id`: a jump of the wall
    clock neither ends a hold nor prolongs it. That clock stands still while the machine is suspended, so a
    suspended hour does not count; whoever stopped a service for two hours finds it stopped for two waking
    hours, never for less. Only the wall clock knows how long a machine was off: after a boot `wall_ns`
    decides, and a clock that is wrong then (boards without one begin in 1970) can cost at most `length_ns`
    more. See `core.intents.recalled`.
    """

    length_ns: int
    at_ns: int
    wall_ns: int
    boot_id: str


class RequestedBy(Struct, frozen=True):
    """Who requested it, why, when (nanoseconds since the epoch), and until when it is in force."""

    who: str = ""
    why: str = ""
    wall_ns: int = 0
    until: Until | None = None
    """None: until someone drops it."""


NOBODY = RequestedBy()


class Intent(Struct, frozen=True):
    """What operators set by hand and requested of one watcher.

    `hold` stopped: it rests, whatever the spec says; started: it runs in spite of `autostart: false`.
    `scale` is the number of processes in place of the spec's.
    `restart_tokens` go up by one at each restart, by slot; slot 0 is the whole watcher.
    `at_once` lets the newest restart replace all slots together.
    `reloads` are numbered upwards: by slot the newest that was asked for; slot 0 is the whole watcher.
    """

    hold: Literal["stopped", "started"] | None = None
    scale: int | None = None
    restart_tokens: Mapping[int, int] = field(default_factory=dict)
    at_once: bool = False
    reloads: Mapping[int, int] = field(default_factory=dict)
    hold_by: RequestedBy = NOBODY
    scale_by: RequestedBy = NOBODY

    def restart_token(self, slot: int) -> str:
        """Return what goes into the template hash of a slot: different after each restart of it."""
        token = self.restart_tokens.get(0, 0), self.restart_tokens.get(slot, 0)
        return "" if token == (0, 0) else f"{token[0]}.{token[1]}"

    def reload_number(self, slot: int) -> int:
        """Return the number of the newest reload that a slot has to have carried out; 0: none was asked for."""
        return max(self.reloads.get(0, 0), self.reloads.get(slot, 0))


NO_INTENT = Intent()
