"""Binding, tuning and closing listening sockets, and taking them back from those who use them.

A host is a number or a name of /etc/hosts: asking the network for a name could make the keeper wait.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Final

from reconciler.keeper.accounts import find_group, find_uid
from reconciler.keeper.kernel import BindFailed, LaunchFailed, Trace
from reconciler.keeper.processes import NOT_NOW
from reconciler.model.address import InternetAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reconciler.model.socket import SocketTemplate

CLOSED_UMASK: Final = 0o177

_TYPES: Final = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}
_SO_COOKIE: Final = 57
_PIDFD_GETFD: Final = 438


class Listener:
    """One bound socket, listening where its type listens."""

    def __init__(
        self, sock: socket.socket, path: str, file: tuple[int, int] | None, umask: int
    ) -> None:
        self._socket = sock
        self._path = path
        self._inode = file
        self._umask = umask

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    @property
    def trace(self) -> Trace:
        """By what the next keeper knows it."""
        return Trace(os.fstat(self.fileno()).st_ino, _cookie(self._socket), self._inode)

    @property
    def path(self) -> str:
        """The path of its file, empty for one that has none."""
        return self._path

    @property
    def listen(self) -> str:
        """The address with the real port."""
        if self._path:
            return str(UnixAddress(self._path))
        host, port, *more = self._socket.getsockname()
        scope = f"%{socket.if_indextoname(more[1])}" if more and more[1] else ""
        return str(InternetAddress(host + scope, port))

    def is_intact(self) -> bool:
        """Tell whether clients still find it: its file may have been removed or replaced."""
        if self._inode is None:
            return True
        try:
            found = os.lstat(self._path)
        except OSError as error:
            return error.errno in NOT_NOW  # nobody says that it is gone
        return self._inode == (found.st_dev, found.st_ino)

    def tune(self, template: SocketTemplate) -> None:
        """Bring what is no part of the identity to the template. Raises `BindFailed`."""
        sock = self._socket
        try:
            if self._path:
                _tune_file(self._path, self._inode, template, self._umask)
            elif template.type == "stream":
                # Accepted connections inherit both from their listener.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, template.nodelay)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, template.keepalive)
            if template.type != "dgram":
                sock.listen(template.backlog)
        except (OSError, OverflowError) as error:
            raise _refused(template, error) from None
        except LaunchFailed as error:
            text = f"cannot bind {template.address}: {error.error.message}"
            raise BindFailed(error.error.errno, text) from None

    def set_blocking(self, blocking: bool) -> None:
        """Set or clear O_NONBLOCK, for all who have it open. Raises `OSError`."""
        if os.get_blocking(self.fileno()) != blocking:
            os.set_blocking(self.fileno(), blocking)

    def close(self) -> None:
        """Close it, and remove its file while that is still ours."""
        if self._path and self.is_intact():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._socket.close()


def bind(template: SocketTemplate, umask: int) -> Listener:
    """Bind a socket. Raises `BindFailed`."""
    address = template.address
    try:
        if isinstance(address, UnixAddress):
            sock, path = _unix_socket(template), address.path
            found = os.lstat(path)
            listener = Listener(sock, path, (found.st_dev, found.st_ino), umask)
        else:
            listener = Listener(_internet_socket(template, address), "", None, umask)
    except (OSError, ValueError, OverflowError) as error:
        raise _refused(template, error) from None
    try:
        listener.tune(template)
    except BindFailed:
        listener.close()
        raise
    return listener


def take_back(
    template: SocketTemplate, umask: int, trace: Trace, holders: Iterable[int], own: int | None
) -> Listener | None:
    """Return a socket that one of these processes holds; None when it is in none or not to be had.

    `own` is a descriptor of it that is ours already.

    It takes the right to trace the process (pidfd_getfd(2), Linux 5.6): the same user and not made
    undumpable, or CAP_SYS_PTRACE; under Yama (ptrace_scope 1) CAP_SYS_PTRACE in any case.
    Raises `OSError` when nobody can say just now: who uses it would be stopped for nothing.
    """
    path = template.address.path if isinstance(template.address, UnixAddress) else ""
    device, inode = trace.file or (0, 0)
    file = (device, inode) if path else None
    if own is not None:
        return Listener(socket.socket(fileno=own), path, file, umask)
    for pid in holders:
        for fd in _descriptors_of(pid, f"socket:[{trace.inode}]"):
            sock = _copied(pid, fd)
            if sock is None:
                continue
            if _is_it(sock, template, trace):
                return Listener(sock, path, file, umask)
            sock.close()
    return None


def _descriptors_of(pid: int, target: str) -> Iterator[int]:
    """Yield under which numbers a process has something open; it may close any of them meanwhile (proc(5)).

    Raises `OSError` when nobody can say just now.
    """
    with _unless_gone():
        for name in os.listdir(f"/proc/{pid}/fd"):
            with _unless_gone():
                if os.readlink(f"/proc/{pid}/fd/{name}") == target:
                    yield int(name)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Pass over what a process has closed, or does not let us see. Raises `OSError` when that is not sure."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_NOW:
            raise


def _copied(pid: int, fd: int) -> socket.socket | None:
    """Return a socket that another process has open, None when it is none any more or not to be had.

    Raises `OSError` when nobody can say just now.
    """
    with _unless_gone():
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
        os.close(copy)  # the number was given anew between two looks
    return None


def _is_it(sock: socket.socket, template: SocketTemplate, trace: Trace) -> bool:
    """Tell whether a socket is the one that was lost, and still listens as it shall."""
    listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return _cookie(sock) == trace.cookie and listens == (template.type != "dgram")


def _cookie(sock: socket.socket) -> int:
    """Return the number that no other socket of this boot has (SO_COOKIE of socket(7), Linux 4.12)."""
    (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
    return int(cookie)


def _tune_file(
    path: str, inode: tuple[int, int] | None, template: SocketTemplate, umask: int
) -> None:
    """Give the file its owner first: nobody may connect who could not in the end.

    Whoever may write in its folder may put a link or another file in its place at any instant (TOCTOU), so what
    is changed is held by a descriptor and was looked at before; chmod(2) knows no way not to follow a link.
    """
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if (found.st_dev, found.st_ino) != inode or not stat.S_ISSOCK(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        held = f"/proc/self/fd/{file}"
        if template.owner is not None or template.group is not None:
            uid = -1 if template.owner is None else find_uid(template.owner)
            gid = -1 if template.group is None else find_group(template.group)
            os.chown(held, uid, gid)
        os.chmod(held, 0o777 & ~umask if template.mode is None else template.mode)
    finally:
        os.close(file)


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
            with contextlib.suppress(ValueError):
                version = ipaddress.ip_address(candidate).version
                return candidate, socket.AF_INET if version == 4 else socket.AF_INET6
    msg = f"{host} is neither an address nor a name of /etc/hosts"
    raise ValueError(msg)


def _name_in_hosts(host: str) -> str | None:
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            lines = [line.partition("#")[0].split() for line in file]
    except OSError:
        lines = []
    found = [line[0] for line in lines if host.lower() in map(str.lower, line[1:])]
    # Both families of one name: the older one, as most programs that are given a name expect.
    found.sort(key=lambda number: ":" in number)
    return found[0] if found else "127.0.0.1" if host.lower() == "localhost" else None


def _unix_socket(template: SocketTemplate) -> socket.socket:
    address = template.address
    assert isinstance(address, UnixAddress)
    sock = socket.socket(socket.AF_UNIX, _TYPES[template.type])
    # Closed to all but us until it has its owner and its mode.
    umask = os.umask(CLOSED_UMASK)
    try:
        try:
            sock.bind(address.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(address.path, template.type):
                raise
            os.unlink(address.path)
            sock.bind(address.path)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


def _is_stale(path: str, kind: str) -> bool:
    """Tell whether a socket file is there that nobody answers on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
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
