"""Counts the work that Python code does, in bytecodes and items taken: a number without a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from types import FrameType
from typing import Any


class Work:
    """The counter; one for all, since a trace function is one for all."""

    done = 0

    @staticmethod
    def counted(mapping: Any) -> Any:
        """Return a copy whose items count as work when they are gone through."""
        return _Counted(mapping)


class _Counted(dict[Any, Any]):
    """A dict that has an iterator of its own, so that not even `dict(…)` copies it unseen."""

    def __iter__(self) -> Iterator[Any]:
        Work.done += len(self)
        return super().__iter__()

    def keys(self) -> KeysView[Any]:
        Work.done += len(self)
        return super().keys()

    def values(self) -> ValuesView[Any]:
        Work.done += len(self)
        return super().values()

    def items(self) -> ItemsView[Any, Any]:
        Work.done += len(self)
        return super().items()


def work_of(call: Callable[[], object], within: str = "/reconciler/") -> int:
    """Return how many bytecodes of files below `within` a call runs, and how many items it goes through."""

    def local(frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            Work.done += 1
        return local

    def begun(frame: FrameType, event: str, arg: object) -> Any:
        if within not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    before, traced = Work.done, sys.gettrace()
    sys.settrace(begun)
    try:
        call()
    finally:
        sys.settrace(traced)
    return Work.done - before
