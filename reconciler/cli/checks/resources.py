"""What there is of descriptors, processes, watches of files, pipes and memory."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

from reconciler.model.finding import Finding
from reconciler.model.units import SIZE_UNITS_BYTES, format_count, format_size

if TYPE_CHECKING:
    from reconciler.cli.checks.machine import Machine
    from reconciler.cli.checks.needs import Needs

_OWN_DESCRIPTORS: Final = 64
_DESCRIPTORS_EACH: Final = 4
"""The keeper holds for a process: the FIFOs of its output, its pidfd when it was adopted, its socket for sd_notify."""
_FEW_DESCRIPTORS: Final = 4096
_PROCESSES_LEFT: Final = 100
_FEW_INSTANCES: Final = 128
_PAGES_EACH: Final = 16
"""Of an ordinary pipe (pipe(7))."""
_UNLIMITED: Final = resource.RLIM_INFINITY


def resources(machine: Machine, needs: Needs) -> list[Finding]:
    """Return what was found."""
    return [
        _descriptors(machine, needs),
        _processes(machine, needs),
        _inotify(machine),
        _pipes(machine, needs),
        *_memory(machine),
    ]


def _descriptors(machine: Machine, needs: Needs) -> Finding:
    soft, hard = machine.files
    wanted = _OWN_DESCRIPTORS + _DESCRIPTORS_EACH * needs.processes + needs.sockets
    found = f"limit {_limit(hard)} (soft {_limit(soft)}); the manager needs about {wanted}"
    advice = (
        "raise it: LimitNOFILE= of the service, ulimit -Hn, or docker run --ulimit nofile=65536"
    )
    if hard != _UNLIMITED and hard < wanted:
        meaning = "processes of this spec cannot all be started: too many open files"
        return Finding("descriptors", "problem", found, meaning, advice)
    if hard != _UNLIMITED and hard < _FEW_DESCRIPTORS:
        meaning = (
            f"enough for about {max(0, hard - _OWN_DESCRIPTORS) // _DESCRIPTORS_EACH} processes"
        )
        return Finding("descriptors", "warning", found, meaning, advice)
    return Finding("descriptors", "ok", found)


def _processes(machine: Machine, needs: Needs) -> Finding:
    group = machine.number("/sys/fs/cgroup/pids.max")
    group = group if group is not None else machine.number("/sys/fs/cgroup/pids/pids.max")
    limits = {
        "pids.max of this container": group,
        "kernel.threads-max": machine.number("/proc/sys/kernel/threads-max"),
        "RLIMIT_NPROC": machine.processes if machine.uid and machine.processes >= 0 else None,
    }
    known = {name: most for name, most in limits.items() if most is not None}
    if not known:
        return Finding("processes", "ok", "no limit is known")
    name = min(known, key=known.__getitem__)
    found = f"{name} is {known[name]}; the spec has {needs.processes}"
    if known[name] < needs.processes + _PROCESSES_LEFT:
        meaning = "threads and children count too: some may not be started"
        return Finding(
            "processes", "warning", found, meaning, "raise it (TasksMax= of the service)"
        )
    return Finding("processes", "ok", found)


def _inotify(machine: Machine) -> Finding:
    watches = machine.number("/proc/sys/fs/inotify/max_user_watches")
    instances = machine.number("/proc/sys/fs/inotify/max_user_instances")
    found = f"{_known(watches)} watches and {_known(instances)} instances for each user"
    if machine.inotify:
        short = {"EMFILE": "max_user_instances", "ENOSPC": "max_user_watches"}
        name = short.get(machine.inotify, "")
        meaning = "saved spec files are noticed only by `reconcile apply`, and `watch` by nobody"
        advice = (
            f"sysctl fs.inotify.{name}=N, with a larger N"
            if name
            else "is it forbidden here (seccomp)?"
        )
        return Finding(
            "inotify",
            "problem",
            f"no file can be watched: {machine.inotify}; {found}",
            meaning,
            advice,
        )
    if instances is not None and instances < _FEW_INSTANCES:
        meaning = "editors and other managers of this user use them too; each manager takes two"
        advice = "sysctl fs.inotify.max_user_instances=512"
        return Finding("inotify", "warning", found, meaning, advice)
    return Finding("inotify", "ok", found)


def _pipes(machine: Machine, needs: Needs) -> Finding:
    pages = machine.number("/proc/sys/fs/pipe-user-pages-soft")
    if machine.uid == 0 or not pages:
        return Finding("pipes", "ok", "no limit for root" if machine.uid == 0 else "no limit")
    count = pages // _PAGES_EACH
    found = f"pages for {format_count(count, 'pipe')} of 64KiB (fs.pipe-user-pages-soft {pages})"
    if needs.processes > count:
        meaning = "further pipes hold 8KiB: a process that writes much waits more often until its output is read"
        advice = "sysctl fs.pipe-user-pages-soft=N, with a larger N; or run as root"
        return Finding("pipes", "warning", found, meaning, advice)
    return Finding("pipes", "ok", found)


def _memory(machine: Machine) -> list[Finding]:
    values = dict(line.partition(":")[::2] for line in machine.text("/proc/meminfo").splitlines())
    total, free = (_kib(values.get(name, "")) for name in ("MemTotal", "MemAvailable"))
    mode = machine.number("/proc/sys/vm/overcommit_memory")
    found = f"{format_size(free)} of {format_size(total)} available"
    first = Finding("memory", "ok", found)
    if total and free < total // 20:
        meaning = "the kernel may soon kill processes"
        first = Finding(
            "memory", "warning", found, meaning, "limits: {max_memory: ...} replaces what leaks"
        )
    rest = Finding("overcommit", "ok", f"vm.overcommit_memory is {_known(mode)}")
    if mode == 2:
        meaning = "a fork can fail with ENOMEM while memory is free; it is tried again, and shows in the status"
        rest = Finding(
            "overcommit", "warning", rest.found, meaning, "sysctl vm.overcommit_memory=0"
        )
    return [first, rest, *_kills(machine)]


def _kills(machine: Machine) -> list[Finding]:
    counts = dict(
        line.split(" ", 1) for line in machine.text("/proc/vmstat").splitlines() if " " in line
    )
    kills = counts.get("oom_kill", "0")
    if kills in {"0", ""}:
        return []
    meaning = "some may have been ours: their events say `out of memory`"
    found = f"since its boot the kernel has killed for want of memory: {kills}"
    return [
        Finding(
            "oom", "warning", found, meaning, "reconcile events; dmesg | grep -i 'killed process'"
        )
    ]


def _kib(text: str) -> int:
    number = text.split()[0] if text.split() else ""
    return int(number) * SIZE_UNITS_BYTES["KiB"] if number.isdecimal() else 0


def _limit(limit: int) -> str:
    return "unlimited" if limit == _UNLIMITED else str(limit)


def _known(number: int | None) -> str:
    return "unknown" if number is None else str(number)
