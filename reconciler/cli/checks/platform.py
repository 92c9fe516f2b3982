"""What kernel, clock, /proc, user and container say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reconciler.model.finding import Finding, Level

if TYPE_CHECKING:
    from reconciler.cli.checks.machine import Machine
    from reconciler.cli.checks.needs import Needs

FEATURES: Final = (
    (
        (5, 6),
        "sockets cannot be taken back from processes when the manager was killed: they are bound again",
    ),
    (
        (5, 14),
        "no control groups for processes: who hides from a stop is found by parentage and environment only",
    ),
    ((6, 15), "how a process ended while no manager lived stays unknown"),
)
"""What does not work before a version: pidfd_getfd, clone3 with cgroup.kill, PIDFD_GET_INFO."""
_NEEDED: Final = (5, 3)
"""pidfd_open(2): processes of a former manager are signalled by it."""
_PAST_S: Final = 1_735_689_600
"""The first of January 2025: no clock that is right shows less."""
_CONTAINERS: Final = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}


def platform(machine: Machine, needs: Needs) -> list[Finding]:
    """Return what was found."""
    return [
        _kernel(machine),
        _clock(machine, needs),
        *_proc(machine),
        _user(machine, needs),
        _container(machine),
    ]


def _kernel(machine: Machine) -> Finding:
    numbers = re.match(r"(\d+)\.(\d+)", machine.release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    found = f"Linux {machine.release}"
    if machine.pidfd or version < _NEEDED:
        cause = machine.pidfd or "older than 5.3"
        meaning = "pidfd_open does not work: processes of a former manager cannot be taken over"
        advice = "use Linux 5.3 or newer; in a container, let seccomp pass pidfd_open"
        return Finding("kernel", "problem", f"{found}: {cause}", meaning, advice)
    lacks = [(since, what) for since, what in FEATURES if version < since]
    if not lacks:
        return Finding("kernel", "ok", found)
    meaning = "; ".join(what for _, what in lacks)
    since = ".".join(map(str, lacks[-1][0]))
    level: Level = "warning" if lacks[0][0] < (6, 0) else "ok"
    return Finding("kernel", level, found, meaning, f"all is there from Linux {since} on")


def _clock(machine: Machine, needs: Needs) -> Finding:
    if machine.now_s < _PAST_S:
        found = "the clock shows a time that is past"
        meaning = "times in history and events are wrong, and schedules fire at wrong times"
        return Finding(
            "clock", "problem", found, meaning, "set it: timedatectl set-ntp true, or chronyd"
        )
    if machine.is_synchronised is None:
        return Finding("clock", "ok", "nobody can tell whether it is synchronised")
    if machine.is_synchronised:
        return Finding("clock", "ok", "synchronised")
    found = "not synchronised, as far as the kernel knows"
    if not needs.schedules:
        return Finding(
            "clock", "ok", found, "only times that are shown depend on it: the spec has no schedule"
        )
    meaning = f"schedules fire by it: {', '.join(needs.schedules)}"
    return Finding(
        "clock",
        "warning",
        found,
        meaning,
        "timedatectl set-ntp true; a container has the clock of its host",
    )


def _proc(machine: Machine) -> list[Finding]:
    found = []
    options = next(
        (each for place, kind, each in machine.mounts() if place == "/proc" and kind == "proc"), ""
    )
    hidden = re.search(r"hidepid=(\w+)", options)
    if hidden and hidden[1] not in {"0", "off"} and machine.uid:
        meaning = "processes of other users are not seen: what a watcher with `user` leaves behind is not found"
        advice = "run the manager as root, or mount /proc with gid= of a group that it is in"
        found.append(Finding("proc", "warning", f"/proc hides them ({hidden[0]})", meaning, advice))
    scope = machine.number("/proc/sys/kernel/yama/ptrace_scope")
    if scope and machine.uid:
        meaning = "after a kill of the manager, sockets cannot be taken back from processes: they are bound again"
        advice = "sysctl kernel.yama.ptrace_scope=0, or run the manager as root"
        found.append(
            Finding("ptrace", "warning", f"kernel.yama.ptrace_scope is {scope}", meaning, advice)
        )
    return found or [Finding("proc", "ok", "processes can be seen, and their sockets taken back")]


def _user(machine: Machine, needs: Needs) -> Finding:
    if machine.uid == 0:
        return Finding("user", "ok", "root")
    lowest = machine.number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    lowest = 1024 if lowest is None else lowest
    found, cannot = f"uid {machine.uid}, not root", []
    if needs.other_users:
        cannot.append(f"run {', '.join(needs.other_users)} as another user")
    if needs.low_port is not None and needs.low_port < lowest:
        cannot.append(f"bind port {needs.low_port}")
    if cannot:
        meaning = f"without root or its capabilities it cannot {', nor '.join(cannot)}"
        advice = f"run it as root; for ports: sysctl net.ipv4.ip_unprivileged_port_start={needs.low_port or 80}"
        return Finding("user", "problem", found, meaning, advice)
    meaning = f"`user` and `group`, ports below {lowest} and raised limits are kept for root"
    return Finding("user", "ok", found, meaning)


def _container(machine: Machine) -> Finding:
    kind = machine.text("/run/systemd/container")
    kind = kind or next((name for path, name in _CONTAINERS.items() if machine.exists(path)), "")
    if not kind:
        return Finding("container", "ok", "none, as far as can be seen")
    meaning = "as PID 1 the manager reaps orphans and ends the container with its own exit code"
    return Finding("container", "ok", kind, meaning, "let it be the entry point: reconcile run")
