"""Asking /proc about processes, and telling them apart when their numbers are given anew."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from reconciler.keeper.kernel import Identity
from reconciler.model.process import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOT_NOW: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
"""What says nothing of what was asked for, only that it cannot be told just now."""
TICK_NS: Final = 10**9 // os.sysconf("SC_CLK_TCK")
_MARKER: Final = b"RECONCILE_ID="
_KERNEL_THREAD: Final = 0x200000
_LOOKS: Final = 50
"""How often, a millisecond apart, a process is looked at that is between two programs."""


def boot_id() -> str:
    """Return what tells this boot of the machine from all others; empty where it is not told.

    Raises `OSError` when it cannot be read just now: without it nothing of what runs would be known.
    """
    with (
        contextlib.suppress(FileNotFoundError, PermissionError),
        open("/proc/sys/kernel/random/boot_id") as file,
    ):
        return file.read().strip()
    return ""


def stat(pid: int) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the third on, the state; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def born(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; 0 when it is gone."""
    fields = stat(pid)
    return int(fields[19]) if fields else 0


class Births:
    """Tells when children were started, as `born` does, which is a fifth of all that a start costs.

    The kernel counts that in ticks of its boot clock (proc_pid_stat(5)). So where no tick goes by while a child is
    made, it was born in that one; the first child of each keeper shows whether this system keeps to it.
    """

    def __init__(self) -> None:
        self._tick = 0
        self._is_trusted: bool | None = None

    def expect(self) -> None:
        """Call before a child is made."""
        self._tick = _ticks()

    def of(self, pid: int) -> int:
        """Return when the child was started, in clock ticks since boot; 0 when it is gone."""
        is_sure = _ticks() == self._tick
        if is_sure and self._is_trusted:
            return self._tick
        found = born(pid)
        if is_sure and found and self._is_trusted is None:
            self._is_trusted = found == self._tick
        return found


def _ticks() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS


def parent(pid: int) -> int:
    """Return the parent of a process, -1 when it is gone."""
    fields = stat(pid)
    return int(fields[1]) if fields else -1


def group(pid: int) -> int:
    """Return the process group of a process, -1 when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def children(pid: int, tid: int) -> list[int]:
    """Return the children of one thread (proc(5), needs CONFIG_PROC_CHILDREN; none without)."""
    try:
        with open(f"/proc/{pid}/task/{tid}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def descendants(roots: Iterable[int]) -> list[tuple[int, int]]:
    """Return all below these processes, each with its parent."""
    found: list[tuple[int, int]] = []
    queue = list(roots)
    seen = set(queue)
    for each in queue:
        try:
            threads = os.listdir(f"/proc/{each}/task")
        except OSError:
            continue
        for pid in [pid for tid in threads for pid in children(each, int(tid))]:
            if pid not in seen:
                seen.add(pid)
                found.append((pid, each))
                queue.append(pid)
    return found


def identify(pid: int, marker_of: Callable[[int], str | None]) -> Identity | None:
    """Return what tells whose a process is, None when it is gone."""
    found = marker_of(pid)
    try:
        return Identity(os.getpgid(pid), os.getsid(pid), found, born(pid))
    except ProcessLookupError:
        return None


def search(beginning: str, marker_of: Callable[[int], str | None]) -> dict[int, Identity]:
    """Return all processes of this machine but us whose marker begins so."""
    found: dict[int, Identity] = {}
    unsure = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for _ in range(_LOOKS):
        looked, unsure = unsure, []
        for pid in looked:
            mark = marker_of(pid)
            if mark is None:
                unsure.append(pid)
            elif mark.startswith(beginning) and pid != os.getpid():
                identity = identify(pid, marker_of)
                # Asked once more: it was the same process all the while.
                if identity is not None and identity.marker == mark == marker_of(pid):
                    if identity.born:
                        found[pid] = identity
                    else:
                        unsure.append(pid)
        if not unsure:
            break
        time.sleep(0.001)
    return found


def marker(pid: int) -> str | None:
    """Return what RECONCILE_ID is in a process's environment, None when that cannot be told just now."""
    entries: list[bytes] = []
    # A second look at an empty one: it may have been that of the program that just ended by an exec.
    for _ in range(2):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError as error:
            return None if error.errno in NOT_NOW else ""
        if entries != [b""]:
            break
        if _is_between_programs(pid):
            return None
    found = [each.removeprefix(_MARKER) for each in entries if each.startswith(_MARKER)]
    return found[-1].decode(errors="replace") if found else ""


def _is_between_programs(pid: int) -> bool:
    """Tell whether a process is in the middle of an exec: its new memory has no environment yet (proc(5), env_end)."""
    fields = stat(pid)
    if not fields or fields[0] in {b"Z", b"X"} or int(fields[6]) & _KERNEL_THREAD:
        return False
    return fields[48] == b"0"


# ---- signals and statuses ------------------------------------------------------------------------


def signal_number(name: str) -> int | None:
    """Return the number of a signal's name without SIG; None when this system has none of that name."""
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base in {"RTMIN", "RTMAX"} and offset.isdigit():
        number = signal.Signals[f"SIG{base}"] + int(sign + offset)
        return number if number in signal.valid_signals() else None
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        return None


def signal_name(number: int) -> str:
    """Return the name of a signal without SIG."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def exit_of(status: int) -> Exit:
    """Return how a process ended by what waitpid(2) says."""
    if os.WIFSIGNALED(status):
        return Exit(signal=signal_name(os.WTERMSIG(status)), core=os.WCOREDUMP(status))
    return Exit(code=os.WEXITSTATUS(status))
