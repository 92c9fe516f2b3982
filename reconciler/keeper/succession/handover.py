"""What a keeper hands to its own new code when it replaces itself: everything that it holds, by descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct, field, from_plain, replace
from reconciler.output.stream import Outgoing
from reconciler.wire.journal import read

if TYPE_CHECKING:
    from reconciler.wire.journal import Recalled

HANDOVER: Final = "handover"
"""Under this name the descriptors stand among the entries."""


class Handover(Struct, frozen=True):
    """What is open, by what it is for, and what no journal knows."""

    files: tuple[int, ...]
    """The limits that children get: of open files, soft and hard, and the soft one of core files."""
    control: int
    oom_score_adj: int | None = None
    """What children get of that; None: what the keeper has, and what a version says that knows nothing of it."""
    locks: tuple[int, ...] = ()
    pidfds: Mapping[int, int] = field(default_factory=dict)
    sockets: Mapping[int, int] = field(default_factory=dict)
    """By cookie."""
    outputs: Mapping[str, Outgoing] = field(default_factory=dict)
    """By the name of the FIFO."""
    unsent: bytes = b""
    """Whole lines on their way to the manager's own output."""
    messages: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """On their way to log daemons, by which one."""
    notify_sockets: Mapping[str, int] = field(default_factory=dict)
    """By address."""

    @property
    def descriptors(self) -> list[int]:
        """Return all that must live on."""
        outputs = (each.fd for each in self.outputs.values())
        sockets = (*self.sockets.values(), *self.notify_sockets.values())
        return [self.control, *self.locks, *self.pidfds.values(), *sockets, *outputs]


def take(memory: int) -> tuple[Handover, Recalled]:
    """Return what the former code of this process held. Raises `NewerFormat`, and `ValueError` if it makes no sense."""
    with open(memory, "rb") as file:
        file.seek(0)
        _, recalled = read(file.read())
    return from_plain(Handover, recalled.entries.get(HANDOVER)), replace(recalled, is_own=True)
