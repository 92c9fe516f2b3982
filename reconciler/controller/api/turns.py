"""Whose requests are served next: users take turns, so that whoever asks for much waits for himself.

Those who may operate come first: nobody who may only look keeps them waiting for more than one request.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeAlias

from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.value import Part, field

_ByUser: TypeAlias = "OrderedDict[int, deque[Callable[[], None]]]"


class Turns(Part):
    """Connections that have more to be served, by user."""

    reactor: Reactor
    _operators: _ByUser = field(default_factory=OrderedDict)
    _viewers: _ByUser = field(default_factory=OrderedDict)
    _is_due: bool = False

    @property
    def are_taken(self) -> bool:
        """Tell whether somebody waits before whom nobody else may be served."""
        return bool(self._operators)

    def add(self, uid: int, serve: Callable[[], None], *, may_operate: bool) -> None:
        """Have a connection of a user served when its turn comes, behind others of that user."""
        waiting = self._operators if may_operate else self._viewers
        waiting.setdefault(uid, deque()).append(serve)
        self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.reactor.soon(self._go_on)

    def _go_on(self) -> None:
        """Serve one connection of each user; who has asked meanwhile takes part in the next round."""
        self._is_due = False
        for waiting in (self._operators, self._viewers):  # of each kind one at least
            for _ in range(len(waiting)):
                uid, connections = waiting.popitem(last=False)
                serve = connections.popleft()
                if connections:
                    waiting[uid] = connections  # behind all others
                serve()
                if self.reactor.turn_is_over:
                    break
        if self._operators or self._viewers:
            self._go_on_soon()
