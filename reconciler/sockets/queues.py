"""Who waits to be accepted at a listening socket, and how many may; asked of the kernel, never waiting.

How many is told by TCP_INFO (tcp(7)), whose two fields are put to this use for a socket that listens. Who is told by
sock_diag(7), which anybody may ask, and for Unix sockets how many, too. What the kernel does not tell is not known.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

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
_ESTABLISHED_OR_CLOSING: Final = 1 << 1 | 1 << 8
"""A client that has hung up waits like the others (TCP_CLOSE_WAIT)."""
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
    ports = struct.pack(">HH", port, 0)
    head = struct.pack("=BBBBI", sock.family, socket.IPPROTO_TCP, 0, 0, _ESTABLISHED_OR_CLOSING)
    question = head + ports + bytes(32) + struct.pack("=III", 0, _ANY, _ANY)
    found = set()
    for answer in _ask(question, _REQUEST | _DUMP):
        _, _, _, _, source, _, here, _, _, cookie, *_, inode = _INET_MESSAGE.unpack_from(answer)
        # Nobody has a descriptor of one that was not accepted, so it has no inode yet.
        if inode == 0 and source == socket.htons(port):
            if not any(address) or here.startswith(address):
                found.add(cookie)
    return frozenset(found)


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
