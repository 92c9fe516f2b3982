"""Processes that go on without their manager: killed, or told to leave them (`on_exit: leave`).

A state folder holds the token with which the manager marks its processes; /proc says who has it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_FILE: Final = "instance"
_MARK: Final = b"RECONCILE_ID="


def survivors(state_dirs: Iterable[str]) -> dict[str, list[str]]:
    """Return which slots of each state folder have living processes, such as `web.1`; none: no entry.

    Folders and processes that we may not look into count as if there were none.
    """
    tokens = {token: folder for folder in state_dirs if (token := _token(folder))}
    found: dict[str, set[str]] = {}
    for pid in os.listdir("/proc") if tokens else ():
        token, _, slot = (_mark(pid) if pid.isdigit() else "").partition("/")
        if token in tokens:
            # The controller is marked, too, and ends by itself; hooks are none that goes on.
            name = slot.rpartition("/")[0] or slot
            if name != "controller":
                found.setdefault(tokens[token], set()).add(name)
    return {folder: sorted(slots) for folder, slots in found.items()}


def named(state_dir: str) -> list[str]:
    """Return the living processes of a state folder as people are told of them: `sleep (pid 4321) of web.1`."""
    token, found = _token(state_dir), []
    for pid in sorted(filter(str.isdigit, os.listdir("/proc") if token else ()), key=int):
        owner, _, slot = _mark(pid).partition("/")
        name = slot.rpartition("/")[0] or slot
        if owner == token and name != "controller":
            found.append(f"{_command(pid)} (pid {pid}) of {name}")
    return found


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def _token(state_dir: str) -> str:
    try:
        with open(os.path.join(state_dir, TOKEN_FILE), encoding="utf-8") as file:
            return file.read().partition(" ")[0].strip()
    except (OSError, ValueError):
        return ""


def _mark(pid: str) -> str:
    """Return the mark of a process, empty when it has none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()  # of a process that has ended and is not collected yet: nothing
    except OSError:
        return ""
    for entry in environ.split(b"\0"):
        if entry.startswith(_MARK):
            return entry.removeprefix(_MARK).decode("ascii", "replace")
    return ""
