"""A small file beside the database that says how many commits there were.

SQLite drops what it cannot read at the end of its write-ahead log without a word, and a state folder may
come back from an old copy: then the database is whole, but not the newest. A database that has fewer
commits than the counter has lost some, and one that is gone was not absent from the start.

The file has one fixed length and is written in place, so that it needs no space on a full disk. It is
written after the commit: a crash in between leaves a database that is ahead, which is fine.
"""

from __future__ import annotations

import os
import zlib
from typing import Final

_DIGITS: Final = 20
_LENGTH: Final = _DIGITS + 10


def read(database: str) -> int:
    """Return what it says: 0 when there is none, 1 when it cannot be understood. Raises `OSError`."""
    try:
        descriptor = os.open(_beside(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    with open(descriptor, "rb") as file:
        found = file.read(_LENGTH + 1)
    number = found[:_DIGITS]
    if number.isdigit() and found == _text(int(number)):
        return int(number)
    return 1 if found else 0


def write(database: str, commits: int) -> None:
    """Say that there were so many commits. Raises `OSError`."""
    # Opened each time: whoever deleted the state folder deleted this file with it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(_beside(database), flags, 0o600), "wb", buffering=0) as file:
        file.write(_text(commits))
        os.fdatasync(file.fileno())


def _beside(database: str) -> str:
    return os.path.splitext(database)[0] + ".commits"


def _text(commits: int) -> bytes:
    number = f"{commits:0{_DIGITS}d}".encode()
    return b"%s %08x\n" % (number, zlib.crc32(number))
