"""The words of `typing` that our annotations use, which take a while to import.

A process that only shows what a manager says looks at few annotations and at no type: it makes do with names.
"""

from __future__ import annotations

from reconciler import model

TYPE_CHECKING = False
if TYPE_CHECKING or not model.shows_only:
    from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar, cast
else:
    Any = ClassVar = Final = TypeAlias = object

    class Literal:
        """One of these words, of which a process that only shows them knows that they are text."""

        def __class_getitem__(cls, words: object) -> type[str]:
            return str

    class Generic:
        """What has a type as its parameter."""

        def __class_getitem__(cls, parameter: object) -> type[object]:
            return object

    def TypeVar(name: str, **_: object) -> str:
        """Return a name that stands for a type."""
        return name

    def cast(kind: object, value: object) -> object:
        """Return a value; what it is knows who reads the source."""
        return value


__all__ = [
    "TYPE_CHECKING",
    "Any",
    "ClassVar",
    "Final",
    "Generic",
    "Literal",
    "TypeAlias",
    "TypeVar",
    "cast",
]
