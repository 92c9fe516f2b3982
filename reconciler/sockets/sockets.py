"""Binding, tuning and closing listening sockets, and taking them back from those who use them.

A host is a number or a name of /etc/hosts: asking the network for a name could make the keeper wait.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.socket import AS_MADE
from reconciler.model.value import Part
from reconciler.sockets.bound import BindFailed, Queue, Trace
from reconciler.sockets.queues import queue_of, waiting_at
from reconciler.sockets.socket_file import SocketFile
from reconciler.system.procfs import unless_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from reconciler.model.socket import FileOwner, SocketTemplate
    from reconciler.sockets.bound import BoundSocket
    from reconciler.sockets.watching import Clients, FileWatch

CLOSED_UMASK: Final = 0o177

_TYPES: Final = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}
_SO_COOKIE: Final = 57
_PIDFD_GETFD: Final = 438


class LinuxSocket(Part):
    """One bound socket, listening where its type listens; `file` is None for one that has none."""

    _socket: socket.socket
    file: SocketFile | None
    _umask: int
    _closing: Callable[[int], None]
    """Told the descriptor before it is closed."""

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    @property
    def trace(self) -> Trace:
        """By what the next keeper knows it."""
        inode = os.fstat(self.fileno()).st_ino
        file = None if self.file is None else self.file.inode
        return Trace(inode, _cookie(self._socket), file)

    @property
    def listen(self) -> str:
        """The address with the real port."""
        if self.file is not None:
            return str(UnixAddress(self.file.path))
        host, port, *more = self._socket.getsockname()
        scope = f"%{socket.if_indextoname(more[1])}" if more and more[1] else ""
        return str(InternetAddress(host + scope, port))

    def is_intact(self) -> bool:
        """Tell whether clients still find it: its file may have been removed or replaced."""
        return self.file is None or self.file.is_there()

    def put_back(self) -> bool:
        """Let clients find it again after its file was removed. Raises `OSError` when nobody can say just now."""
        return self.file is not None and self.file.put_back()

    def tune(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> None:
        """Bring what is no part of the identity to the template. Raises `BindFailed`."""
        sock = self._socket
        try:
            if self.file is not None:
                self.file.tune(template, self._umask, owner)
            elif template.type == "stream":
                # Accepted connections inherit both from their listener.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, template.nodelay)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, template.keepalive)
            if template.type != "dgram":
                sock.listen(template.backlog)
        except (OSError, OverflowError) as error:
            raise _refused(template, error) from None

    def set_blocking(self, blocking: bool) -> None:
        """Set or clear O_NONBLOCK, for all who have it open. Raises `OSError`."""
        if os.get_blocking(self.fileno()) != blocking:
            os.set_blocking(self.fileno(), blocking)

    def queue(self) -> Queue:
        """Return who waits to be accepted, and how many may. Raises `OSError`."""
        if self._socket.type == socket.SOCK_DGRAM:
            return Queue()
        return queue_of(self._socket)

    def clients(self) -> frozenset[int]:
        """Return who waits to be accepted. Raises `OSError`."""
        return waiting_at(self._socket)

    def close(self) -> None:
        """Close it, and remove its file while that is still ours."""
        if self.file is not None:
            self.file.remove()
        self._closing(self.fileno())
        self._socket.close()


class Sockets(Part):
    """What makes sockets ours: they are bound or taken back, and their files watched."""

    umask: int
    spares: str
    """The folder of the second names of their files, empty: they get none."""
    clients: Clients
    files: FileWatch
    log: Callable[..., None]
    """Hears of a file that cannot be watched."""
    own: Mapping[int, int]
    """Descriptors of those that are open here already, by cookie."""

    def bind(self, template: SocketTemplate, owner: FileOwner = AS_MADE) -> LinuxSocket:
        """Bind a socket and give its file to this owner. Raises `BindFailed`."""
        address, inode = template.address, (0, 0)
        try:
            if isinstance(address, UnixAddress):
                sock, inode = _unix_socket(template, address.path)
            else:
                sock = _internet_socket(template, address)
        except (OSError, ValueError, OverflowError) as error:
            raise _refused(template, error) from None
        # Its second name comes as long as it is ours: nobody may link what belongs to another (proc(5)).
        listener = self._held(sock, template, inode)
        try:
            listener.tune(template, owner)
        except BindFailed:
            listener.close()
            raise
        return self._watched(listener)

    def take_back(
        self, template: SocketTemplate, trace: Trace, holders: Iterable[int]
    ) -> LinuxSocket | None:
        """Return a socket that one of these processes holds; None when it is in none or not to be had.

        It takes the right to trace the process (pidfd_getfd(2), Linux 5.6): the same user and not made
        undumpable, or CAP_SYS_PTRACE; under Yama (ptrace_scope 1) CAP_SYS_PTRACE in any case.
        Raises `OSError` when nobody can say just now: who uses it would be stopped for nothing.
        """
        own = self.own.get(trace.cookie)
        found = None if own is None else socket.socket(fileno=own)
        target = f"socket:[{trace.inode}]"
        places = ((pid, fd) for pid in holders for fd in _descriptors_of(pid, target))
        while found is None and (place := next(places, None)) is not None:
            found = _copied(*place)
            if found is not None and _cookie(found) != trace.cookie:
                found.close()
                found = None
        if found is None:
            return None
        return self._watched(self._held(found, template, trace.file or (0, 0)))

    def await_client(self, name: str, held: BoundSocket) -> None:
        """Tell when the next client waits at a socket. Raises `OSError`."""
        self.clients.await_next(fd_of(held), name)

    def _held(
        self, sock: socket.socket, template: SocketTemplate, inode: tuple[int, ...]
    ) -> LinuxSocket:
        file = None
        if isinstance(template.address, UnixAddress):
            file = SocketFile(template.address.path, inode)
            if self.spares:
                file.keep(self.spares)
        return LinuxSocket(sock, file, self.umask, self.clients.forget)

    def _watched(self, found: LinuxSocket) -> LinuxSocket:
        if found.file is not None and (cause := self.files.watch(found.file.path)):
            self.log("warning", "cannot watch a socket file", path=found.file.path, cause=cause)
        return found


def fd_of(held: BoundSocket) -> int:
    """Return the descriptor of a socket that was made here."""
    assert isinstance(held, LinuxSocket)
    return held.fileno()


def _descriptors_of(pid: int, target: str) -> Iterator[int]:
    """Yield under which numbers a process has something open; it may close any of them meanwhile (proc(5)).

    Raises `OSError` when nobody can say just now.
    """
    with unless_gone():
        for name in os.listdir(f"/proc/{pid}/fd"):
            with unless_gone():
                if os.readlink(f"/proc/{pid}/fd/{name}") == target:
                    yield int(name)


def _copied(pid: int, fd: int) -> socket.socket | None:
    """Return a socket that another process has open, None when it is none any more or not to be had.

    Raises `OSError` when nobody can say just now.
    """
    with unless_gone():
        handle = os.pidfd_open(pid)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            copy = libc.syscall(_PIDFD_GETFD, handle, fd, 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), "cannot copy a descriptor")
        finally:
            os.close(handle)
        if stat.S_ISSOCK(os.fstat(copy).st_mode):
            return socket.socket(fileno=copy)
        os.close(copy)  # the number was reused between two looks
    return None


def _cookie(sock: socket.socket) -> int:
    """Return the number that no other socket of this boot has (SO_COOKIE of socket(7), Linux 4.12)."""
    (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
    return int(cookie)


# ---- binding -------------------------------------------------------------------------------------


def _internet_socket(template: SocketTemplate, address: InternetAddress) -> socket.socket:
    host, family = _resolve(address.host)
    sock = socket.socket(family, _TYPES[template.type])
    try:
        if template.type == "stream":
            # For datagrams it would let two programs share a port and steal from each other.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if template.reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, template.ipv6_only)
        if template.interface is not None:
            name = template.interface.encode()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        host, _, scope = host.partition("%")
        if family == socket.AF_INET6:
            number = int(scope) if scope.isdigit() else socket.if_nametoindex(scope) if scope else 0
            sock.bind((host, address.port, 0, number))
        else:
            sock.bind((host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _resolve(host: str) -> tuple[str, int]:
    """Return the number of a host and its family. Raises `ValueError` with the cause."""
    for candidate in (host, _name_in_hosts(host)):
        if candidate is not None:
            for family in (socket.AF_INET, socket.AF_INET6):
                with suppress(OSError, ValueError):
                    socket.inet_pton(family, candidate.partition("%")[0])
                    return candidate, family
    msg = f"{host} is neither an address nor a name of /etc/hosts"
    raise ValueError(msg)


def _name_in_hosts(host: str) -> str | None:
    found: list[str] = []
    with suppress(OSError), open("/etc/hosts", encoding="utf-8", errors="replace") as file:
        lines = [line.partition("#")[0].split() for line in file]
        found = [line[0] for line in lines if host.lower() in map(str.lower, line[1:])]
    # Both families of one name: the older one, as most programs that are given a name expect.
    found.sort(key=lambda number: ":" in number)
    return found[0] if found else "127.0.0.1" if host.lower() == "localhost" else None


def _unix_socket(template: SocketTemplate, path: str) -> tuple[socket.socket, tuple[int, int]]:
    sock = socket.socket(socket.AF_UNIX, _TYPES[template.type])
    # Closed to all but us until it has its owner and its mode.
    umask = os.umask(CLOSED_UMASK)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path, template.type):
                raise
            os.unlink(path)
            sock.bind(path)
        found = os.lstat(path)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock, (found.st_dev, found.st_ino)


def _is_stale(path: str, kind: str) -> bool:
    """Tell whether a socket file is there that nobody answers on."""
    if not _is_socket(path):
        return False
    with socket.socket(socket.AF_UNIX, _TYPES[kind]) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


# ---- why it could not be bound -------------------------------------------------------------------


def _refused(template: SocketTemplate, error: Exception) -> BindFailed:
    if not isinstance(error, OSError):
        return BindFailed("EINVAL", f"cannot bind {template.address}: {error}")
    number = error.errno or errno.EINVAL
    address, cause = template.address, os.strerror(number).lower()
    if isinstance(address, InternetAddress):
        if number == errno.EACCES and address.port < 1024:
            cause += ", ports below 1024 need root or CAP_NET_BIND_SERVICE"
        elif number == errno.ENODEV and template.interface is not None:
            cause = f"no such interface {template.interface}"
    elif number == errno.EADDRINUSE:
        cause += ", something answers there" if _is_socket(address.path) else ", a file is there"
    return BindFailed(errno.errorcode.get(number, str(number)), f"cannot bind {address}: {cause}")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
