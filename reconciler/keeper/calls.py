"""Clients that call the control socket, which the controller answers: seen only when the keeper wants to see one."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Calls:
    """The control socket as the keeper sees it. `told` is called once after `await_next`."""

    def __init__(
        self,
        control: socket.socket,
        register: Callable[[int, Callable[[], None]], None],
        unregister: Callable[[int], None],
        told: Callable[[], None],
    ) -> None:
        self._control = control
        self._register, self._unregister = register, unregister
        self._told = told
        self._awaits = False

    def await_next(self) -> None:
        """Tell when the next client calls."""
        if not self._awaits:
            self._awaits = True
            self._register(self._control.fileno(), self._called)

    def _called(self) -> None:
        # Level-triggered: it would wake us again and again until the controller has let the client in.
        self.ignore()
        self._told()

    def ignore(self) -> None:
        """Tell of no client."""
        if self._awaits:
            self._awaits = False
            self._unregister(self._control.fileno())

    def is_waiting(self) -> bool:
        """Tell whether a client waits that the controller has not let in."""
        return bool(select.select([self._control], [], [], 0)[0])
