"""Systemd, and control groups with their limits."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.finding import Finding, Level
from reconciler.model.units import format_few
from reconciler.system.cgroups import CONTROLLERS

if TYPE_CHECKING:
    from reconciler.cli.checks.machine import Machine
    from reconciler.cli.checks.needs import Needs

_UNIFIED: Final = "boot with systemd.unified_cgroup_hierarchy=1"


def groups(
    machine: Machine, needs: Needs, pid: int | None, containment: str | None
) -> list[Finding]:
    """Return what was found; `pid` and `containment` are the running manager's, None: none runs."""
    return [
        _systemd(machine, pid),
        _control_groups(machine, needs),
        _delegation(machine, needs, containment),
    ]


def _systemd(machine: Machine, pid: int | None) -> Finding:
    if not machine.exists("/run/systemd/system"):
        meaning = "nobody starts the manager at boot, or again when it is killed"
        advice = "let an init of this machine, or the container's restart policy, do that"
        return Finding("systemd", "ok", "this machine has another init", meaning, advice)
    if pid is None:
        advice = "reconcile install-service writes a unit"
        return Finding("systemd", "ok", "runs this machine; no manager runs", "", advice)
    unit = _unit_of(machine, pid)
    if not unit.endswith(".service"):
        meaning = "nobody starts the manager at boot, or again when it is killed; it may end with your login"
        advice = "reconcile install-service"
        return Finding(
            "systemd",
            "warning",
            f"the manager is no service ({unit or 'no unit'})",
            meaning,
            advice,
        )
    return Finding("systemd", "ok", f"the manager is {unit}")


def _unit_of(machine: Machine, pid: int) -> str:
    """Return the unit that a process is in, by its control group; empty when it is in none."""
    found = ""
    for line in machine.text(f"/proc/{pid}/cgroup").splitlines():
        number, name, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" or name == "name=systemd":
            units = [each for each in path.split("/") if each.endswith((".service", ".scope"))]
            found = units[-1] if units else found
    return found


def _control_groups(machine: Machine, needs: Needs) -> Finding:
    places = [place for place, kind, _ in machine.mounts() if kind == "cgroup2"]
    former = [place for place, kind, _ in machine.mounts() if kind == "cgroup"]
    if not places:
        found = "version 1 only" if former else "none is mounted"
        meaning = "what a process starts is found by parentage and environment; limits.cgroup is not in force"
        level: Level = "warning" if needs.group_limits else "ok"
        return Finding("cgroups", level, found, meaning, _UNIFIED)
    there = machine.text(f"{places[0]}/cgroup.controllers").split()
    mine = [each for each in CONTROLLERS if each in there]
    found = f"version 2 at {places[0]}" + (", beside version 1" if former else "")
    found += f"; controllers: {' '.join(mine) or 'none'}"
    lacking = [each for each in needs.group_limits if each not in mine]
    if lacking:
        meaning = (
            f"limits.cgroup of the spec is not in force: no controller {format_few(lacking, 4)}"
        )
        advice = (
            f"{_UNIFIED}: version 1 may have them" if former else "ask the options of the container"
        )
        return Finding("cgroups", "warning", found, meaning, advice)
    return Finding("cgroups", "ok", found)


def _delegation(machine: Machine, needs: Needs, containment: str | None) -> Finding:
    """Return whether the manager may make groups: as it says itself, or (None) by the group that we are in."""
    folder = machine.own_group
    if containment == "cgroup":
        return Finding("delegation", "ok", "each process has a control group of its own")
    if containment is None and folder and _is_delegated(folder):
        return Finding("delegation", "ok", f"{folder} was given to whoever runs here")
    meaning = "processes have no groups of their own: what hides from a stop is found by parentage and environment"
    if needs.group_limits:
        meaning += "; limits.cgroup is not in force"
    advice = "reconcile install-service (Delegate=yes), daemon.cgroup, or a container with a writable /sys/fs/cgroup"
    level: Level = "warning" if needs.group_limits else "ok"
    return Finding(
        "delegation", level, "no folder of control groups was given to it", meaning, advice
    )


def _is_delegated(folder: str) -> bool:
    with suppress(OSError):
        return os.getxattr(folder, "user.delegate") == b"1"
    return False
