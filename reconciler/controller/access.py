"""Who may ask for what. Who calls is known from the kernel, never from the message."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Role: TypeAlias = Literal["view", "operate", "admin"]
"""What a caller may do: look, give orders to watchers, or change what is wanted and end it all."""

ROLES: Final[tuple[Role, ...]] = ("view", "operate", "admin")
"""Each may do all that those before it may."""


def suffices(role: Role, needed: Role) -> bool:
    """Tell whether a role includes another."""
    return ROLES.index(role) >= ROLES.index(needed)
