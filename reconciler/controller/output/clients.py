"""How many clients are connected at the sockets of what runs on demand: asked of the kernel, off the loop."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controller.runtime.lanes import Lanes
from reconciler.core.reconciler import Reconciler
from reconciler.model.observation import ClientsCounted, Observation
from reconciler.model.socket import Bound
from reconciler.model.value import Part
from reconciler.sockets.queues import connections_at


class Clients(Part):
    """Counts clients when the core asks; `feed` puts the answer before it."""

    core: Reconciler
    lanes: Lanes
    feed: Callable[[Observation], None]

    def count(self, watcher: str, sockets: tuple[str, ...]) -> None:
        """Count who is connected at sockets, and tell; that nobody can tell counts as somebody."""
        phases = (self.core.sockets[name].phase for name in sockets if name in self.core.sockets)
        addresses = [phase.listen for phase in phases if isinstance(phase, Bound)]

        def ask() -> int | None:
            try:
                return sum(map(connections_at, addresses))
            except (OSError, ValueError):
                return None

        self.lanes.run(
            "processes",
            ask,
            lambda found: self.feed(ClientsCounted(watcher, found)),
            lambda _: self.feed(ClientsCounted(watcher, None)),
        )
