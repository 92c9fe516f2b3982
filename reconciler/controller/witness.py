"""A small file beside the database that says how many commits there were.

SQLite drops what it cannot read at the end of its write-ahead log without a word, and a state folder may
come back from an old copy: then the database is whole, but not the newest. A database that has fewer
commits than the witness has lost some, and one that is gone was not absent from the start.

The file has one fixed length and is written in place, so that it needs no space on a full disk. It is
written after the commit: a crash in between leaves a database that is ahead, which is fine.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_DIGITS: Final = 20
_LENGTH: Final = _DIGITS + 10


class Witness:
    """The file. `commits` is what it says: 0 when there is none, 1 when it cannot be read."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises `OSError`."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.commits = _parsed(os.pread(self._fd, _LENGTH + 1, 0))

    def write(self, commits: int) -> None:
        """Say that there were so many commits. Raises `OSError`."""
        os.pwrite(self._fd, _text(commits), 0)
        os.fdatasync(self._fd)
        self.commits = commits

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _text(commits: int) -> bytes:
    number = f"{commits:0{_DIGITS}d}".encode()
    return b"%s %08x\n" % (number, zlib.crc32(number))


def _parsed(found: bytes) -> int:
    number = found[:_DIGITS]
    if number.isdigit() and found == _text(int(number)):
        return int(number)
    return 1 if found else 0
