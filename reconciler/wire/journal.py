"""The lines by which one keeper tells the next what it held: in a file, or in the memory of our own new code.

Each names something that is held and says how it is now, so the last line of a name holds, and a line without a value
says that it is gone. Each begins with a checksum of its rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from reconciler.model.value import Plain, Struct, field

FORMAT: Final = 1
"""Raised when a keeper that knows only the former one would misread the lines."""
HEAD: Final = "journal"


class NewerFormat(Exception):
    """It was written by a version that this one does not understand."""

    def __init__(self, format: int) -> None:
        super().__init__(f"was written in format {format}, this version reads up to {FORMAT}")


class Recalled(Struct, frozen=True):
    """What a former keeper wrote down of what it held, by name; empty after a clean end and a boot.

    `is_whole` is False when some of it cannot be read; `is_own` says that it was us, with older code.
    """

    entries: Mapping[str, Plain] = field(default_factory=dict)
    is_whole: bool = True
    is_own: bool = False


def read(data: bytes) -> tuple[dict[str, Any] | None, Recalled]:
    """Return the head of a journal, None if it has none, and what it says. Raises `NewerFormat`."""
    entries: dict[str, Any] = {}
    is_whole = True
    for line in data.split(b"\n")[:-1]:
        try:
            name, value = _read(line)
        except ValueError:
            is_whole = False
            continue
        if value is None:
            entries.pop(name, None)
        else:
            entries[name] = value
    head = entries.pop(HEAD, None)
    if head is None:
        return None, Recalled(is_whole=False)
    if head["format"] > FORMAT:
        raise NewerFormat(head["format"])
    return head, Recalled(entries, is_whole)


def written(entries: Mapping[str, object]) -> bytes:
    """Return entries as a journal of their own, for `read`."""
    return b"".join(line_of(*each) for each in {HEAD: {"format": FORMAT}, **entries}.items())


def line_of(name: str, value: object | None) -> bytes:
    """Return the line that says how something is, None: it is gone."""
    data = msgspec.json.encode((name, value))
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _read(line: bytes) -> tuple[str, Any]:
    """Return name and value of a line. Raises `ValueError`."""
    checksum, _, data = line.partition(b" ")
    if b"%08x" % zlib.crc32(data) != checksum:
        msg = "the checksum does not fit"
        raise ValueError(msg)
    name, value = msgspec.json.decode(data)
    return str(name), value
