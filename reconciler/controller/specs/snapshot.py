"""What the spec's files look like just now: which there are, their digests, and how long they have rested."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from reconciler.controller.runtime.file_watch import signature_of
from reconciler.model.digest import sha256
from reconciler.model.value import Struct
from reconciler.specfile.source import SPEC_SUFFIXES, is_spec_name

MAX_BYTES: Final = 4 * 2**20
"""The loader refuses larger files; here they are told apart by their size and time."""


class Seen(Struct, frozen=True):
    """One file. `text` None: it is no regular file, too large, or cannot be read; `digest` says which."""

    digest: str
    size: int
    inode: int
    changed_wall_ns: int
    text: bytes | None
    signature: tuple[int, ...]
    is_unlinked: bool = False
    """It is mounted here, and where it comes from another file has its name."""


class Snapshot(Struct, frozen=True):
    """All files that matter, as they are; a path is missing from `files` when there is nothing at it."""

    files: Mapping[str, Seen]
    missing: tuple[str, ...] = ()
    """The given paths at which there is nothing."""

    @property
    def digests(self) -> dict[str, str]:
        """Return the digest of each file."""
        return {path: seen.digest for path, seen in self.files.items()}


def folders_of(source: Collection[str], known: Collection[str]) -> frozenset[str]:
    """Return the folders whose changes may matter: those of all files, also where links lead."""
    # Of what is missing it is not known whether it will be a file or a folder.
    folders = {*source, *(os.path.dirname(path) for path in source if not os.path.isdir(path))}
    # Many files mostly lie in few folders: where those lead is asked once.
    around = {os.path.dirname(path) for path in known}
    around |= {os.path.dirname(os.path.realpath(path)) for path in known if os.path.islink(path)}
    return frozenset(folders | around | {os.path.realpath(folder) for folder in around})


def look(source: Collection[str], known: Collection[str], before: Snapshot) -> Snapshot:
    """Return the files as they are; what has not changed since `before` is not read again."""
    folders = {path for path in source if os.path.isdir(path)}
    # Included files mostly come from folders of their own: a new neighbour may be included, too.
    folders |= {os.path.dirname(path) for path in known if path.endswith(SPEC_SUFFIXES)}
    paths = {path for path in source if path not in folders} | set(known)
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            paths |= {entry.path for entry in entries if is_spec_name(entry.name)}
    found = {path: _see(path, before.files.get(path)) for path in sorted(paths)}
    missing = tuple(path for path in source if not os.path.exists(path))
    return Snapshot({path: seen for path, seen in found.items() if seen is not None}, missing)


def changed_wall_ns(before: Snapshot, after: Snapshot, wall_ns: int) -> int | None:
    """Return when the youngest difference between two looks came about, None when there is none.

    A file that is gone has no time: it went now. Nothing counts as changed in the future (other clocks).
    """
    old, new = before.digests, after.digests
    times = [
        min(after.files[path].changed_wall_ns, wall_ns) if path in new else wall_ns
        for path in old.keys() | new.keys()
        if old.get(path) != new.get(path)
    ]
    return max(times, default=None)


def _see(path: str, before: Seen | None) -> Seen | None:
    try:
        status = os.stat(path)
    except OSError as error:
        # A dangling or looping link is something to tell about, not something missing.
        return _unreadable(error) if os.path.lexists(path) else None
    signature = signature_of(status)
    if before is not None and before.signature == signature:
        return before
    text, digest = None, f"irregular:{stat.S_IFMT(status.st_mode):o}"
    if stat.S_ISREG(status.st_mode) and status.st_size > MAX_BYTES:
        digest = f"large:{status.st_size}:{status.st_mtime_ns}"
    elif stat.S_ISREG(status.st_mode):
        try:
            text = _read(path)
        except OSError as error:
            return _unreadable(error)
        digest = sha256(text).hexdigest()
    # SQLite's integers have a sign; some file systems (FUSE, CIFS) use all 64 bits of an inode's number.
    inode = status.st_ino - 2**64 if status.st_ino >= 2**63 else status.st_ino
    gone = status.st_nlink == 0
    return Seen(digest, status.st_size, inode, status.st_ctime_ns, text, signature, gone)


def _read(path: str) -> bytes:
    # O_NONBLOCK: a FIFO put there in this instant must not hold the loop.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES + 1)


def _unreadable(error: OSError) -> Seen:
    return Seen(f"unreadable:{errno.errorcode.get(error.errno or 0)}", 0, 0, 0, None, ())
