"""Waiting until the machine is as desired, and showing what is waited for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.cli.connection.transport import TICK, Map
from reconciler.cli.errors import DONE, NOT_AS_DESIRED, TIMED_OUT
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.progress import show_changes, waiting_blocks
from reconciler.cli.views.status import status_page
from reconciler.cli.views.summary import summary
from reconciler.cli.views.terminal import Live, Terminal
from reconciler.model.answer import Failed, Progress, Waiting
from reconciler.model.units import format_duration
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.cli.connection.client import Client

_TICK_S: Final = 0.25
_GOALS_OF_REQUEST: Final = 500
"""One request has a limit; all of them have to come about, so they may be waited for one after the other."""
_FINAL_STATES: Final = frozenset({"Failed"})
"""States that nothing but an edit or an operator changes."""


class Outcome(NamedTuple):
    """How the waiting ended; `waiting` are the watchers that are not as desired."""

    exit_code: int
    waiting: Sequence[Waiting] = ()
    failed: Sequence[Failed] = ()
    """What cannot come about any more, and why."""
    verdict: str = ""
    """Why the revision is not good, where that ended the waiting."""


def wait_until_as_desired(
    client: Client,
    screen: Terminal,
    timeout_ns: int,
    *,
    revision: int | None = None,
    names: Sequence[str] = (),
    runs: bool = False,
) -> Outcome:
    """Wait until all watchers, or `names`, have reached a revision; with `runs` also until jobs have ended.

    Ends early when all that is left has failed for good.
    """
    params: Map = {"revision": revision, "names": list(names) or None, "runs": runs or None}
    return _follow(client, screen, timeout_ns, ("apply.follow", params))


def wait_until_done(
    client: Client, screen: Terminal, timeout_ns: int, goals: Sequence[Mapping[str, object]]
) -> Outcome:
    """Wait until the goals of orders are reached, or cannot be reached any more."""
    end_ns = time.monotonic_ns() + timeout_ns
    failed: list[Failed] = []
    for begin in range(0, len(goals), _GOALS_OF_REQUEST):
        some = list(goals[begin : begin + _GOALS_OF_REQUEST])
        left_ns = max(end_ns - time.monotonic_ns(), 0)
        outcome = _follow(client, screen, left_ns, ("orders.follow", {"goals": some}))
        failed += outcome.failed
        if outcome.exit_code == TIMED_OUT or (outcome.exit_code != DONE and not outcome.failed):
            return outcome._replace(failed=failed)
    return Outcome(NOT_AS_DESIRED, failed=failed) if failed else Outcome(DONE)


def wait_for(
    client: Client, screen: Terminal, timeout_ns: int, selection: Map, awaits: str | None
) -> Outcome:
    """Wait until watchers have come to a condition, or cannot come to it any more."""
    return _follow(client, screen, timeout_ns, ("wait.follow", selection | {"awaits": awaits}))


def _follow(client: Client, screen: Terminal, timeout_ns: int, request: tuple[str, Map]) -> Outcome:
    """Follow how far the manager is.

    On a terminal a live page says what is waited for; on a pipe each change of it is a line.
    """
    begun = time.monotonic_ns()
    code, progress = NOT_AS_DESIRED, Progress()
    shown: dict[str, str] = {}
    with Live(screen) as live:
        for kind, item in client.follow(request, tick=_TICK_S):
            elapsed_ns = time.monotonic_ns() - begun
            if kind != TICK:
                progress = client.read(Progress, request[0], item).value
                if progress.converged:
                    code = DONE
                if progress.converged or progress.done or _is_hopeless(request[0], progress):
                    break
                if not screen.is_terminal:
                    show_changes(screen, progress, shown)
            if elapsed_ns > timeout_ns:
                code = TIMED_OUT
                break
            live.show(waiting_blocks(progress, elapsed_ns))
        live.clear()
    if code == DONE:
        return Outcome(DONE)
    verdict = _verdict(progress) if code == NOT_AS_DESIRED else ""
    return Outcome(code, progress.waiting, progress.failed, verdict)


def _is_hopeless(method: str, progress: Progress) -> bool:
    """Tell whether all that a revision still waits for has failed for good, or waits itself for what has.

    Of orders the manager decides it.
    """
    waiting = progress.waiting
    return (
        method == "apply.follow"
        and progress.remaining <= len(waiting) > 0
        and all(one.stuck or one.state in _FINAL_STATES for one in waiting)
    )


def _verdict(progress: Progress) -> str:
    """Return why the revision is paused or rolled back; empty when it is neither."""
    if progress.outcome not in {"paused", "rolled_back"}:
        return ""
    return f"{progress.outcome.replace('_', ' ')}: {progress.reason}"


def is_final(progress: Progress) -> bool:
    """Tell whether all is as desired, or will not be without an edit or an operator."""
    return progress.done or progress.converged or _is_hopeless("apply.follow", progress)


def show_outcome(screen: Terminal, client: Client, outcome: Outcome, timeout_ns: int) -> None:
    """Show how the waiting ended: one line when all is well, else the watchers in question."""
    names = {one.name for one in outcome.waiting} | {one.name for one in outcome.failed}
    status = client.status()
    if outcome.exit_code == DONE:
        screen.show(summary(status))
        return
    named = tuple(watcher for watcher in status.watchers if watcher.name in names)
    # An order asks nothing about the revision.
    verdict = "" if outcome.failed else status.outcome
    page = replace(status, watchers=named, sockets=(), outcome=verdict)
    screen.show(*status_page(page, time.time_ns())[:-1])
    for one in outcome.failed:
        screen.show((Cell(f"{one.name}: ", "title"), Cell(one.message, "bad")))
    if outcome.failed and not outcome.waiting:
        return
    what = ", or waits for what has" if any(one.stuck for one in outcome.waiting) else ""
    text = outcome.verdict or f"failed permanently{what}; edit the spec or restart it by hand"
    if outcome.exit_code == TIMED_OUT:
        waited = format_duration(timeout_ns)
        text = f"not as desired after {waited}; the manager goes on trying"
    screen.show((Cell(text, "bad"),))


def own_hook() -> str:
    """Return the watcher whose hook calls this command, empty outside a hook.

    A hook must not wait for what waits for the hook.
    """
    return os.environ.get("RECONCILE_WATCHER", "") if "RECONCILE_HOOK" in os.environ else ""
