"""Who waits to be accepted at a listening socket, and how many may; asked of the kernel, never waiting.

How many is told by TCP_INFO (tcp(7)), whose two fields are put to this use for a socket that listens. Who is told by
sock_diag(7), which anybody may ask, and for Unix sockets how many, too. What the kernel does not tell is not known.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from reconciler.model.address import UnixAddress, parse_address
from reconciler.sockets.bound import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_DONE: Final = 3
_ERROR: Final = 2
_REQUEST: Final = 0x1
_DUMP: Final = 0x300
_ANY: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_UNIX_MESSAGE_BYTES: Final = 16
"""Length of struct unix_diag_msg, which the attributes follow."""
_ICONS: Final = 3
_RQLEN: Final = 4
_SHUTDOWN: Final = 6
_SHOW_ICONS_AND_RQLEN: Final = 0x18
_TCP_INFO_QUEUE: Final = 24
"""Where tcpi_unacked and, after it, tcpi_sacked are in struct tcp_info."""
_ESTABLISHED: Final = 1
_ESTABLISHED_OR_CLOSING: Final = 1 << _ESTABLISHED | 1 << 8
"""A client that has hung up waits like the others (TCP_CLOSE_WAIT)."""
_IN_USE: Final = 0xFFF & ~(1 << 7 | 1 << 10)
"""All states of include/net/tcp_states.h but CLOSE and LISTEN; TIME_WAIT tells of what ended within a minute."""
_SHOW_NAME: Final = 0x1
_NAME: Final = 0
_INET_MESSAGE: Final = struct.Struct("=BBBBHH16s16sIQIIIII")
"""struct inet_diag_msg: family, state, two bytes, ports, addresses, interface, cookie, four numbers, inode."""


def queue_of(sock: socket.socket) -> Queue:
    """Return the queue of a socket of connections. Raises `OSError`."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return Queue(listens=False)
    if sock.family == socket.AF_UNIX:
        told = _unix_attributes(sock)
        listens = not any(told.get(_SHUTDOWN, b""))
        if len(told.get(_RQLEN, b"")) != 8:
            return Queue(listens=listens)
        waiting, backlog = struct.unpack("=II", told[_RQLEN])
        return Queue(waiting, backlog, listens)
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_QUEUE + 8)
    if len(info) < _TCP_INFO_QUEUE + 8:
        return Queue()
    waiting, backlog = struct.unpack_from("=II", info, _TCP_INFO_QUEUE)
    return Queue(waiting, backlog)


def waiting_at(sock: socket.socket) -> frozenset[int]:
    """Return who waits at a socket, by a number that each has for itself. Raises `OSError`."""
    if sock.family == socket.AF_UNIX:
        inodes = _unix_attributes(sock).get(_ICONS, b"")
        return frozenset(struct.unpack(f"={len(inodes) // 4}I", inodes))
    host, port, *_ = sock.getsockname()
    address = socket.inet_pton(sock.family, host.partition("%")[0])
    found = set()
    for _, source, here, cookie, inode in _tcp_at(sock.family, port, _ESTABLISHED_OR_CLOSING):
        # Nobody has a descriptor of one that was not accepted, so it has no inode yet.
        if inode == 0 and source == socket.htons(port):
            if not any(address) or here.startswith(address):
                found.add(cookie)
    return frozenset(found)


def connections_at(listen: str) -> int:
    """Return how many connections there are at an address as it is shown: waiting, open, closed within the last minute.

    Of a Unix socket only those that are open. Raises `OSError`, or `ValueError` where it is no address.
    """
    address = parse_address(listen)
    if isinstance(address, UnixAddress):
        return _unix_connections(address.path)
    host, _, _ = address.host.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        number = socket.inet_pton(family, host)
    except OSError:
        msg = f"{host} is no address"
        raise ValueError(msg) from None
    is_any = not any(number)
    families = {family, socket.AF_INET} if is_any else {family}
    return sum(
        1
        for each in families
        for _, source, here, _, _ in _tcp_at(each, address.port, _IN_USE)
        if source == socket.htons(address.port) and (is_any or here.startswith(number))
    )


def _tcp_at(family: int, port: int, states: int) -> Iterator[tuple[int, int, bytes, int, int]]:
    """Yield state, port (in network order), address, cookie and inode of the TCP sockets at a port."""
    ports = struct.pack(">HH", port, 0)
    head = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states)
    question = head + ports + bytes(32) + struct.pack("=III", 0, _ANY, _ANY)
    for answer in _ask(question, _REQUEST | _DUMP):
        _, state, _, _, source, _, here, _, _, cookie, *_, inode = _INET_MESSAGE.unpack_from(answer)
        yield state, source, here, cookie, inode


def _unix_connections(path: str) -> int:
    """Return how many sockets have a path, but for the one that listens: those that it has accepted have it, too."""
    established = 1 << _ESTABLISHED
    kind = (socket.AF_UNIX, 0, 0, established, 0, _SHOW_NAME, _ANY, _ANY)
    wanted, found = os.fsencode(path), 0
    for answer in _ask(struct.pack("=BBHIIIII", *kind), _REQUEST | _DUMP):
        at = _UNIX_MESSAGE_BYTES
        while at + 4 <= len(answer):
            length, name = struct.unpack_from("=HH", answer, at)
            if name == _NAME and answer[at + 4 : at + length].rstrip(b"\0") == wanted:
                found += 1
            at += max((length + 3) & ~3, 4)
    return found


def _unix_attributes(sock: socket.socket) -> dict[int, bytes]:
    inode = os.fstat(sock.fileno()).st_ino
    kind = (socket.AF_UNIX, 0, 0, _ANY, inode, _SHOW_ICONS_AND_RQLEN, _ANY, _ANY)
    told = {}
    for answer in _ask(struct.pack("=BBHIIIII", *kind), _REQUEST):
        at = _UNIX_MESSAGE_BYTES
        while at + 4 <= len(answer):
            length, name = struct.unpack_from("=HH", answer, at)
            told[name] = answer[at + 4 : at + length]
            at += max((length + 3) & ~3, 4)
    return told


def _ask(question: bytes, flags: int) -> Iterator[bytes]:
    """Yield the answers to a question (netlink(7)); none where this kernel does not know of such. Raises `OSError`."""
    size = _HEADER.size + len(question)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + question)
        while data := kernel.recv(1 << 16):  # answers are made while they are asked for
            while len(data) >= _HEADER.size:
                size, kind, *_ = _HEADER.unpack_from(data)
                if kind in {_DONE, _ERROR}:
                    return
                yield data[_HEADER.size : size]
                data = data[max((size + 3) & ~3, _HEADER.size) :]
            if not flags & _DUMP:
                return
