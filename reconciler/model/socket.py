"""Sockets: how the keeper binds them and what became of it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from reconciler.model.address import Address, may_overlap
from reconciler.model.process import ProcessId
from reconciler.model.value import Struct, Tagged


class SocketTemplate(Struct, frozen=True):
    """How to bind one socket. What stands in `identity` makes it another socket; the rest is tuned in place."""

    address: Address
    type: Literal["stream", "dgram", "seqpacket"] = "stream"
    interface: str | None = None
    reuseport: bool = False
    ipv6_only: bool = False
    backlog: int = 2048
    nodelay: bool = True
    keepalive: bool = True
    mode: int | None = None
    owner: str | int | None = None
    group: str | int | None = None
    blocking: bool = True
    """How it is handed over; a flag that all who have it open share (fcntl(2), F_SETFL)."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what makes it this socket and no other."""
        return (self.address, self.type, self.interface, self.reuseport, self.ipv6_only)

    def may_exclude(self, other: SocketTemplate) -> bool:
        """Tell whether another socket may not be bound as long as this one is open."""
        if self.type != other.type or (self.reuseport and other.reuseport):
            return False
        return may_overlap(self.address, other.address)


class FileOwner(Struct, frozen=True):
    """Who gets the file of a Unix socket, by number: only the controller asks what names mean. -1: it stays as made."""

    uid: int = -1
    gid: int = -1
    problem: str = ""
    """Why a name of the template has no number; the socket is then refused."""


AS_MADE: Final = FileOwner()
"""It stays whose it is: the manager's, or whoever's it was given to."""


class Bound(Tagged, frozen=True):
    """Bound, and listening where its type listens; `listen` is the address with the real port."""

    listen: str
    at_ns: int


class BindRefused(Tagged, frozen=True):
    """Could not be bound: the errno by name, in words, and who holds the address where that is known."""

    errno: str
    message: str
    at_ns: int
    attempts: int = 1
    held_by: tuple[ProcessId, ...] = ()
    """Processes of the keeper's that live and were given a socket which may be in the way."""
    serves: str = ""
    """Where the socket listens that is open until this one can be bound; empty: nowhere."""


class Lost(Tagged, frozen=True):
    """Bound, but no client reaches it any more: its file was removed or replaced, or it was shut down for good."""

    at_ns: int
    shut_down_by: tuple[ProcessId, ...] = ()
    """Its users, where one of them has shut it down; empty: it is the file."""


class BindRequested(Tagged, frozen=True):
    """Asked of the keeper, not answered yet. Exists in the controller's picture only."""

    at_ns: int
    again: bool = False
    """It was refused the last time: when it is refused again, that is no news."""


SocketPhase: TypeAlias = Bound | BindRefused | Lost | BindRequested


class Unaccepted(Struct, frozen=True):
    """Clients that wait while the users of the socket live and none of them accepts; since when."""

    count: int
    since_ns: int


class SocketRecord(Struct, frozen=True):
    """What the keeper knows of one socket. `name` is the spec's, or `NAME.SLOT` with reuseport."""

    name: str
    template: SocketTemplate
    phase: SocketPhase
    held: SocketTemplate | None = None
    """The former template, while its socket stays open because the new one could not be bound."""
    backlog: int | None = None
    """The one in force: what was asked for, or the most that the kernel grants; None: it does not tell."""
    unaccepted: Unaccepted | None = None
    client_since_ns: int | None = None
    """Since when a client waits while no process lives that was given the socket; None: none does."""
