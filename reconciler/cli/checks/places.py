"""The folders of an instance: on what they lie, and whether they can be written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from reconciler.model.address import MAX_UNIX_PATH_BYTES
from reconciler.model.finding import Finding
from reconciler.model.units import format_size

if TYPE_CHECKING:
    from reconciler.cli.checks.machine import Machine

_NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "afs")
)
_MEMORY: Final = frozenset(("tmpfs", "ramfs"))
_LITTLE_BYTES: Final = 100 * 2**20
_FEW_FILES: Final = 1000


def places(machine: Machine, state_dir: str, runtime_dir: str) -> list[Finding]:
    """Return what was found."""
    found = [_state(machine, state_dir)] if state_dir else []
    return [*found, _runtime(machine, runtime_dir)]


def _state(machine: Machine, path: str) -> Finding:
    kind, above = _kind_of(machine, path), _existing(path)
    found = f"{path} ({kind})"
    if not os.access(above, os.W_OK):
        meaning = "the manager cannot start: it keeps its state there"
        return Finding(
            "state_dir",
            "problem",
            f"{found}: {above} cannot be written",
            meaning,
            "--state-dir, or chown it",
        )
    if kind in _NETWORK:
        meaning = "locks and SQLite are not safe there, and a server that hangs holds up logs"
        return Finding(
            "state_dir", "problem", found, meaning, "daemon.state_dir on a disk of this machine"
        )
    free = os.statvfs(above)
    size = free.f_bavail * free.f_frsize
    found += f", {format_size(size)} free"
    if size < _LITTLE_BYTES or (free.f_files > 0 and free.f_favail < _FEW_FILES):
        meaning = "logs and history are about to be lost; processes run on"
        return Finding(
            "state_dir", "problem" if size == 0 else "warning", found, meaning, "make room"
        )
    if kind in _MEMORY:
        meaning = "history, overrides, runs of jobs and logs are lost at the next boot"
        return Finding("state_dir", "warning", found, meaning, "daemon.state_dir on a disk")
    return Finding("state_dir", "ok", found)


def _runtime(machine: Machine, path: str) -> Finding:
    socket, above = os.path.join(path, "control.sock"), _existing(path)
    found = f"{path} ({_kind_of(machine, path)})"
    if len(os.fsencode(socket)) > MAX_UNIX_PATH_BYTES:
        meaning = (
            f"the path of the control socket is longer than {MAX_UNIX_PATH_BYTES} bytes (unix(7))"
        )
        return Finding(
            "runtime_dir", "problem", found, meaning, "--runtime-dir with a shorter path"
        )
    if not os.access(above, os.W_OK):
        meaning = "the manager cannot start: it listens there"
        return Finding(
            "runtime_dir",
            "problem",
            f"{found}: {above} cannot be written",
            meaning,
            "--runtime-dir",
        )
    return Finding("runtime_dir", "ok", found)


def _existing(path: str) -> str:
    """Return the folder itself, or the nearest above it that is there."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _kind_of(machine: Machine, path: str) -> str:
    """Return the type of the file system on which a path lies, or would."""
    real = os.path.realpath(_existing(path))
    best, found = -1, "unknown"
    for place, kind, _ in machine.mounts():
        inside = place == "/" or real == place or real.startswith(f"{place}/")
        if inside and len(place) >= best:
            best, found = len(place), kind
    return found
