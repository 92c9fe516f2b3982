"""What `up` shows: the status once everything is as desired, then output and important events.

The viewer is a child of the keeper and nobody depends on it. It ignores Ctrl-C, which is meant
for the keeper, so that it can show how everything stops; it ends when the manager does.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from reconciler.cli import locate, render, shapes, terminal
from reconciler.cli.client import DROPPED, TICK, Client
from reconciler.cli.errors import DONE, FAILED, CommandError
from reconciler.cli.layout import Cell
from reconciler.cli.look import show_log, wall_ns
from reconciler.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.locate import Instance
    from reconciler.cli.shapes import Map, StatusMap, WaitingMap
    from reconciler.cli.terminal import Terminal

_TICK_S: Final = 0.2
_SOCKET_POLL_S: Final = 0.01
_HELD_BACK: Final = 1000
"""Pieces of output and events that are kept while the status has not been shown yet."""


def view(instance: Instance, keeper_pid: int, timeout_ns: int) -> int:
    """Show the manager's life until it ends; returns an exit code that nobody reads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Viewer(Client(instance=instance), keeper_pid, timeout_ns).run()
    except (BrokenPipeError, KeyboardInterrupt):
        return DONE
    except (CommandError, RequestError) as error:
        terminal.stderr().write(f"reconcile: cannot show the logs: {error}\n")
        return FAILED
    return DONE


class _Viewer:
    def __init__(self, client: Client, keeper_pid: int, timeout_ns: int) -> None:
        self._client = client
        self._keeper_pid = keeper_pid
        self._screen: Terminal = terminal.stdout()
        self._live = terminal.Live(self._screen)
        self._begun_ns = time.monotonic_ns()
        self._timeout_ns = timeout_ns
        self._held_back: deque[tuple[str, Map]] = deque(maxlen=_HELD_BACK)
        self._shown = False
        self._width = 0

    def run(self) -> None:
        if not self._wait_for_socket():
            return
        # The output of files that are there already is older than this manager; of new ones all comes.
        logs = "logs.follow", {"lines": 0}
        with self._live:
            for kind, item in self._client.follow(("events.follow", {}), logs, tick=_TICK_S):
                if kind == TICK and os.getppid() != self._keeper_pid:
                    break
                if kind != TICK:
                    self._take(kind, item)
                if not self._shown and (kind == TICK or kind == "event"):
                    self._look()
            self._live.clear()

    def _wait_for_socket(self) -> bool:
        """Wait until the manager listens; False when the keeper has gone instead and has said why."""
        while os.getppid() == self._keeper_pid:
            if locate.is_running(self._client.instance):
                return True
            time.sleep(_SOCKET_POLL_S)
        return False

    def _look(self) -> None:
        """Show the status once everything is as desired, or will not be, or the patience is over."""
        status = self._client.status()
        elapsed_ns = time.monotonic_ns() - self._begun_ns
        if not _is_final(status) and elapsed_ns < self._timeout_ns:
            self._live.show(render.waiting_blocks(_waiting(status), elapsed_ns))
            return
        self._live.clear()
        self._shown = True
        names = (
            f"{each['name']}.{slot['slot']}"
            for each in status["watchers"]
            for slot in each["slots"]
        )
        self._width = max(map(len, names), default=0)
        self._screen.show(*render.status_page(status, wall_ns()), ())
        for kind, item in self._held_back:
            self._take(kind, item)
        self._held_back.clear()

    def _take(self, kind: str, item: Map) -> None:
        if not self._shown:
            self._held_back.append((kind, item))
        elif DROPPED in item:
            self._screen.show(
                (Cell(f"reconcile: {item[DROPPED]} missed: this reader is too slow"),)
            )
        elif kind == "log":
            entry = shapes.log(item)
            self._width = max(self._width, len(render.slot_name(entry["watcher"], entry["slot"])))
            show_log(self._screen, entry, self._width)
        elif kind == "event" and render.is_important(event := shapes.event(item)):
            place = render.slot_name(event["watcher"], event["slot"])
            said = event["message"]
            text = said if said.startswith(place) else f"{place}: {said}"
            self._screen.show((Cell("reconcile: ", "title"), Cell(text)))


def _is_final(status: StatusMap) -> bool:
    if status["spec_state"] == "loading" or not status["revision"]:
        return False
    left = [watcher for watcher in status["watchers"] if not watcher["as_desired"]]
    return all(watcher["state"] == "Failed" for watcher in left)


def _waiting(status: StatusMap) -> Sequence[WaitingMap]:
    return [
        {
            "name": watcher["name"],
            "state": watcher["state"],
            "note": render.watcher_note(watcher, wall_ns()),
        }
        for watcher in status["watchers"]
        if not watcher["as_desired"]
    ]
