"""Waiting until the machine is as wanted, and saying all the while what is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.cli import render, shapes
from reconciler.cli.client import TICK
from reconciler.cli.errors import DONE, NOT_AS_WANTED, TIMED_OUT
from reconciler.cli.layout import Cell
from reconciler.cli.terminal import Live
from reconciler.model.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.client import Client
    from reconciler.cli.shapes import ProgressMap, WaitingMap
    from reconciler.cli.terminal import Terminal

_TICK_S: Final = 0.25
_FINAL_STATES: Final = frozenset({"Failed"})
"""States that nothing but an edit or an operator changes."""


class Outcome(NamedTuple):
    """How the waiting ended; `waiting` is what is still not as wanted."""

    exit_code: int
    waiting: Sequence[WaitingMap] = ()
    verdict: str = ""
    """Why the revision is not good, where that ended the waiting."""


def wait_until_as_wanted(
    client: Client,
    screen: Terminal,
    timeout_ns: int,
    *,
    revision: int | None = None,
    names: Sequence[str] = (),
) -> Outcome:
    """Wait for a revision to be reached by all watchers, or by `names`.

    On a terminal a live page says what is waited for; on a pipe each change of it is a line. Ends
    early when all that is left has failed for good.
    """
    begun = time.monotonic_ns()
    given = {"revision": revision, "names": list(names) or None}
    request = ("apply.follow", {key: value for key, value in given.items() if value is not None})
    waiting: Sequence[WaitingMap] = ()
    told: dict[str, str] = {}
    with Live(screen) as live:
        for kind, item in client.follow(request, tick=_TICK_S):
            elapsed_ns = time.monotonic_ns() - begun
            if kind != TICK:
                progress = shapes.progress(item)
                waiting = progress["waiting"]
                if progress["converged"]:
                    live.clear()
                    return Outcome(DONE)
                hopeless = progress["remaining"] <= len(waiting) > 0 and all(
                    one["state"] in _FINAL_STATES for one in waiting
                )
                if progress["done"] or hopeless:
                    live.clear()
                    return Outcome(NOT_AS_WANTED, waiting, _verdict(progress))
                if not screen.is_terminal:
                    _tell_changes(screen, waiting, told)
            if elapsed_ns > timeout_ns:
                live.clear()
                return Outcome(TIMED_OUT, waiting)
            live.show(render.waiting_blocks(waiting, elapsed_ns))
        live.clear()
    return Outcome(NOT_AS_WANTED, waiting)


def _verdict(progress: ProgressMap) -> str:
    """Return why the revision came to no good end, empty when it is in force all the same."""
    if progress["outcome"] not in {"paused", "rolled_back"}:
        return ""
    return f"{progress['outcome'].replace('_', ' ')}: {progress['reason']}"


def _tell_changes(screen: Terminal, waiting: Sequence[WaitingMap], told: dict[str, str]) -> None:
    """Write a line for each watcher whose state is another than the one last told."""
    for one in waiting:
        text = render.waiting_text(one)
        if told.get(one["name"]) != text:
            told[one["name"]] = text
            screen.show((Cell("waiting for "), Cell(text)))


def show_outcome(screen: Terminal, client: Client, outcome: Outcome, timeout_ns: int) -> None:
    """Say how the waiting ended: one line when all is well, the watchers in question when not."""
    from reconciler.cli.look import wall_ns

    names = [one["name"] for one in outcome.waiting]
    status = client.status()
    if outcome.exit_code == DONE:
        screen.show(render.summary(status))
        return
    status["watchers"] = [watcher for watcher in status["watchers"] if watcher["name"] in names]
    status["sockets"] = []
    screen.show(*render.status_page(status, wall_ns())[:-1])
    if outcome.verdict:
        screen.show((Cell(outcome.verdict, "bad"),))
    elif outcome.exit_code == TIMED_OUT:
        text = f"not as wanted after {format_duration(timeout_ns)}; the manager goes on trying"
        screen.show((Cell(text, "bad"),))
    else:
        screen.show((Cell("not as wanted, and nothing will change by itself", "bad"),))
