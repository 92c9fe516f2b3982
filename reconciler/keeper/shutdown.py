"""The end of the keeper: with the controller, which stops everything in order, or without one that gets nowhere.

Asked --it does not answer, or nobody ends--> Ending --all are gone--> Leaving
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from reconciler.model.observation import SignalReceived
from reconciler.model.process import ProcessId
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.processes import Processes
    from reconciler.keeper.supervisor import Supervisor

STOP_CHECK_NS: Final = 5 * SECOND_NS
STALL_NS: Final = 30 * SECOND_NS
"""How long beyond the longest grace period an end waits for a controller under which nobody ends or starts."""
TERM_NS: Final = 2 * SECOND_NS
"""How long beyond the longest grace period an end waits that the controller has no part in."""
KILL_AGAIN_NS: Final = SECOND_NS
KILL_TIMES: Final = 5
LEAVE_NS: Final = 2 * SECOND_NS
HOPELESS_DEATHS: Final = 5
"""After so many quick deaths of controllers in a row none is waited for: one like those ends nothing."""


class Asked(Struct, frozen=True):
    """Asked to stop; at `due_ns` the controller must have shown that it listens.

    And at `give_up_ns` somebody else must live than `live`: one that listens and does nothing holds up nothing.
    """

    due_ns: int
    give_up_ns: int
    live: frozenset[tuple[ProcessId, int]]


class Ending(Struct, frozen=True):
    """Everything was sent TERM or KILL, and is sent KILL then: until it is gone or nothing helps."""

    due_ns: int
    code: int


class Leaving(Struct, frozen=True):
    """Nothing is left but the controller, which was hung up on and may end by itself until then."""

    due_ns: int
    code: int


Stage: TypeAlias = Asked | Ending | Leaving


class Shutdown:
    """How far the end has come; `exit_code` is None until it is time to end."""

    def __init__(self, kernel: Kernel, processes: Processes, supervisor: Supervisor) -> None:
        self.stage: Stage | None = None
        self.exit_code: int | None = None
        self._kernel = kernel
        self._processes = processes
        self._supervisor = supervisor
        self._order = SignalReceived("stop")
        """What controllers are told that come while everything ends."""
        self._told = 0
        """Up to which start they have been."""
        self._is_signalled = False
        self._kills = 0

    def told(self, meaning: str) -> None:
        """Somebody has signalled the keeper."""
        if meaning == "reload":
            self._supervisor.tell(SignalReceived("reload"))
        elif meaning == "stop" and not self._is_signalled:
            self._is_signalled = True
            self._supervisor.tell(SignalReceived("stop"))
            self.begin(self._order)
        elif not self._kills and not isinstance(self.stage, Leaving):
            self._supervisor.tell(SignalReceived("stop_now"))
            self._kill_all(1)

    def begin(self, order: SignalReceived) -> None:
        """Begin the end, or go on with it: what the controller says of it holds for those after it."""
        self._order = order
        if self.stage is None:
            self._told = self._supervisor.starts
            self._ask()

    def quit(self, code: int, *, leaves: bool) -> None:
        """End as the controller says: nothing lives any more, or it lives on for the next keeper."""
        if isinstance(self.stage, Leaving):
            return
        if leaves:
            self._leave(code)
        elif live := self._processes.live():
            pids = ", ".join(map(str, live))
            said = "asked to end while processes live; killing them"
            self._kernel.log("warning", said, pids=pids)
            self._kill_all(max(code, 1))
        else:
            self._processes.close_all()
            self._leave(code)

    def go_on(self) -> int | None:
        """Take the next step that is due; return when the one after it is."""
        match self.stage:
            case None:
                return None
            case Asked() as asked:
                self._look_at_controller(asked)
            case Ending(due_ns, code):
                if self._kernel.now_ns() >= due_ns or not self._processes.live():
                    self._go_on_alone(code)
            case Leaving(due_ns, code):
                if self._supervisor.pid is None:
                    self._exit(code)
                elif self._kernel.now_ns() >= due_ns:
                    self._kernel.signal(self._supervisor.pid, "KILL")
                    self.stage = Leaving(self._kernel.now_ns() + LEAVE_NS, code)
            case _:
                assert_never(self.stage)
        return self.stage.due_ns

    # ---- with the controller -----------------------------------------------------------------------

    def _look_at_controller(self, asked: Asked) -> None:
        now_ns, controller = self._kernel.now_ns(), self._supervisor
        if controller.starts != self._told:
            self._told = controller.starts
            controller.tell(self._order)
            if controller.delay.quick_deaths < HOPELESS_DEATHS:
                self._ask()
        elif now_ns >= asked.due_ns:
            # One that has nothing to do but wait for a grace period still says that it lives.
            if controller.answers and now_ns < self._asked().give_up_ns:
                self._ask()
                return
            fault = "stops nothing any more" if controller.answers else "does not answer"
            self._kernel.log("error", f"the controller {fault}; stopping all")
            self._processes.signal_all("TERM")
            grace_ns = self._processes.longest_grace_ns()
            self._end_alone(Ending(now_ns + grace_ns + TERM_NS, 1))

    def _ask(self) -> None:
        """Let the controller go on with the end for a while, and ask whether it lives: silence extends nothing."""
        self._supervisor.ask()
        self.stage = self._asked()

    def _asked(self) -> Asked:
        """Return until when the controller must answer, and get anywhere since the last time that it had."""
        now_ns, live = self._kernel.now_ns(), self._processes.live_keys()
        give_up_ns = now_ns + self._processes.longest_grace_ns() + STALL_NS
        if isinstance(self.stage, Asked) and self.stage.live == live:
            give_up_ns = max(self.stage.give_up_ns, self._processes.extended_until_ns())
        return Asked(min(now_ns + STOP_CHECK_NS, give_up_ns), give_up_ns, live)

    # ---- without it --------------------------------------------------------------------------------

    def _end_alone(self, stage: Stage) -> None:
        self._supervisor.is_needed = False
        self.stage = stage

    def _kill_all(self, code: int) -> None:
        self._kills += 1
        self._end_alone(Ending(self._kernel.now_ns() + KILL_AGAIN_NS, code))
        self._processes.signal_all("KILL")

    def _go_on_alone(self, code: int) -> None:
        live = self._processes.live()
        # The first KILL also looks for those that nobody knows of yet.
        if self._kills < KILL_TIMES and (live or not self._kills):
            self._kill_all(code)
            return
        if live:
            pids = ", ".join(map(str, live))
            self._kernel.log("error", "ends though SIGKILL ended not all", pids=pids)
        self._processes.close_all()
        self._leave(code)

    def _leave(self, code: int) -> None:
        """Hang up on the controller, which ends by that, and end."""
        code = code if self._order.code is None else self._order.code
        self._end_alone(Leaving(self._kernel.now_ns() + LEAVE_NS, code))
        with self._kernel.border("closing the control socket"):
            self._supervisor.flush()
            self._kernel.close_control()
        self._supervisor.let_go()
        if self._supervisor.pid is None:
            self._exit(code)

    def _exit(self, code: int) -> None:
        self._processes.leave_outputs()
        self.exit_code = code
