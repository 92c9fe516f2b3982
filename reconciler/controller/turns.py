"""Whose requests are served next: users take turns, so that whoever asks for much waits for himself."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.controller.reactor import Reactor


class Turns:
    """Connections that have more to be served, by user."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._waiting: OrderedDict[int, deque[Callable[[], None]]] = OrderedDict()
        self._is_due = False

    @property
    def are_taken(self) -> bool:
        """Tell whether somebody waits."""
        return bool(self._waiting)

    def add(self, uid: int, serve: Callable[[], None]) -> None:
        """Have a connection of a user served when its turn comes, behind others of that user."""
        self._waiting.setdefault(uid, deque()).append(serve)
        self._go_on_soon()

    def _go_on_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._reactor.soon(self._go_on)

    def _go_on(self) -> None:
        """Serve one connection of each user; who has asked meanwhile takes part in the next round."""
        self._is_due = False
        for _ in range(len(self._waiting)):
            uid, connections = self._waiting.popitem(last=False)
            serve = connections.popleft()
            if connections:
                self._waiting[uid] = connections
            serve()
            if self._reactor.turn_is_over:
                break
        if self._waiting:
            self._go_on_soon()
