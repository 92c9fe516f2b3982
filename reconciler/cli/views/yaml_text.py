"""A value as YAML text, without the YAML library: plain values need only maps, lists and quoted scalars."""

from __future__ import annotations

import json
import re
from typing import Final

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
_WORDS_WITH_MEANING: Final = frozenset(
    {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
)


def yaml_text(value: object) -> str:
    """Return the YAML document of a value made of maps with text keys, lists and scalars."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: object) -> list[str]:
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            if isinstance(item, dict | list | tuple) and item:
                lines += [f"{_scalar(key)}:", *("  " + line for line in _lines(item))]
            else:
                lines.append(f"{_scalar(key)}: {_scalar(item)}")
        return lines
    if isinstance(value, list | tuple) and value:
        lines = []
        for item in value:
            first, *rest = _lines(item)
            lines += ["- " + first, *("  " + line for line in rest)]
        return lines
    return [_scalar(value)]


def _scalar(value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    if (
        isinstance(value, str)
        and _PLAIN.fullmatch(value)
        and value.lower() not in _WORDS_WITH_MEANING
    ):
        return value
    # JSON's scalars are YAML's; all beyond ASCII is escaped, so nothing surprises a terminal.
    return _BEYOND_ASCII.sub(_escaped, json.dumps(value, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
