"""Where the programs of a spec are found: here and now, and by the PATH that systemd gives to a service."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from reconciler.model.units import format_few

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""systemd.exec(5), "Environment variables in spawned processes": the PATH of a service that sets none."""


def remarks(watchers: dict[str, object], path: str) -> tuple[list[str], list[str]]:
    """Return sentences about programs that a service finds, too, and about those that it finds elsewhere or not.

    They are those that watchers call by name alone, for the manager's PATH, which under systemd is `path`.
    """
    users: dict[str, list[str]] = {}
    for watcher, fields in watchers.items():
        if isinstance(fields, dict):
            for name in dict.fromkeys(_called(fields)):
                users.setdefault(name, []).append(watcher)
    alike, otherwise = [], []
    for name in sorted(users):
        whose = format_few(users[name], 3)
        here, there = shutil.which(name), shutil.which(name, path=path)
        if here == there and here is not None:
            alike.append(f"{name} is {here} ({whose})")
        elif there is None:
            seen = f"here it is {here}" if here else "it is not found here either"
            otherwise.append(f"{name} of {whose} is not in the PATH of the service; {seen}")
        else:
            seen = here or "not found"
            otherwise.append(f"{name} of {whose} is {there} for the service; here it is {seen}")
    return alike, otherwise


def _called(watcher: dict[str, object]) -> Iterator[str]:
    """Yield the names of programs in the commands of a watcher, its hooks and secrets included."""
    env = watcher.get("env")
    if watcher.get("virtualenv") is not None or (isinstance(env, dict) and "PATH" in env):
        return  # what it calls is looked for elsewhere
    waiting: list[dict[str, object]] = [watcher]
    while waiting:
        block = waiting.pop()
        command = block.get("cmd")
        if isinstance(command, list) and command and not block.get("shell"):
            name = str(command[0])
            if "/" not in name and "$" not in name:
                yield name
        waiting += [each for each in block.values() if isinstance(each, dict)]


def own_path() -> str:
    """Return the PATH of this terminal, without relative folders, which mean nothing to a service."""
    folders = os.environ.get("PATH", "").split(":")
    return ":".join(folder for folder in folders if os.path.isabs(folder))
