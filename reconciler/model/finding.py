"""What was found out about the machine that a manager is to work on."""

from __future__ import annotations

from typing import Literal, TypeAlias

from reconciler.model.value import Struct

Level: TypeAlias = Literal["ok", "warning", "problem"]


class Finding(Struct, frozen=True):
    """What was found, what that means for who uses it, and what to do; the latter two are empty where all is well."""

    check: str
    level: Level
    found: str
    meaning: str = ""
    advice: str = ""
