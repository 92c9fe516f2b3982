"""What a bound socket is to those who hold it; touches no world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reconciler.model.socket import AS_MADE
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from reconciler.model.socket import FileOwner, SocketTemplate


class BindFailed(Exception):
    """A socket could not be bound or tuned: the errno by name, and a sentence for people."""

    def __init__(self, errno: str, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.message = message


class Trace(Struct, frozen=True):
    """By what a socket is known when it is taken back from a process that holds it.

    `cookie` is its number in the network (SO_COOKIE of socket(7)), `file` device and inode of its file.
    """

    inode: int
    cookie: int
    file: tuple[int, ...] | None = None


class Queue(Struct, frozen=True):
    """How many clients wait to be accepted; None: the kernel does not tell, or there is nothing to accept."""

    waiting: int | None = None
    backlog: int | None = None
    listens: bool = True


class BoundSocket(Protocol):
    """A bound socket, listening where its type listens."""

    @property
    def listen(self) -> str:
        """The address with the real port."""

    @property
    def trace(self) -> Trace:
        """By what the next keeper knows it."""

    def is_intact(self) -> bool:
        """Tell whether clients still find it: a socket file may have been removed or replaced."""

    def put_back(self) -> bool:
        """Let clients find it again after its file was removed; False when that cannot be.

        Raises `OSError` when nobody can say just now.
        """

    def queue(self) -> Queue:
        """Return how many wait to be accepted, and how many may. Raises `OSError`."""

    def clients(self) -> frozenset[int]:
        """Return who waits to be accepted: numbers that no others have. Raises `OSError`."""

    def tune(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> None:
        """Bring what is no part of the identity to the template, and listen. Raises `BindFailed`."""

    def set_blocking(self, blocking: bool) -> None:
        """Set in which state it is handed over, for all who have it open. Raises `OSError`."""

    def close(self) -> None:
        """Close it, and remove its file while that is still ours."""
