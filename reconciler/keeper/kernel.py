"""The interface of everything that touches the world; the state machine knows nothing else of it.

`linux.LinuxKernel` is the real one. The fake one of the tests runs the same state machine in virtual time.
No call waits: what takes longer is told later, as a happening.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from reconciler.model.observation import ControlRenewed, FaultCaught, LogChanged, LogRotated
from reconciler.model.process import GroupLimits, ProcessId
from reconciler.model.socket import AS_MADE
from reconciler.model.value import Struct, field
from reconciler.system.facts import Died

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from reconciler.keeper.borders import Border
    from reconciler.model.process import Launch, Reach, Sink
    from reconciler.model.socket import FileOwner, SocketTemplate
    from reconciler.notify.sockets import Heard
    from reconciler.sockets.bound import BoundSocket, Trace
    from reconciler.system.facts import Identity
    from reconciler.wire.journal import Recalled


CONTROL: Final = ""
"""By this name clients of the control socket are told: no other socket has it."""


class ChildrenDied(Struct, frozen=True):
    """Children may be waited for, with `Kernel.reap`."""


class Executed(Struct, frozen=True):
    """The program of a child that was still starting runs now."""

    pid: int


class Spoke(Struct, frozen=True):
    """A process, or another one on its socket, has said something: `NotifySocket.take` tells what."""

    id: ProcessId
    incarnation: int


class LinkReadable(Struct, frozen=True):
    """The controller sent something or hung up; it is asked for with `Kernel.receive`."""


class FileTouched(Struct, frozen=True):
    """Something happened to the file of a socket; `BoundSocket.is_intact` tells whether it is still there."""


class Told(Struct, frozen=True):
    """A person or a program signalled the keeper."""

    meaning: Literal["stop", "stop_now", "reload"]


class ClientWaits(Struct, frozen=True):
    """A client waits at this socket, or somebody has shut it down; told once after `Kernel.await_client`.

    By the name `CONTROL` it is the control socket, after `Kernel.await_call`.
    """

    name: str


Happening: TypeAlias = (
    ChildrenDied | Executed | Spoke | LinkReadable | FileTouched | ClientWaits | Told
)

News: TypeAlias = LogRotated | LogChanged | FaultCaught | ControlRenewed

Adopted: TypeAlias = Literal["gone", "child", "other"]
"""What a process is to a keeper that looks for it: an own child it is after an upgrade."""


class Output(Protocol):
    """The output of one process on its way to the sinks."""

    def drained(self) -> bool:
        """Read what is there, within bounds; True when nothing is left (or it is given up)."""

    def tail(self) -> bytes:
        """Return the end of a captured output."""

    def redirect(self, stdout: Sink, stderr: Sink | None) -> None:
        """Go on with other sinks. Raises `OSError`."""

    def close(self) -> None:
        """Write what is left and read no more."""

    def leave(self) -> None:
        """Write what is left; the next keeper reads on."""


class NotifySocket(Protocol):
    """Where one process, and what it has started, says how it is (sd_notify(3))."""

    def take(self) -> list[Heard]:
        """Return what was said since, within bounds; empty when there was nothing."""

    def answer(self) -> None:
        """Let those go on who wait until all is dealt with that was taken."""

    def close(self) -> None:
        """Hear nobody there any more."""


class Child(Struct, frozen=True):
    """A process that was made. `executed` tells that its program runs; else `Executed` or its death follow."""

    pid: int
    executed: bool
    output: Output
    notify_socket: NotifySocket | None = None
    """There is one if the launch says so."""
    born: int = 0
    """When it was started, in clock ticks since boot: with the pid, what nobody else has."""
    former: Died | None = None
    """An adopted process that had this pid before, and whose death is told only now."""
    group_limits: GroupLimits = field(default_factory=dict)
    """Those of the launch that the kernel has taken."""


class Kernel(Protocol):
    """All that the keeper can do to the world and ask of it."""

    @property
    def is_init(self) -> bool:
        """Tell whether the keeper is PID 1, to which the orphans of strangers come, too."""

    def now_ns(self) -> int:
        """Return the monotonic time."""

    def happenings(self) -> Iterable[Happening]:
        """Return what has happened since asked last, children's deaths last."""

    def spawn(
        self, id: ProcessId, incarnation: int, launch: Launch, sockets: Mapping[str, BoundSocket]
    ) -> Child:
        """Make a process, with its own session. Raises `LaunchFailed`."""

    def limit(self, pid: int, limits: GroupLimits, former: GroupLimits) -> GroupLimits:
        """Bring the control group of a process from `former` limits to these; return those that the kernel takes."""

    def reap(self) -> Died | None:
        """Return one child or adopted process that has died, and forget it; None when none is left."""

    def children(self) -> set[int]:
        """Return the pids of all children that we did not start, perhaps of others, too; theirs until `reap`."""

    def identify(self, pid: int) -> Identity | None:
        """Return whose a process is, None when it is gone."""

    def has_forked(self, pid: int) -> bool:
        """Tell whether a process has, or has waited for, children of its own, so that it may have left orphans."""

    def below(self, roots: Iterable[int]) -> Mapping[int, int]:
        """Return all that is below these processes, with when each was started."""

    def ancestors(self, pid: int) -> list[int]:
        """Return a living process and those above it, up to a child of ours at most; empty when it is dead."""

    def user(self, pid: int) -> int | None:
        """Return whose a process is, by number; None when that cannot be told."""

    def named_in(self, pid_file: str) -> int:
        """Return which process a file names, 0: none. Who writes there may name anybody."""

    def marker(self, id: ProcessId, incarnation: int) -> str:
        """Return what RECONCILE_ID is in the environment of this incarnation; no other instance has it."""

    def signal(self, pid: int, signal: str, reach: Reach = "process") -> None:
        """Signal a child or an adopted process, its children, or the group that it leads; all but "tree".

        One that is dead already does not mind. This and the next wake the target with CONT after a signal that
        asks it to end.
        """

    def signal_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        """Signal these processes of ours and all below them, each once; those in `group` as a group."""

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> BoundSocket:
        """Bind a socket and give its file to this owner. Raises `BindFailed`."""

    def await_client(self, name: str, held: BoundSocket) -> None:
        """Tell with `ClientWaits`, once, when a client waits at a socket; at once when one does. Raises `OSError`."""

    # What a keeper needs that comes after another.

    def note(self, name: str, value: object | None) -> None:
        """Note for the next keeper how something is now, None: it is gone; `write_down` makes it last."""

    def write_down(self) -> None:
        """Write down what was noted. A disk that does not take it is tried again, and nothing waits."""

    def recall(self) -> Recalled:
        """Return what the former keeper wrote down."""

    def search(self, sessions: Container[int]) -> Mapping[int, Identity]:
        """Return living processes that have a marker of this instance or are in one of these sessions, by pid.

        The first time all of this machine are looked at; later at least those that have become children of
        whoever inherits what adopted processes leave behind.
        """

    def adopt(self, pid: int, born: int) -> Adopted:
        """Care for a process as for a child; whoever has the pid of one that is gone is left alone."""

    def reopen(self, id: ProcessId, stdout: Sink, stderr: Sink | None) -> Output:
        """Go on with the output of a process that a former keeper started; some may be lost.

        Raises `OSError` when it cannot be opened just now.
        """

    def listen_again(self, id: ProcessId, incarnation: int) -> NotifySocket | None:
        """Hear a process again that a former keeper has heard; None when its socket cannot be had any more.

        Raises `OSError` when it cannot be had just now.
        """

    def take_back(
        self, template: SocketTemplate, trace: Trace, holders: Iterable[int]
    ) -> BoundSocket | None:
        """Return a socket that one of these processes still holds, None when none gives it away.

        Raises `OSError` when that cannot be told just now.
        """

    def start_controller(self, *, quick_deaths: int) -> int:
        """Start the controller on a new link and return its pid. Raises `LaunchFailed`.

        It is told how many before it have died quickly, one after the other.
        """

    def receive(self) -> bytes | None:
        """Return bytes of the link, b"" when the other end is closed, None when nothing is there now."""

    def send(self, data: bytes) -> int:
        """Send on the link and return how many bytes it took; `happenings` wakes when it takes more."""

    def await_call(self) -> None:
        """Tell with `ClientWaits`, once, when the next client calls."""

    def is_behind(self) -> bool:
        """Tell whether the controller has not read all it was sent, or not let a client in."""

    def close_link(self) -> None:
        """Close our end of the link."""

    def close_control(self) -> None:
        """Close the control socket and remove its file."""

    def notify(self, text: str) -> None:
        """Tell this to whoever started the manager, if they listen; never waits, and may be lost."""

    def take_news(self) -> list[News]:
        """Return what has become of log files and of the control socket, and what was caught, since asked last."""

    def troubled_logs(self) -> list[LogChanged]:
        """Return the log files that cannot be written just now."""

    def replace_code(
        self, python: str, entries: Mapping[str, object], sockets: Iterable[BoundSocket]
    ) -> None:
        """Become another version of this keeper, which recalls these entries and all that is open.

        Returns never. Raises `OSError`; then nothing has changed.
        """

    def border(self, doing: str, *passing: type[Exception]) -> Border:
        """Return what lets no unexpected exception pass; it is logged, and told by `take_news`."""

    def log(
        self, level: Literal["debug", "info", "warning", "error"], message: str, **pairs: object
    ) -> None:
        """Write a line to the keeper's own log."""
