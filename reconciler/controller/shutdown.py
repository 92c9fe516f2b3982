"""The end of everything: in order, at once, left to the next manager, or because all jobs are done."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from reconciler.controller.api.streams import Streams
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.output.systemd import Notifier
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.in_force import InForce
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import Quit
from reconciler.model.event import Event
from reconciler.model.observation import Observation, ShutdownAsked
from reconciler.model.units import MILLISECOND_NS, SECOND_NS, format_duration
from reconciler.model.value import Part

VIEWER_NS: Final = 2 * SECOND_NS
VIEWER_POLL_NS: Final = 20 * MILLISECOND_NS
"""How long, and how often, the viewer is waited for before an end that is there from the beginning."""
MAX_DONE: Final = 5
"""Jobs that are named at such an end."""


class Shutdown(Part):
    """Ends everything when it is told to."""

    in_force: InForce
    notifier: Notifier
    border: Border
    feed: Callable[[Observation], None]
    tell: Callable[[Event], None]
    release: Callable[[], None]
    """Lets the core have what the keeper has said, also without a spec."""
    show_rest: Callable[[], None]
    """Sends the last output to those who follow it."""
    closing: tuple[tuple[str, Callable[[], object]], ...]
    """What is closed at the end, in order."""
    quit: Callable[[Quit], None]
    """Has the keeper end the manager."""
    has_begun: bool = False
    stops_all: bool = False
    """Nothing is left to the next manager, whatever the spec says."""
    due: Quit | None = None
    """How the keeper is to end the manager, when that is due."""

    def shut_down(self, now: bool, code: int | None = None) -> bool:
        """End everything, in order, or without grace; tells whether all that runs is left to the next one."""
        if not self.has_begun:
            self.notifier.stopping()
        spec = self.in_force.spec
        leaves = spec is not None and spec.daemon.on_exit == "leave"
        if leaves and not (now or self.stops_all):
            if not self.has_begun:
                self.tell(Event("manager.left", "ends, and leaves all that runs to the next one"))
            self.has_begun, self.due = True, Quit(code or 0, leaves=True)
            return True
        how = "kills everything at once" if now else "stops everything in order"
        if now or not self.has_begun:
            self.tell(Event("manager.stopping", how, details={"now": now}))
        self.has_begun = True
        self.release()
        self.feed(ShutdownAsked(now, code))
        return False

    def began(self) -> None:
        """Take note that the core has begun to stop everything: it was asked to, or has decided so itself."""
        if not self.has_begun:
            self.notifier.stopping()
        self.has_begun = self.stops_all = True

    def leave_if_due(self) -> bool:
        """Write what is left to be written, then let the keeper end the manager; False when it is not due."""
        quit, self.due = self.due, None
        if quit is None:
            return False
        self.border.guard("showing the last output", self.show_rest)
        if not quit.leaves:
            self.tell(Event("manager.ended", "everything has stopped", details={"code": quit.code}))
        for what, close in self.closing:
            self.border.guard(f"closing {what}", close)
        self.quit(quit)
        return True


class JobsDone(Part):
    """Ends a manager that has only jobs when all of them are done."""

    core: Reconciler
    board: StatusBoard
    streams: Streams
    reactor: Reactor
    shutdown: Shutdown
    tell: Callable[[Event], None]
    begun_ns: int
    has_fired: Callable[[], bool]
    """Tells whether a job was fired in the life of this manager."""

    def look(self, touched: Collection[str] = ()) -> None:
        """End when all are done; who has begun with us is waited for, to see it."""
        if self.shutdown.has_begun or self.core.revision == 0:
            return
        now_ns = clock.now_ns()
        code = self.core.jobs_done(now_ns, touched)
        if code is None:
            return
        if not self.streams.has_viewer and now_ns < self.begun_ns + VIEWER_NS:
            self.reactor.at(self.look, now_ns + VIEWER_POLL_NS, self.look)
            return
        message = "all jobs are done" if self.has_fired() else self._done_before()
        self.tell(Event("manager.done", message, details={"code": code}))
        self.shutdown.shut_down(False, code or None)

    def _done_before(self) -> str:
        """Return when all jobs were done, by an earlier manager, and how to fire them again."""
        names, now_ns = sorted(self.core.spec.watchers), clock.wall_ns()
        since = {name: max(now_ns - self.board.of(name).since_ns, 0) for name in names[:MAX_DONE]}
        ages = (f"{name}: {format_duration(ns - ns % SECOND_NS)} ago" for name, ns in since.items())
        more = f" and {len(names) - MAX_DONE} more" if len(names) > MAX_DONE else ""
        return (
            f"all jobs were done before ({', '.join(ages)}{more}); to fire one again, keep a manager "
            "with reconcile up -d, then: reconcile rerun NAME"
        )
