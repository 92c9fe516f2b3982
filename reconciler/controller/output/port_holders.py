"""A refused address is explained by who holds it: looked up off the loop, then told with the event itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.address import InternetAddress
from reconciler.model.observation import Observation, SocketChanged
from reconciler.model.socket import BindRefused, SocketRecord, SocketTemplate
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field, replace

ASK_AGAIN_NS: Final = 30 * SECOND_NS
"""Addresses are tried every few seconds; reading all connections of a machine that often is too dear."""


class PortHolders(Part):
    """What was found out, by address; `feed` puts the better message before the core."""

    lanes: Lanes
    feed: Callable[[Observation], None]
    _known: dict[str, tuple[int, str]] = field(default_factory=dict)
    _newest: dict[str, SocketRecord] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        """Take note that a socket is bound or gone."""
        self._newest.pop(name, None)

    def ask(self, record: SocketRecord) -> None:
        """Find out who holds the address of a refused socket, and put the better message before the core."""
        address = record.template.address
        if not isinstance(address, InternetAddress):
            return
        self._newest[record.name] = record
        key = f"{record.template.type} {address}"
        now = clock.now_ns()
        fresh = {key: known for key, known in self._known.items() if now - known[0] < ASK_AGAIN_NS}
        self._known = fresh  # addresses of yesterday's spec are of no further use
        if key in fresh:
            self._tell(record, fresh[key][1])
            return
        self._known[key] = (now, "")

        def found(holder: str) -> None:
            if key in self._known:
                self._known[key] = (now, holder)
            self._tell(record, holder)

        self.lanes.run("processes", lambda: _look_up(record.template), found, lambda _: None)

    def _tell(self, record: SocketRecord, holder: str) -> None:
        # It may have been bound or closed meanwhile: then what is known now is not to be overwritten.
        if (
            not holder
            or self._newest.get(record.name) is not record
            or not isinstance(record.phase, BindRefused)
        ):
            return
        message = f"{record.phase.message}; it is held by {holder}"
        self.feed(SocketChanged(replace(record, phase=replace(record.phase, message=message))))


def _look_up(wanted: SocketTemplate) -> str:
    from reconciler.controller.output.usage import holder_of

    return holder_of(wanted)
