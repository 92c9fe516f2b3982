"""Where text may be cut: between two characters of UTF-8 (RFC 3629), never inside one."""

from __future__ import annotations

from typing import Final

CUT_MARK: Final = b" [...]"
"""Ends each piece of a line that is too long."""
GOES_ON_MARK: Final = b"[...] "
"""Begins each further piece."""


def cut_before(data: bytes, end: int) -> int:
    """Return the last place up to `end` that is between two characters; `end` itself where there is no UTF-8."""
    for start in range(end - 1, max(end - 4, -1), -1):
        if not _continues(data[start]):
            return start if start + _length(data[start]) > end else end
    return end


def cut_after(data: bytes, start: int) -> int:
    """Return the first place from `start` on that is between two characters, `start` where there is no UTF-8."""
    for place in range(start, min(start + 4, len(data))):
        if not _continues(data[place]):
            return place
    return start


def _continues(byte: int) -> bool:
    return byte & 0xC0 == 0x80


def _length(first: int) -> int:
    """Return how many bytes a character has that begins so; 1 where none does."""
    for length, lowest, highest in ((2, 0xC2, 0xDF), (3, 0xE0, 0xEF), (4, 0xF0, 0xF4)):
        if lowest <= first <= highest:
            return length
    return 1
