"""A log and what its rotations have left: its files by age, plain or compressed, and what is in them.

The keeper renames `web.log` to `web.log.1`, and that to `web.log.2`, up to the first gap; the controller's helper
puts `web.log.1.gz` in the place of `web.log.1`, which is called `web.log.1.compressed` in between. A compressed file
has another inode, and the time of the last change of the plain one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.output.places import folder_of, open_log

if TYPE_CHECKING:
    from gzip import GzipFile

MAX_ROTATIONS: Final = 1000
"""Rotated files that are looked for."""
_ENDINGS: Final = ("", ".compressed", ".gz")

Identity = tuple[int, int]
"""Device and inode."""


class LogPart(Struct, frozen=True):
    """One file of a log, as it was found."""

    path: str
    identity: Identity
    changed_ns: int
    """When it was written to last, on the wall clock."""

    @property
    def is_compressed(self) -> bool:
        """Tell whether it is to be unpacked."""
        return self.path.endswith(".gz")


def parts_of(path: str) -> list[LogPart]:
    """Return the files of a log, the youngest first; the one at `path` may be missing."""
    found: list[LogPart] = []
    current = part_at(path)
    if current is not None:
        found.append(current)
    for number in range(1, MAX_ROTATIONS):
        parts = (part_at(f"{path}.{number}{ending}") for ending in _ENDINGS)
        part = next((each for each in parts if each is not None), None)
        if part is None:
            break
        # One that was renamed between two looks is met twice.
        if all(each.identity != part.identity for each in found):
            found.append(part)
    return found


def part_at(path: str) -> LogPart | None:
    """Return what lies at a path, None: nothing, or nothing that can be trusted."""
    try:
        with folder_of(path) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return LogPart(path, (status.st_dev, status.st_ino), status.st_mtime_ns)


class OpenPart:
    """A file of a log that is open for reading, as the bytes that were written to it. Raises `OSError`."""

    def __init__(self, path: str) -> None:
        """Open it, through no link."""
        self._file = os.fdopen(open_log(path, os.O_RDONLY), "rb")
        self._packed: GzipFile | None = None
        if path.endswith(".gz"):
            import gzip  # few logs are compressed

            self._packed = gzip.GzipFile(fileobj=self._file)

    def status(self) -> os.stat_result:
        """Return what the kernel knows of the file; its size is that of what was written where it is not packed."""
        return os.fstat(self._file.fileno())

    @property
    def is_compressed(self) -> bool:
        """Tell whether it is unpacked on the way; the end is known only by reading then."""
        return self._packed is not None

    def read(self, size: int, offset: int) -> bytes:
        """Return what was written from `offset` on, `size` bytes at most, fewer only at the end."""
        if self._packed is None:
            return os.pread(self._file.fileno(), size, offset)
        import zlib

        try:
            self._packed.seek(offset)
            return self._packed.read(size)
        except (EOFError, zlib.error) as error:
            raise OSError(0, f"it is damaged ({error})") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
