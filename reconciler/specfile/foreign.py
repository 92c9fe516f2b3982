"""Variables of other tools, which mean nothing here: what is written instead.

Only spellings that cannot be meant otherwise; `%(message)s` may be a format of the program's own.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class ForeignVariable(NamedTuple):
    """One that stands in a text: as written, whose it is, and what to write."""

    text: str
    tool: str
    hint: str


_CIRCUS: Final = re.compile(r"(?:\$\(|\(\()circus\.([A-Za-z]+)(?:\.([^\s)]+))?\)\)?", re.IGNORECASE)
_SUPERVISOR: Final = re.compile(
    r"%\((ENV_(\w+)|process_num|numprocs|program_name|group_name|here|host_node_name)\)([0-9]*)[sd]"
)
_PROCESS_COMPOSE: Final = re.compile(r"\{\{\s*\.PC_REPLICA_NUM\s*\}\}")
_WORDS: Final = {
    "wid": "write: ${slot}",
    "process_num": "write: ${slot}",
    "program_name": "write: ${watcher}",
    "group_name": "write: ${watcher}",
    "here": "leave it out: paths are relative to the folder of the file",
}


def find(text: str) -> ForeignVariable | None:
    """Return the first variable of another tool that stands in a text."""
    if "(" in text:
        match = _CIRCUS.search(text)
        if match is not None:
            kind, name = match[1].lower(), match[2] or ""
            named = {"env": f"write: ${{env.{name}}}", "sockets": f"write: ${{sockets.{name}}}"}
            hint = named.get(kind) if name else _WORDS.get(kind)
            return ForeignVariable(match[0], "Circus", hint or "there is nothing like it here")
        match = _SUPERVISOR.search(text)
        if match is not None:
            hint = f"write: ${{env.{match[2]}}}" if match[2] else _WORDS.get(match[1])
            if match[1] == "process_num" and re.fullmatch("0[1-9]", match[3]):
                hint = f"write: ${{slot:{match[3]}}}"
            return ForeignVariable(match[0], "supervisor", hint or "there is nothing like it here")
    if "{{" in text:
        match = _PROCESS_COMPOSE.search(text)
        if match is not None:
            return ForeignVariable(match[0], "process-compose", "write: ${slot}")
    return None
