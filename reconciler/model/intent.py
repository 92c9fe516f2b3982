"""What an operator asked for by hand; it outlives edits, crashes and restarts until it is undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Intent:
    """The operator's word about one watcher.

    `hold` stopped: it rests, whatever the spec says; started: it runs in spite of `autostart: false`.
    `scale` is the number of processes in place of the spec's.
    `restart_tokens` go up by one at each restart, by slot; slot 0 is the whole watcher.
    `at_once` lets the newest restart replace all slots together.
    """

    hold: Literal["stopped", "started"] | None = None
    scale: int | None = None
    restart_tokens: Mapping[int, int] = field(default_factory=dict)
    at_once: bool = False
    who: str = ""
    why: str = ""
    wall_ns: int = 0

    def restart_token(self, slot: int) -> str:
        """Return what goes into the template hash of a slot: different after each restart of it."""
        token = self.restart_tokens.get(0, 0), self.restart_tokens.get(slot, 0)
        return "" if token == (0, 0) else f"{token[0]}.{token[1]}"


NO_INTENT = Intent()
