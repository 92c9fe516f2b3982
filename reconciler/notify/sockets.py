"""A socket for each process that was promised one: it tells who has said what.

Its name is abstract (unix(7)). Any user of the machine reaches it, also from a folder of its own (chroot), and the
next keeper binds the same one again; only a network namespace of its own keeps a process from it. Whoever reads
/proc/net/unix knows it too: so the kernel is asked who the sender of each datagram is, and the keeper whether that
one has a say.

A socket that nobody reads makes servers hang, so it is read whatever it says, a bounded piece at a time.
Descriptors that come along are closed at once: nothing is kept for anybody (`FDSTORE=1`). Those of `BARRIER=1` are
closed when all that came before has been dealt with, for which their sender waits.

Known weakness: to close a file that another one has passed may take as long as its file system likes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.notify.messages import MAX_BYTES, Message, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reconciler.model.process import ProcessId

MOST_AT_ONCE: Final = 8
"""Datagrams that are taken before others have their turn."""
_CREDENTIALS: Final = struct.Struct("=iII")
_MOST_FDS: Final = 253
"""SCM_MAX_FD of Linux."""
_FD_BYTES: Final = 4
_ROOM: Final = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FD_BYTES * _MOST_FDS)
_NO_LINGER: Final = struct.pack("ii", 0, 0)


class Heard(Struct, frozen=True):
    """A datagram: what it says, and by whom. The sender may be dead, or have been by a number that is another's now."""

    said: Message
    pid: int
    uid: int
    is_managers: bool = False
    """Its user is root or the manager's own, who may do anything to the process anyway."""


class NotifySocket:
    """The socket of one process."""

    def __init__(self, owner: NotifySockets, address: str, bound: socket.socket) -> None:
        self.address = address
        """As it stands in NOTIFY_SOCKET."""
        self._owner, self._socket = owner, bound
        self._waiting: list[int] = []

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._socket.fileno()

    def take(self) -> list[Heard]:
        """Return what was said since, within bounds; empty when there was nothing."""
        heard: list[Heard] = []
        while len(heard) < MOST_AT_ONCE:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    MAX_BYTES, _ROOM, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                break
            heard.append(self._heard(data, ancillary))
        return heard

    def _heard(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> Heard:
        pid = uid = -1
        passed: tuple[int, ...] = ()
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, uid, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                count = len(content) // _FD_BYTES
                passed = struct.unpack(f"={count}i", content[: count * _FD_BYTES])
        said = parse(data)
        if said.barrier:
            self._waiting += passed
        else:
            _close(passed)
        return Heard(said, pid, uid, uid in {0, os.geteuid()})

    def answer(self) -> None:
        """Let those go on who wait until all is dealt with that was said before."""
        waiting, self._waiting = self._waiting, []
        _close(waiting)

    def close(self) -> None:
        """Close it: from here on nobody is heard there."""
        self.answer()
        self._owner.closed(self)
        self._socket.close()


class NotifySockets:
    """All of them. `told` is called with whose socket it is when there is something to take.

    `token` is in all their names and in none of another instance; `handed` are open ones, by address.
    """

    def __init__(
        self,
        token: str,
        watch: Callable[[int, Callable[[], None]], None],
        ignore: Callable[[int], None],
        told: Callable[[ProcessId, int], None],
        handed: Mapping[str, int],
    ) -> None:
        self._token = token
        self._watch, self._ignore, self._told = watch, ignore, told
        self._handed = dict(handed)
        self._open: dict[str, NotifySocket] = {}

    def open(self, id: ProcessId, incarnation: int) -> NotifySocket:
        """Open the socket of a process, or the one again that a former keeper had. Raises `OSError`."""
        address = f"@reconcile/{self._token}/{incarnation}"
        handed = self._handed.pop(address, None)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, fileno=handed)
        try:
            if handed is None:
                # Before anybody can send: who has sent what was sent without it is not known.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                bound.bind("\0" + address[1:])
            self._watch(bound.fileno(), lambda: self._told(id, incarnation))
        except OSError:
            bound.close()
            raise
        self._open[address] = found = NotifySocket(self, address, bound)
        return found

    def handles(self) -> dict[str, int]:
        """Return the descriptors of all that are open, by address."""
        return {address: each.fileno() for address, each in self._open.items()}

    def closed(self, one: NotifySocket) -> None:
        """Hear of one no more, which is about to be closed."""
        del self._open[one.address]
        self._ignore(one.fileno())


def _close(descriptors: Sequence[int]) -> None:
    """Close descriptors that somebody has passed to us, without waiting for what is still to be sent there."""
    for each in descriptors:
        try:
            passed = socket.socket(fileno=each)
        except OSError:
            os.close(each)
            continue
        with passed, contextlib.suppress(OSError):
            passed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
