"""What a manager writes into its state folder, so that it is found and recognised: `manager.json`.

The state folder belongs to one spec. Whoever starts a manager there compares, and whoever looks for the
manager of that name learns where its control socket is, wherever the one that started it has put it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from reconciler.model.value import Struct, from_plain, to_plain

MANAGER_FILE: Final = "manager.json"


class ManagerFile(Struct, frozen=True):
    """The manager that has this state folder, or had it last."""

    name: str
    runtime_dir: str
    source: tuple[str, ...]
    """Absolute paths of its spec, as they were given."""

    def write(self, state_dir: str) -> None:
        """Write it down, whole or not at all. Raises `OSError`."""
        import json  # a command that finds its manager where it expects it reads no such note

        path = os.path.join(state_dir, MANAGER_FILE)
        beside = f"{path}.new"
        with open(beside, "w", encoding="utf-8", opener=_privately) as file:
            file.write(json.dumps(to_plain(self)) + "\n")
        os.replace(beside, path)


def read_manager_file(state_dir: str) -> ManagerFile | None:
    """Return what the last manager wrote; None: nobody has, or we may not read it."""
    import json

    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(state_dir, MANAGER_FILE), encoding="utf-8") as file:
            found: ManagerFile = from_plain(ManagerFile, json.load(file))
        return found
    return None


def is_same_source(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether two lists of paths mean the same spec.

    They do when they have a file or folder in common, by its name or by what links lead to just now, or
    when one has a folder and the other a file in it: a spec may get further files.
    """
    if set(one) & set(other):
        return True
    ones, others = set(map(os.path.realpath, one)), set(map(os.path.realpath, other))
    folders, other_folders = set(map(os.path.dirname, ones)), set(map(os.path.dirname, others))
    return bool(ones & others or folders & others or ones & other_folders)


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
