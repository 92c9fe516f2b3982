"""The seam between the keeper and the world.

`Keeper` asks nothing but this; so the simulation can run it over a fake kernel with virtual time, and
the contract suite holds the fake and the real one to the same promises. No method here may block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from reconciler.model.event import KeeperIntroduced
from reconciler.model.process import Exit, Launch, LaunchError, ProcessId, Scope, Sink
from reconciler.model.socket import SocketTemplate


@dataclass(frozen=True, slots=True)
class LinkData:
    """The controller sent bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LinkWritable:
    """The link takes bytes again, after `send` took less than it was given."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The controller closed its end."""


@dataclass(frozen=True, slots=True)
class ControllerDied:
    """The controller is dead and reaped; what it last sent waits in `drain_link`."""

    exit: Exit


@dataclass(frozen=True, slots=True)
class Executed:
    """The program of a process that was `Starting` runs."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Died:
    """A process is dead and reaped; an exec that failed is told in `exit.error`."""

    incarnation: int
    exit: Exit
    cpu_ns: int = 0
    max_rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StrangerDied:
    """A child died that is no record's own process: an orphan, perhaps a survivor of a tree."""


@dataclass(frozen=True, slots=True)
class SignalCame:
    """The keeper itself was sent a signal (a name without SIG)."""

    signal: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """A log file was renamed to `path` and shall be compressed."""

    id: ProcessId
    path: str


@dataclass(frozen=True, slots=True)
class ControlLost:
    """The file of the control socket vanished; the next controller gets a new one."""


Happening: TypeAlias = (
    LinkData
    | LinkWritable
    | LinkClosed
    | ControllerDied
    | Executed
    | Died
    | StrangerDied
    | SignalCame
    | Rotated
    | ControlLost
)
"""What `wait` reports. A death comes before whatever else was seen in the same turn: an action of that turn
must not reach for a process whose number is free already."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process exists; `executed` tells whether its program is known to run."""

    pid: int
    executed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A socket could not be bound or tuned. `kept` is the former template, if its socket stays open."""

    errno: str
    message: str
    kept: SocketTemplate | None = None


class Kernel(Protocol):
    """Everything that the keeper asks of the world."""

    def introduce(self) -> KeeperIntroduced:
        """Return who this keeper is."""

    def now_ns(self) -> int:
        """Return the monotonic clock (CLOCK_MONOTONIC), in nanoseconds."""

    def wait(self, deadline_ns: int | None) -> list[Happening]:
        """Sleep until something happens or `deadline_ns` (None: for ever), and return what happened."""

    def log(self, level: str, message: str, **pairs: object) -> None:
        """Write a line for people."""

    def start_controller(self, *, last_good: bool) -> bool:
        """Start a controller on a new link; False when no process can be had just now."""

    def kill_controller(self) -> None:
        """Send KILL to the controller, if it lives."""

    def drain_link(self) -> bytes:
        """Return what a dead controller left in the link, and close it."""

    def send(self, data: bytes) -> int:
        """Send to the controller; returns how many bytes were taken. A broken link swallows all."""

    def is_unread(self) -> bool:
        """Tell whether the controller has not yet read all that was sent."""

    def close_control(self) -> None:
        """Close the control socket and remove its file."""

    def spawn(self, incarnation: int, id: ProcessId, launch: Launch) -> Spawned | LaunchError:  # noqa: A002
        """Start a process; later come `Executed` (unless told at once) and `Died`."""

    def finish_output(self, incarnation: int) -> bytes:
        """Take over all output that a dead process has left; returns the end of a captured one."""

    def signal(self, incarnation: int, signal: str, scope: Scope) -> None:
        """Signal a live process, or what survives of a dead one (whatever the scope)."""

    def lingering(self, incarnations: Iterable[int]) -> set[int]:
        """Return those dead ones of which something survives. A tree that is gone is gone for good."""

    def redirect(self, incarnation: int, stdout: Sink, stderr: Sink | None) -> None:
        """Change where the output goes on."""

    def bind(self, name: str, template: SocketTemplate) -> str | Refused:
        """Bind or tune a socket; returns its address with the real port.

        Another identity is bound before the former socket of that name is closed; when it cannot be, the
        former one stays open.
        """

    def unbind(self, name: str) -> None:
        """Close a socket, and remove its file if it is still ours."""
