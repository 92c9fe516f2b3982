"""Sending signals: to a process, its group, its tree; each once, and never to who has its number by now."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reconciler.model.process import Reach
    from reconciler.system.deaths import Deaths
    from reconciler.system.pidfds import Pidfds

_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""After these a stopped process is woken: it could not notice otherwise."""


class Signals:
    """Knows who is adopted, and so is signalled by a pidfd. `log` hears of signals that there are not."""

    def __init__(self, pidfds: Pidfds, deaths: Deaths, log: Callable[..., None]) -> None:
        self._pidfds, self._log = pidfds, log
        self._groups, self._killed = deaths.groups, deaths.killed

    def send(self, pid: int, signal: str, reach: Reach = "process") -> None:
        """Signal an unreaped child or an adopted process, its children, or the group that it leads."""
        if signal == "KILL" and reach != "children":
            self._killed.add(pid)
        if reach == "group":
            self._to_group(pid, signal)
        elif reach == "children":
            for child in procfs.children_of(pid):
                self._to_below(child, pid, signal)
        else:
            self._to_process(pid, signal)

    def _to_process(self, pid: int, signal: str) -> None:
        self._send(signal, partial(self._pidfds.send if pid in self._pidfds else os.kill, pid))

    def _to_group(self, pid: int, signal: str) -> None:
        if pid in self._pidfds:
            self._send(signal, partial(self._pidfds.send_to_group, pid))
            return
        # One that was forked just now may not have its own session yet.
        self._send(signal, partial(os.killpg if os.getpgid(pid) == pid else os.kill, pid))

    def to_tree(self, group: int, roots: Iterable[int], signal: str) -> None:
        """Signal these processes of ours and all below them; those in `group` as a group."""
        roots = list(roots)
        if signal == "KILL":
            self._killed.update(roots)
        # All are found before the first is hit: what loses its parent is found under it no more.
        below = procfs.descendants(roots)
        if signal == "KILL" and self._groups is not None:
            for pid in roots:
                self._groups.kill(pid)
        members = [pid for pid in roots if procfs.group(pid) == group]
        if group in members:
            self._to_group(group, signal)
        elif members:  # the group keeps its number while one of them is in it
            self._send(signal, partial(os.killpg, group))
        for pid in roots:
            # One that left the group between the look and the signal has got none.
            if pid not in members or procfs.group(pid) != group:
                self._to_process(pid, signal)
        for pid, parent in below:
            if not (members and procfs.group(pid) == group):
                self._to_below(pid, parent, signal)

    def _to_below(self, pid: int, parent: int, signal_name: str) -> None:
        """Signal a process that is no child of ours, if it still is the one that was found."""
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if procfs.parent(pid) == parent:
                self._send(signal_name, partial(signal.pidfd_send_signal, handle))
        finally:
            os.close(handle)

    def _send(self, name: str, send: Callable[[int], None]) -> None:
        number = procfs.signal_number(name)
        if number is None:
            self._log("error", "cannot send an unknown signal", signal=name)
            return
        # Gone, or a set-user-id program of an ordinary user's tree: nothing more can be done.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(number)
            if number in _ENDING:
                send(signal.SIGCONT)
