"""What a datagram of sd_notify(3) says, and what is known of its process by it.

Datagrams come from programs of all kinds, so nothing in them is an error: what is not understood says nothing. A
line counts only when it is exactly as documented (`READY=0` is none), lines come in any order, and the last one
may lack its line break. Who repeats itself changes nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from reconciler.model.units import SECOND_NS
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from reconciler.model.process import Notified

MAX_BYTES: Final = 4096
"""Of a datagram that is longer no more is looked at."""
MAX_STATUS: Final = 250
"""Characters of a status that are kept."""
MAX_EXTENSION_NS: Final = 3600 * SECOND_NS
"""By so much one message puts off the end of somebody's patience at most."""
_MAX_DIGITS: Final = 18
_MAX_NS: Final = 2**62
"""No instant that it leads to has more than 64 bits."""
_MAX_PID: Final = 2**22
"""PID_MAX_LIMIT of Linux."""


class Message(Struct, frozen=True):
    """What one datagram says. `status` None: nothing of it, empty: that there is none any more."""

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    pings: bool = False
    fails: bool = False
    """Its process says itself that it does not work any more (`WATCHDOG=trigger`)."""
    barrier: bool = False
    status: str | None = None
    watchdog_ns: int | None = None
    extension_ns: int | None = None
    main_pid: int | None = None


_FLAGS: Final = {
    b"READY=1": "ready",
    b"RELOADING=1": "reloading",
    b"STOPPING=1": "stopping",
    b"WATCHDOG=1": "pings",
    b"WATCHDOG=trigger": "fails",
    b"BARRIER=1": "barrier",
}


def parse(data: bytes) -> Message:
    """Return what a datagram says; of values that it says twice the last."""
    found: dict[str, object] = {}
    for line in data[:MAX_BYTES].split(b"\n"):
        if (flag := _FLAGS.get(line)) is not None:
            found[flag] = True
            continue
        name, _, value = line.partition(b"=")
        if name == b"STATUS":
            found["status"] = _text(value)
        elif name == b"WATCHDOG_USEC":
            found["watchdog_ns"] = _nanoseconds(value)
        elif name == b"EXTEND_TIMEOUT_USEC":
            found["extension_ns"] = _nanoseconds(value)
        elif name == b"MAINPID":
            pid = _number(value)
            found["main_pid"] = pid if pid is not None and 0 < pid <= _MAX_PID else None
    return Message(**found)  # type: ignore[arg-type]  # each name with a value of its type


def after(known: Notified, said: Message, pid: int, now_ns: int) -> Notified:
    """Return what is known of a process once it has said something. `pid` is its main process."""
    changes: dict[str, object] = {}
    if said.ready:
        changes["reloading_at_ns"] = None
        if known.ready_at_ns is None:
            # However long it has taken: as long as it starts, it is not watched.
            changes |= {"ready_at_ns": now_ns, "late_at_ns": None}
    elif said.reloading and known.ready_at_ns is not None and known.reloading_at_ns is None:
        changes["reloading_at_ns"] = now_ns  # some say it while they start: then it means nothing
    if said.stopping and known.stopping_at_ns is None:
        changes["stopping_at_ns"] = now_ns
    if said.fails and not known.fails:
        changes |= {"late_at_ns": now_ns, "fails": True}
    if said.status is not None:
        changes["status"] = said.status
    if said.watchdog_ns is not None:
        changes["watchdog_ns"] = said.watchdog_ns or None
    if said.extension_ns:
        changes["extended_until_ns"] = now_ns + min(said.extension_ns, MAX_EXTENSION_NS)
    if said.main_pid is not None:
        changes["main_pid"] = 0 if said.main_pid == pid else said.main_pid
    return replace(known, is_heard=True, **changes)


def is_milestone(before: Notified, now: Notified) -> bool:
    """Tell whether something has happened that happens once in a life: it is told at once."""
    return (before.ready_at_ns, before.stopping_at_ns, before.late_at_ns, before.is_heard) != (
        now.ready_at_ns,
        now.stopping_at_ns,
        now.late_at_ns,
        now.is_heard,
    )


def _text(value: bytes) -> str:
    """Return a text that can be shown anywhere: bounded, and without what moves a cursor or the direction of text."""
    text = value[: 4 * MAX_STATUS].decode(errors="replace")[:MAX_STATUS]
    return "".join(
        each if each.isprintable() else " " if each == "\t" else "\ufffd" for each in text
    ).strip()


def _nanoseconds(value: bytes) -> int | None:
    number = _number(value)
    return None if number is None else min(number * 1000, _MAX_NS)


def _number(value: bytes) -> int | None:
    with contextlib.suppress(ValueError):
        if value.isdigit() and len(value) <= _MAX_DIGITS:
            return int(value)
    return None
