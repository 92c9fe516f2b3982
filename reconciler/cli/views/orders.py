"""The results of an order, one line a watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.cli.views.layout import Block, Cell, Wrapped
from reconciler.cli.views.phrases import age, slots_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reconciler.model.answer import OrderResult, RunningSlot

SHOWN_RUNNING: Final = 3
"""Slots that a rerun leaves alone, each with its process; more of them are named together."""


def result_lines(results: Iterable[OrderResult], now_ns: int) -> list[Block]:
    """Return what an operation did, one line per watcher."""
    return [
        Wrapped((Cell(f"{result.name}: ", "title"), Cell(_result_text(result, now_ns))))
        for result in results
    ]


def _result_text(result: OrderResult, now_ns: int) -> str:
    """Return the message of the manager; for a rerun what it fires, and what still runs since when."""
    parts = []
    if result.fired:
        parts.append(f"generation {result.generation} fires {slots_text(result.fired)}")
    if result.queued:
        parts.append(f"{slots_text(result.queued)} when its present run has ended")
    parts += _left_running(result.running, now_ns)
    return "; ".join(parts) or result.message or "done"


def _left_running(running: Sequence[RunningSlot], now_ns: int) -> list[str]:
    """Return sentences about the slots that a rerun leaves alone; each with its process if they are few."""
    starting = [each.slot for each in running if each.pid is None]
    up = [each for each in running if each.pid is not None]
    parts = []
    if len(up) > SHOWN_RUNNING:
        parts.append(f"{slots_text([each.slot for each in up])} still run")
    else:
        for one in up:
            since = f", since {age(one.since_ns, now_ns)}" if one.since_ns else ""
            parts.append(f"slot {one.slot} still runs (pid {one.pid}{since})")
    if starting:
        have = "has" if len(starting) == 1 else "have"
        parts.append(f"{slots_text(starting)} {have} not started yet")
    return parts
