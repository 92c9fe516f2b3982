"""What a terminal would obey, in the output of processes that is written to one."""

from __future__ import annotations

import re
from typing import Final

_ORDER: Final = re.compile(
    rb"(\x1b\[[0-9;:]*m)|[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]"
    rb"|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]"
)
"""Colours; control characters; those of them and those that turn the direction of text, in UTF-8."""


def without_orders(lines: bytes) -> bytes:
    """Return lines for a terminal: without their colours, and with all else that it would obey escaped."""
    return _ORDER.sub(_shown, lines)


def _shown(match: re.Match[bytes]) -> bytes:
    return b"" if match[1] else b"".join(b"\\x%02x" % each for each in match[0])
