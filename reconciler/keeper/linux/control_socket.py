"""The control socket, which the controller answers: kept open where clients look for it, and whether one calls."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from typing import TYPE_CHECKING, Final

from reconciler.keeper.kernel import CONTROL
from reconciler.keeper.startup.config import Refused
from reconciler.keeper.startup.instance import file_at, lock, make_folder, open_control
from reconciler.model.observation import ControlRenewed
from reconciler.model.units import SECOND_NS

if TYPE_CHECKING:
    import socket

    from reconciler.keeper.startup.config import KeeperConfig
    from reconciler.sockets.watching import Clients, FileWatch

RENEW_NS: Final = 5 * SECOND_NS
"""How often a socket is tried again that cannot be opened where it was."""


class ControlSocket:
    """The control socket as the keeper sees it."""

    def __init__(
        self,
        config: KeeperConfig,
        socket: socket.socket,
        locks: tuple[int, ...],
        clients: Clients,
        files: FileWatch,
    ) -> None:
        self._config = config
        self.socket = socket
        self.locks = locks
        """What tells other keepers that this one lives: in the runtime folder, then in the state folder."""
        self.due_ns: int | None = None
        """When to `renew` again what could not be had."""
        self._clients, self._files = clients, files
        self._trouble = ""
        self._file = file_at(config.control_socket)
        self._is_closed = False
        self._folder: os.stat_result | None = None
        with contextlib.suppress(OSError):
            self._folder = os.stat(config.runtime_dir)
        self._watch()

    def await_next(self) -> None:
        """Tell when the next client calls."""
        self._clients.await_next(self.socket.fileno(), CONTROL)

    def _watch(self) -> None:
        """Be told when the socket's file or the folder itself is removed or renamed."""
        self._files.watch(self._config.runtime_dir)
        self._files.watch(self._config.control_socket)

    def renew(self) -> ControlRenewed | None:
        """Open the socket again, with folder and lock, where its file has vanished or was replaced; return the outcome.

        None: all is in place, or what is wrong was told already. Whoever has the old socket, such as the
        controller, goes on with one that nobody finds.
        """
        self.due_ns = None
        path, trouble = self._config.control_socket, ""
        try:
            if self._is_closed or (self._file is not None and self._file == file_at(path)):
                return None
            self._renew_folder()
            control = open_control(self._config)
            self._close()
            self.socket, self._file = control, file_at(path)
            self._watch()
        except (Refused, OSError) as error:
            self.due_ns = time.monotonic_ns() + RENEW_NS
            trouble = str(error)
        told, self._trouble = self._trouble, trouble
        return None if trouble and trouble == told else ControlRenewed(path, trouble)

    def _renew_folder(self) -> None:
        """Make the runtime folder again if it is gone, and lock it. Raises `Refused`, `OSError`."""
        config = self._config
        if not os.path.isdir(config.runtime_dir):
            make_folder(config.runtime_dir, config.runtime_mode)
            if self._folder is not None:  # it may have been made for us by somebody else
                os.chown(config.runtime_dir, self._folder.st_uid, self._folder.st_gid)
                os.chmod(config.runtime_dir, stat.S_IMODE(self._folder.st_mode))
        former = os.fstat(self.locks[0])
        if file_at(config.runtime_lock) == (former.st_dev, former.st_ino):
            return
        new = lock(config.runtime_lock, wait_s=0)
        os.close(self.locks[0])
        self.locks = (new, *self.locks[1:])

    def close(self) -> None:
        """Close the socket and remove its file, for good."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            os.unlink(self._config.control_socket)
        self._close()

    def _close(self) -> None:
        self._clients.forget(self.socket.fileno())
        self.socket.close()

    def is_waiting(self) -> bool:
        """Tell whether a client waits that the controller has not let in."""
        poll = select.poll()  # select(2) knows no descriptor above 1,023
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))
