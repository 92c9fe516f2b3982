"""What our values are made of: immutable, equal when their fields are, written and read by msgspec.

A value is written as a map of its fields under their names, without those at their defaults. So a reader of
another version finds what it knows, ignores what it does not, and fills in defaults: the link, the journal
and the store survive an upgrade.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import msgspec
from msgspec import field
from msgspec.structs import asdict

__all__ = ["Plain", "Struct", "Tagged", "asdict", "field", "replace"]

T = TypeVar("T")

Plain = Any
"""None, bool, int, float, str, bytes, list of such, or map from str to such."""


class Struct(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value; its subclasses say what it holds."""


class Tagged(Struct, frozen=True, tag_field="is", tag=True):
    """One of several that may stand in the same place: written with its class."""


def replace(value: T, **changes: object) -> T:
    """Return a value with other fields: one of ours, or a dataclass of the language."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return cast("T", dataclasses.replace(cast("Any", value), **changes))
