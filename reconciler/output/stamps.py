"""The time that stands before a line of output where `logs.timestamps` asks for it: UTC, with microseconds."""

from __future__ import annotations

import time
from typing import Final

SHAPE: Final = b"0000-00-00T00:00:00.000000Z"
"""A 0 stands for any digit."""


def stamp(wall_ns: int) -> bytes:
    """Return a time as it stands before a line; two of them compare as the times do."""
    second, micros = divmod(wall_ns // 1000, 10**6)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{micros:06d}Z", time.gmtime(second)).encode()


def stamp_of(line: bytes) -> bytes | None:
    """Return the time before a line, None where there is none."""
    found = line[: len(SHAPE)]
    digits = bytes(ord("0") if 0x30 <= byte <= 0x39 else byte for byte in found)
    return found if digits == SHAPE else None
