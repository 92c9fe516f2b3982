"""Asking /proc about processes, and telling them apart when their numbers are reused."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from bisect import bisect
from typing import TYPE_CHECKING, Final

from reconciler.model.process import Exit
from reconciler.system.facts import Identity
from reconciler.system.shortages import NOT_NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from contextlib import AbstractContextManager


TICK_NS: Final = 10**9 // os.sysconf("SC_CLK_TCK")
_MARKER: Final = b"RECONCILE_ID="
_KERNEL_THREAD: Final = 0x200000
_READ_BYTES: Final = 256 * 1024
_MOST_ABOVE: Final = 100
"""Nobody is that deep below another one, but who wants to be looked for."""
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
    return _named_stat(pid)[1]


def _named_stat(pid: int) -> tuple[str, list[bytes]]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        before, _, after = file.read().rpartition(b")")
        return before.partition(b"(")[2].decode(errors="replace"), after.split()
    return "", []


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


def umask() -> int:
    """Return the file mode mask of this process (proc_pid_status(5)): umask(2) tells it only to who changes it."""
    with open("/proc/self/status", "rb") as file:
        return next(int(line[6:], 8) for line in file if line.startswith(b"Umask:"))


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


def ancestors(pid: int, until: int) -> list[int]:
    """Return a living process and those above it, below `until`; empty when it is dead."""
    found: list[int] = []
    while pid > 0 and pid != until and len(found) < _MOST_ABOVE:
        fields = stat(pid)
        if not fields or fields[0] in {b"Z", b"X"}:
            break
        found.append(pid)
        pid = int(fields[1])
    return found


def user(pid: int) -> int | None:
    """Return whose a process is, by number, None when it is gone; of one that must not be looked into it is root's."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid
    return None


def descendants(roots: Iterable[int]) -> list[tuple[int, int]]:
    """Return all below these processes, each with its parent."""
    found: list[tuple[int, int]] = []
    queue = list(roots)
    seen = set(queue)
    for each in queue:
        for pid in children_of(each):
            if pid not in seen:
                seen.add(pid)
                found.append((pid, each))
                queue.append(pid)
    return found


def below(roots: Iterable[int]) -> dict[int, int]:
    """Return all below these processes, with when each was started."""
    return {pid: born(pid) for pid, _ in descendants(roots)}


def children_of(pid: int) -> list[int]:
    """Return the children of a process; none when it is gone or that cannot be told."""
    with contextlib.suppress(OSError):
        return [each for pids in _children_by_thread(pid).values() for each in pids]
    return []


def _children_by_thread(pid: int) -> dict[int, list[int]]:
    """Return the children of each thread (proc(5), CONFIG_PROC_CHILDREN). Raises `OSError` for want of something."""
    found: dict[int, list[int]] = {}
    with unless_gone():
        for name in os.listdir(f"/proc/{pid}/task"):
            path = f"/proc/{pid}/task/{name}/children"
            with unless_gone(), open(path, "rb", buffering=0) as file:
                found[int(name)] = list(map(int, file.read().split()))
    return found


def has_forked(pid: int) -> bool:
    """Tell whether a process has, or has waited for, children of its own.

    Those that it has waited for have left their page faults with it (cminflt of proc_pid_stat(5)); those that
    nobody waits for leave nothing, so whoever ignores SIGCHLD may have had any. So may who is dead and not reaped
    yet: its children are another's already.
    """
    fields = stat(pid)
    if not fields or fields[0] == b"Z" or fields[8] != b"0" or children_of(pid):
        return bool(fields)
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            ignored = next(line.split()[1] for line in file if line.startswith(b"SigIgn:"))
    except (OSError, StopIteration):
        return True
    return bool(int(ignored, 16) >> (signal.SIGCHLD - 1) & 1)


def identify(pid: int, marker_of: Callable[[int], str | None]) -> Identity | None:
    """Return what tells whose a process is, None when it is gone."""
    found = marker_of(pid)
    name, fields = _named_stat(pid)
    if not fields:
        return None
    numbers = int(fields[2]), int(fields[3]), found, int(fields[19]), name, int(fields[1])
    return Identity(*numbers, is_dead=fields[0] in {b"Z", b"X"})


def read_all(fd: int) -> bytes:
    """Return what a file of /proc says now, however long it is."""
    data = b""
    while part := os.pread(fd, _READ_BYTES, len(data)):
        data += part
    return data


def everyone() -> list[int]:
    """Return the processes of this machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def session(pid: int) -> int:
    """Return the session of a process, -1 when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


class Heirs:
    """Those who become parents of what adopted processes leave behind: whoever stands above these already.

    New children come last in the list of a thread (proc_tid_children(5)), so only they need to be looked at.
    """

    def __init__(
        self,
        beginning: str,
        marker_of: Callable[[int], str | None],
        border: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        """`beginning` is that of the markers of all that is ours."""
        self._beginning, self._marker_of, self._border = beginning, marker_of, border
        self._known: dict[int, dict[int, list[int]]] = {}
        """By heir and its thread, the children that were there last time."""
        self._is_begun = False

    def look_at(self, heirs: set[int], seen: Container[int] = ()) -> None:
        """Look at these, too, from here on; all their children but those `seen` are newcomers the first time."""
        for heir in heirs - self._known.keys() - {-1, os.getpid()}:
            there: dict[int, list[int]] = {}
            with contextlib.suppress(OSError):  # then all its children are newcomers
                there = _children_by_thread(heir)
            self._known[heir] = {
                tid: [pid for pid in pids if pid in seen] for tid, pids in there.items()
            }

    def search(self, sessions: Container[int]) -> dict[int, Identity]:
        """Return those who are new, but us, that have a marker of ours or are in one of these sessions."""
        newcomers = self._newcomers()
        unsure = among = everyone() if newcomers is None else newcomers
        found: dict[int, Identity] = {}
        for _ in range(_LOOKS):
            looked, unsure = unsure, []
            for pid in looked:
                with self._border(f"looking at process {pid}"):
                    mark = self._marker_of(pid)
                    if mark is None:
                        unsure.append(pid)
                    elif pid != os.getpid() and (
                        mark.startswith(self._beginning) or session(pid) in sessions
                    ):
                        who = identify(pid, self._marker_of)
                        # Asked once more: it was the same process all the while.
                        is_sure = who is not None and who.marker == mark == self._marker_of(pid)
                        if who is not None and who.born and is_sure:
                            found[pid] = who
                        else:
                            unsure.append(pid)  # one that is gone has no marker at the next look
            if not unsure:
                break
            time.sleep(0.001)
        if newcomers is None:
            self.look_at({each.parent for each in found.values()} - found.keys(), {*among})
        return found

    def _newcomers(self) -> list[int] | None:
        """Return the children that have come since asked last; None: look at all processes instead.

        Raises `OSError` for want of something: nobody may be taken for dead without heirs by that.
        """
        is_first, self._is_begun = not self._is_begun, True
        # A dying keeper is still named as the parent of what it started, and one that nobody waits for stays in /proc.
        gone = [heir for heir in self._known if (stat(heir) or [b"X"])[0] in {b"Z", b"X"}]
        for heir in gone:
            del self._known[heir]
        if is_first or gone:
            return None  # nobody knows who inherited it from one that is gone
        found = []
        now = {heir: _children_by_thread(heir) for heir in self._known}
        for heir, before in self._known.items():
            for thread, pids in now[heir].items():
                found += _appended(before.get(thread, []), pids)
        self._known = now
        return found


@contextlib.contextmanager
def unless_gone() -> Iterator[None]:
    """Pass over what is gone or does not let us see it. Raises `OSError` when that is not sure."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_NOW:
            raise


def _appended(before: list[int], now: list[int]) -> list[int]:
    """Return what has come to the end of a list from which others have gone; a number may have come back.

    What stands in both is compared as a whole: the work grows with those that have gone.
    """
    while before and now:
        same = bisect(
            range(1, min(len(before), len(now)) + 1), 0, key=lambda n: before[:n] != now[:n]
        )
        before, now = before[same + 1 :], now[same:]
    return now


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
