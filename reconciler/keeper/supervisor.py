"""The one controller: started, heard, told what changes, and replaced when it does not answer.

What it is told is never queued as history: `_untold` holds the names of what changed, in order, and the present
state is written down when the link takes it. So a slow controller costs no memory, and a new one is simply told
everything.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.keeper.liveness import Liveness, RestartDelay
from reconciler.model.observation import (
    ControlRenewed,
    FaultCaught,
    HeartbeatAsked,
    KeeperObservation,
    LogRotated,
    OrphansChanged,
    SnapshotEnded,
)
from reconciler.model.process import Exit, ProcessId
from reconciler.model.units import SECOND_NS
from reconciler.spawn.launch_errors import LaunchFailed
from reconciler.wire.link import LinkDecoder, ProtocolError, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.keeper.kernel import Kernel
    from reconciler.model.action import KeeperAction
    from reconciler.model.process import LaunchError

SEND_BYTES: Final = 64 * 1024
SHORTAGE_WAIT_NS: Final = SECOND_NS
"""When a controller is started again for which something was short."""
MAX_LOG_NEWS: Final = 1000

Change: TypeAlias = ProcessId | str | KeeperObservation
"""Something to tell: a record by its id, a socket by its name, or an observation that stands for itself."""

_FOR_ANY: Final = LogRotated | FaultCaught | ControlRenewed
"""What the next controller is told when this one was not told it any more."""


class Supervisor:
    """Keeps one controller. `everything` is what a new one is told about, `observation` how a change is told now."""

    def __init__(
        self,
        kernel: Kernel,
        watchdog_ns: int | None,
        everything: Callable[[], Iterable[Change]],
        observation: Callable[[Change], KeeperObservation],
    ) -> None:
        self.pid: int | None = None
        self.starts = 0
        self.is_needed = True
        """False once the keeper ends by itself: no other one is started then, and none is asked."""
        self.actions: deque[KeeperAction] = deque()
        """What it has said and is still to be done."""
        self.has_answered = False
        """It has had something done since it was last asked."""
        self.delay = RestartDelay()
        self.liveness = Liveness(watchdog_ns)
        self._kernel = kernel
        self._everything, self._event = everything, observation
        self._due_ns: int | None = 0
        self._wanting: LaunchError | None = None
        self._linked = False
        self._decoder = LinkDecoder()
        self._untold: dict[Change, None] = {}
        self._unsent = bytearray()

    def tell(self, change: Change) -> None:
        """Tell of a change as soon as the link takes it, and of none twice."""
        self._untold[change] = None

    @property
    def answers(self) -> bool:
        """Tell whether it can be heard, and has had something done since it was last asked."""
        return self._linked and self.has_answered

    def ask(self) -> None:
        """Ask whether it lives."""
        self.has_answered = False
        self.tell(HeartbeatAsked())

    # ---- its life ----------------------------------------------------------------------------------

    def start(self) -> int | None:
        """Start one when it is due; return when it will be."""
        due = self._due_ns
        if due is None or not self.is_needed or self.actions:
            return None  # what the former one still had said comes first
        now_ns = self._kernel.now_ns()
        if now_ns < due:
            return due
        self._due_ns, error = None, None
        self.delay.begins(now_ns)
        with self._kernel.border("starting the controller"):
            try:
                quick_deaths = self.delay.quick_deaths
                self.pid = self._kernel.start_controller(quick_deaths=quick_deaths)
            except LaunchFailed as failure:
                error = failure.error
        if self.pid is None:
            is_short = error is None or error.is_shortage
            self.delay.is_at_fault = not is_short
            if error is not None and error != self._wanting:  # tried often, told once
                cause = Exit(error=error)
                self._kernel.log("error", "cannot start the controller", cause=cause)
            self._wanting = error
            delay_ns = self.delay.wait_ns(now_ns)
            self._due_ns = now_ns + (SHORTAGE_WAIT_NS if is_short else delay_ns)
            return self._due_ns
        self._linked, self._wanting = True, None
        self.starts += 1
        kept = [each for each in self._untold if isinstance(each, _FOR_ANY)]
        known = (*self._everything(), OrphansChanged(), *self._kernel.troubled_logs())
        self._untold = dict.fromkeys((*known, SnapshotEnded(), HeartbeatAsked(), *kept))
        self.liveness.begins(now_ns)
        return None

    def check(self) -> None:
        """Ask it whether it lives when that is due, and kill one that does not say so."""
        if not self._linked or not self.is_needed:
            self.liveness.ends()
            return
        now_ns = self._kernel.now_ns()
        verdict = self.liveness.look(now_ns, self._kernel.is_behind)
        if verdict == "ask":
            self.tell(HeartbeatAsked())
        elif verdict == "silent" and self.pid is not None:
            self._kernel.log("error", "the controller does not answer; killing it")
            self.delay.blames(now_ns)
            self._kernel.signal(self.pid, "KILL")
        elif self.liveness.due_ns is None:
            self._kernel.await_call()

    def called(self) -> None:
        """A client calls."""
        self.liveness.told(self._kernel.now_ns())

    def notify(self, text: str) -> None:
        """It has answered; whoever started the manager is told this."""
        self.liveness.answers(self._kernel.now_ns())
        self._kernel.notify(text)

    def died(self, exit: Exit) -> None:
        """Take what it still had said in full, and forget its link; the next one waits until that is done."""
        self.pid = None
        self.delay.is_at_fault |= exit.signal != "KILL"
        while self._linked and self._take_bytes():
            pass
        self.hang_up()
        if self.is_needed:
            quick_deaths = self.delay.quick_deaths
            self._kernel.log("warning", "the controller ended", quick_deaths=quick_deaths)
        now_ns = self._kernel.now_ns()
        self._due_ns = now_ns + self.delay.wait_ns(now_ns)

    # ---- its link ----------------------------------------------------------------------------------

    def hear(self) -> None:
        """Take what it says, unless it still waits for what it has said."""
        if not self.actions and self._linked:
            self._take_bytes()

    def _take_bytes(self) -> bool:
        """Take what the link holds; False when nothing more will come from it just now."""
        data: bytes | None = b""
        with self._kernel.border("reading what the controller says") as border:
            data = self._kernel.receive()
            if data is None:
                return False
            try:
                self.actions.extend(self._decoder.actions(data))
            except ProtocolError as error:
                said = "the controller sent an invalid message and is restarted"
                self._kernel.log("error", said, cause=error)
                self.delay.is_at_fault = True
                data = b""
        if data and border.fault is None:
            return True
        # It cannot be heard any more. Its death brings the next one.
        self.hang_up()
        if self.pid is not None:
            self._kernel.signal(self.pid, "KILL")
        return False

    def hang_up(self) -> None:
        """Close the link: a controller ends by that."""
        with self._kernel.border("hanging up on the controller"):
            self._kernel.close_link()
        self._linked = False
        self._decoder = LinkDecoder()
        self._unsent.clear()

    def let_go(self) -> None:
        """Hang up for good."""
        self.hang_up()
        self._untold.clear()
        self.actions.clear()

    def tell_of_logs(self, most: int) -> None:
        """Tell what has become of log files, and what was caught, while not more than so much is to be told."""
        for observation in self._kernel.take_news():
            if len(self._untold) < most:
                self._untold.pop(observation, None)  # what is told last is what holds
                self.tell(observation)

    def flush(self) -> None:
        """Send what is to be told as far as the link takes it."""
        while self._linked and (self._untold or self._unsent):
            while self._untold and len(self._unsent) < SEND_BYTES:
                change = next(iter(self._untold))
                del self._untold[change]
                with self._kernel.border("telling the controller"):
                    self._unsent += encode(self._event(change))
            del self._unsent[: self._kernel.send(bytes(self._unsent))]
            self.liveness.told(self._kernel.now_ns())
            if self._unsent:
                return
