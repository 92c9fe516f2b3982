"""Clients that call the control socket, which the controller answers: seen only when the keeper wants to see one."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

from reconciler.keeper.config import Refused, file_at, open_control

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from reconciler.keeper.config import KeeperConfig
    from reconciler.keeper.files import Files


class Calls:
    """The control socket as the keeper sees it. `told` is called once after `await_next`."""

    def __init__(
        self,
        config: KeeperConfig,
        control: socket.socket,
        register: Callable[[int, Callable[[], None]], None],
        unregister: Callable[[int], None],
        told: Callable[[], None],
    ) -> None:
        self._config = config
        self.control = control
        self._file = file_at(config.control_socket)
        self._register, self._unregister = register, unregister
        self._told = told
        self._awaits = False

    def await_next(self) -> None:
        """Tell when the next client calls."""
        if not self._awaits:
            self._awaits = True
            self._register(self.control.fileno(), self._called)

    def _called(self) -> None:
        # Level-triggered: it would wake us again and again until the controller has let the client in.
        self.ignore()
        self._told()

    def ignore(self) -> None:
        """Tell of no client."""
        if self._awaits:
            self._awaits = False
            self._unregister(self.control.fileno())

    def renew(self, files: Files) -> bool:
        """Open the socket anew if its file has vanished or was replaced; tell whether that was so.

        Whoever has the old one, such as the controller, goes on with a socket that nobody finds.
        """
        try:
            if self._file in (None, file_at(self._config.control_socket)):
                return False
            control = open_control(self._config)
        except (Refused, OSError):
            return False  # as when the folder is gone, too: nobody would find it there
        self.ignore()
        self.control.close()
        self.control, self._file = control, file_at(self._config.control_socket)
        files.watch(self._config.control_socket)
        return True

    def close(self) -> None:
        """Close the socket and remove its file, for good."""
        self._file = None
        with contextlib.suppress(OSError):
            os.unlink(self._config.control_socket)
        self.ignore()
        self.control.close()

    def is_waiting(self) -> bool:
        """Tell whether a client waits that the controller has not let in."""
        poll = select.poll()  # select(2) knows no descriptor above 1,023
        poll.register(self.control, select.POLLIN)
        return bool(poll.poll(0))
