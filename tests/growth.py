"""Counts the work that Python code does, in bytecodes and items taken: a number without a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from types import CodeType, FrameType
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


def work_of(call: Callable[[], object], *within: str) -> int:
    """Return how many bytecodes a call runs in files below `within` (else all of ours), and how many items it takes."""
    before = Work.done
    if sys.version_info >= (3, 12):
        _monitor(call, within or ("/reconciler/",))
    else:
        _trace(call, within or ("/reconciler/",))
    return Work.done - before


def _trace(call: Callable[[], object], within: tuple[str, ...]) -> None:
    def local(frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            Work.done += 1
        return local

    def begun(frame: FrameType, event: str, arg: object) -> Any:
        if not any(each in frame.f_code.co_filename for each in within):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    traced = sys.gettrace()
    sys.settrace(begun)
    try:
        call()
    finally:
        sys.settrace(traced)


def _monitor(call: Callable[[], object], within: tuple[str, ...]) -> None:
    """Do the same where tracing tells opcodes no longer to who asks for them in a call (Python 3.12)."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined]  # mypy speaks Python 3.11
    tool, instruction = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION

    def told(code: CodeType, offset: int) -> Any:
        if not any(each in code.co_filename for each in within):
            return monitoring.DISABLE
        Work.done += 1
        return None

    monitoring.use_tool_id(tool, "growth")
    monitoring.register_callback(tool, instruction, told)
    monitoring.set_events(tool, instruction)
    try:
        call()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, instruction, None)
        monitoring.free_tool_id(tool)
        monitoring.restart_events()
