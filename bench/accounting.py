"""What a manager has used, from the kernel's own accounts in /proc; nothing is sampled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    """What was used. `wakes` are voluntary context switches: each is a sleep that ended."""

    cpu_ns: int
    wakes: int
    read_bytes: int

    def since(self, before: Account) -> Account:
        """Return the difference."""
        return Account(
            self.cpu_ns - before.cpu_ns,
            self.wakes - before.wakes,
            self.read_bytes - before.read_bytes,
        )


def account(pids: Iterable[int]) -> dict[int, Account]:
    """Return what each of these processes has used with all threads, and read, ended children included.

    A process that has ended is left out.
    """
    found = {}
    for pid in pids:
        cpu_ns = wakes = read_bytes = 0
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                used = thread_account(pid, int(thread))
                cpu_ns += used.cpu_ns
                wakes += used.wakes
            for line in Path(f"/proc/{pid}/io").read_text().splitlines():
                if line.startswith("rchar:"):
                    read_bytes += int(line.split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[pid] = Account(cpu_ns, wakes, read_bytes)
    return found


def used_since(before: Mapping[int, Account]) -> Account:
    """Return what those that are still there have used together since then."""
    now = account(before)
    each = [used.since(before[pid]) for pid, used in now.items()]
    return Account(
        sum(one.cpu_ns for one in each),
        sum(one.wakes for one in each),
        sum(one.read_bytes for one in each),
    )


def thread_account(pid: int, thread: int) -> Account:
    """Return processor time and wake-ups of one thread."""
    folder = Path(f"/proc/{pid}/task/{thread}")
    cpu_ns = int(folder.joinpath("schedstat").read_text().split()[0])
    for line in folder.joinpath("status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return Account(cpu_ns, int(line.split()[1]), 0)
    raise AssertionError(line)


def children_cpu_ns(pid: int) -> int:
    """Return the processor time of a process's children that have ended, in steps of a clock tick."""
    # proc_pid_stat(5): after the name in parentheses, fields 16 and 17 are cutime and cstime.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of these processes: shared pages are shared out."""
    kib = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib * 1024


def family(pid: int, strangers: Iterable[Path]) -> list[int]:
    """Return a process and its descendants, without those that run one of the `strangers`, our workers."""
    workers = {os.path.realpath(path) for path in strangers}
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        try:
            if os.readlink(f"/proc/{one}/exe") in workers:
                continue
            threads = os.listdir(f"/proc/{one}/task")
            found.append(one)
            for thread in threads:
                text = Path(f"/proc/{one}/task/{thread}/children").read_text()
                todo += [int(child) for child in text.split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return found
