"""How bytes and lines are made worse: by what files and streams really suffer, and by what attackers send."""

from __future__ import annotations

import random
from collections.abc import Sequence

ODD_BYTES = bytes((0x00, 0x01, 0x1B, 0x7F, 0x80, 0xC0, 0xC1, 0xC7, 0xD4, 0xD9, 0xDD, 0xDF, 0xFF))
ODD_TEXTS = (
    "\x1b]0;owned\x07", "\x1b[2J", "\u202e", "\u2028", "\ufeff", "\0", "\r", "\t", "&a", "*a", "<<: *a",
    "!!python/object", "%YAML 1.1", "---", "...", "- ", "? ", ": ", "{", "}", "[", "]", "|", ">", "'", '"',
    "${env.HOME}", "${", "$$", "${sockets.http}", "${slot}", "1e999", "-1", "99999999999999999999",
    "0o777", "~", "null", ".inf", "é", "\U0001f4a5", "a: &x {b: *x}", "é" * 300, "x" * 5000, "[" * 70, "- " * 70,
)  # fmt: skip


def worse_bytes(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the bytes with one to four changes: flipped, cut, doubled, moved, or mixed with others."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) + 1)
        kind = chance.randrange(8)
        if kind == 0 and made:
            made[at % len(made)] ^= 1 << chance.randrange(8)
        elif kind == 1 and made:
            made[at % len(made)] = chance.choice(ODD_BYTES)
        elif kind == 2:
            made[at:at] = chance.randbytes(chance.randint(1, 9))
        elif kind == 3:
            del made[at : at + chance.randint(1, 9)]
        elif kind == 4:
            del made[at:]
        elif kind == 5:
            made[at:at] = made[chance.randrange(len(made) + 1) :][:64]
        elif kind == 6:
            other = chance.choice(others)
            made[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            made[at:at] = bytes((chance.choice(ODD_BYTES),)) * chance.randint(1, 40)
    return bytes(made)


def worse_lines(chance: random.Random, text: str, others: Sequence[str]) -> str:
    """Return the text with one to four of its lines removed, doubled, moved, indented otherwise or spoiled."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        kind = chance.randrange(8)
        if kind == 0:
            del lines[at : at + chance.randint(1, 3)]
        elif kind == 1:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        elif kind == 2:
            lines[at] = " " * chance.randrange(9) + lines[at].lstrip()
        elif kind == 3:
            column = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:column] + chance.choice(ODD_TEXTS) + lines[at][column:]
        elif kind == 4:
            other = chance.choice(others).split("\n")
            lines[at:at] = other[chance.randrange(len(other)) :][:3]
        elif kind == 5:
            lines[at] = lines[at].partition(":")[0] + ": " + chance.choice(ODD_TEXTS)
        elif kind == 6:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        else:
            lines.insert(at, chance.choice(ODD_TEXTS))
        lines = lines or [""]
    return "\n".join(lines)
