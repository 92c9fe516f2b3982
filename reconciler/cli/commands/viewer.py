"""What `up` shows: output and important events, what is waited for, and the status once all is as desired.

The viewer is a child of the keeper and nobody depends on it. It ignores Ctrl-C, which is meant
for the keeper, so that it can show how everything stops; it ends when the manager does. What the
manager does comes over its streams: an event costs it no more than one that nobody follows.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from reconciler.cli.commands.ending import ENDED, Ending
from reconciler.cli.commands.waiting import is_final
from reconciler.cli.connection import instances
from reconciler.cli.connection.client import Client
from reconciler.cli.connection.transport import DROPPED, TICK, Map
from reconciler.cli.errors import DONE, FAILED, CommandError, NoManager
from reconciler.cli.views import terminal
from reconciler.cli.views.events import is_important
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.logs import log_name, show_log
from reconciler.cli.views.phrases import slot_name
from reconciler.cli.views.progress import show_changes, waiting_blocks
from reconciler.cli.views.status import status_page
from reconciler.model.answer import EventEntry, LogEntry, Progress
from reconciler.model.errors import RequestError
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    from reconciler.cli.connection.instances import Instance
    from reconciler.cli.views.terminal import Terminal

_TICK_S: Final = 0.2
_SOCKET_POLL_S: Final = 0.01
_EARLY_NS: Final = 5 * SECOND_NS
"""For so long nobody needs to hear that something is being started."""
_TOLD_BY_EVENTS: Final = frozenset({"Failing"})
_EARLY_STATES: Final = _TOLD_BY_EVENTS | {"Pending", "Rolling", "Running", "Starting"}
_HINT: Final = "; Ctrl-C again kills at once"
_PREFIX: Final = "reconcile: "
"""Before what is no output."""


def view(instance: Instance, keeper_pid: int, timeout_ns: int) -> int:
    """Show the manager's life until it ends; returns an exit code that nobody reads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Viewer(Client(instance=instance), keeper_pid, timeout_ns).run()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    except NoManager:
        pass  # It ended before there was anything to show, with a message of its own.
    except (CommandError, RequestError) as error:
        terminal.stderr().write(f"reconcile: cannot show the logs: {error}\n")
        return FAILED
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        text = (
            f"reconcile: cannot show status and logs any more: {cause}; the manager keeps running\n"
        )
        terminal.stderr().write(text)
        return FAILED
    return DONE


class _Viewer:
    def __init__(self, client: Client, keeper_pid: int, timeout_ns: int) -> None:
        self._client = client
        self._keeper_pid = keeper_pid
        self._screen: Terminal = terminal.stdout()
        self._live = terminal.Live(self._screen)
        self._begun_ns = time.monotonic_ns()
        self._painted_ns = 0
        self._timeout_ns = timeout_ns
        self._progress = Progress()
        self._told: dict[str, str] = {}
        self._shown = False
        self._ending: Ending | None = None
        self._has_ended = self._is_done = False
        self._width = 0

    def run(self) -> None:
        if not self._wait_for_socket():
            return
        streams: tuple[tuple[str, Map], ...] = (
            # All of what this manager starts, however late we are; output of a former one is not shown again.
            ("logs.follow", {"lines": 0, "whole": True}),
            ("apply.follow", {}),
            # The last, since the end waits for who has this one. A quick job may have ended by now.
            ("events.follow", {"until_end": True, "whole": True}),
        )
        with self._live:
            for kind, item in self._client.follow(*streams, tick=_TICK_S):
                if kind == TICK and os.getppid() != self._keeper_pid:
                    break
                if kind != TICK:
                    self._take(kind, item)
                if self._has_ended:
                    break
                self._show_progress()
            self._live.clear()
            if self._ending is not None:
                self._say(self._ending.outcome(self._client.instance.name))
        self._client.close()  # the manager waits for that, but not for long

    def _wait_for_socket(self) -> bool:
        """Wait until the manager listens; False when the keeper has ended instead, with a message of its own."""
        while os.getppid() == self._keeper_pid:
            if instances.is_running(self._client.instance):
                return True
            time.sleep(_SOCKET_POLL_S)
        return False

    def _show_progress(self) -> None:
        """Show what is waited for below the output, and the status once all is as desired or the time is over."""
        if self._ending is not None:
            self._ending.look(self._client)
            return
        if self._shown:
            return
        now_ns = time.monotonic_ns()
        elapsed_ns = now_ns - self._begun_ns
        progress = self._progress
        if elapsed_ns >= self._timeout_ns or is_final(progress):
            self._show_status()
        elif now_ns - self._painted_ns >= _TICK_S * SECOND_NS:
            self._live.show(waiting_blocks(progress, elapsed_ns))
            self._painted_ns = now_ns

    def _show_status(self) -> None:
        self._live.clear()
        self._shown = True
        try:
            status = self._client.status()
        except NoManager:
            return  # it has ended meanwhile; what it said before is still to be shown
        names = (f"{each.name}.{slot.slot}" for each in status.watchers for slot in each.slots)
        self._width = max(map(len, names), default=0)
        self._screen.show(*status_page(status, time.time_ns()), ())

    def _take(self, kind: str, item: Map) -> None:
        if kind == "progress":
            self._progress = self._client.read(Progress, kind, item).value
            if not self._shown and self._ending is None and not self._screen.is_terminal:
                is_early = time.monotonic_ns() - self._begun_ns < _EARLY_NS
                silent = _EARLY_STATES if is_early else _TOLD_BY_EVENTS
                show_changes(self._screen, self._progress, self._told, _PREFIX, silent)
        elif DROPPED in item:
            self._say(f"reconcile: {item[DROPPED]} missed: this reader is too slow")
        elif kind == "log":
            self._live.clear()
            entry = self._client.read(LogEntry, kind, item).value
            self._width = max(self._width, len(log_name(entry)))
            show_log(self._screen, entry, self._width)
        elif kind == "event":
            self._take_event(self._client.read(EventEntry, kind, item).value)

    def _take_event(self, event: EventEntry) -> None:
        self._has_ended = event.type in ENDED
        if self._ending is None and event.type in {"manager.stopping", *ENDED}:
            hint = "" if event.watcher else _HINT
            self._ending = Ending(self._screen, self._live, prefix=_PREFIX, hint=hint)
            if not self._shown and event.type in ENDED:
                self._show_status()
        if self._ending is not None:
            self._ending.take(event)
        if self._has_ended or not is_important(event):
            return
        self._is_done = self._is_done or event.type == "manager.done"
        if self._is_done and event.type == "manager.stopping":
            return  # there is nothing left to be stopped
        if str(event.details.get("who", "")).startswith("up "):
            return  # that is what whoever looks on has asked for
        self._live.clear()
        place = slot_name(event.watcher, event.slot)
        said = event.message
        text = said if said.startswith(place) else f"{place}: {said}"
        by_signal = not (event.watcher or event.details.get("now"))
        if event.type == "manager.stopping" and by_signal:
            text += _HINT
        self._screen.show((Cell(_PREFIX, "title"), Cell(text)))

    def _say(self, text: str) -> None:
        self._live.clear()
        self._screen.show((Cell(text),))
