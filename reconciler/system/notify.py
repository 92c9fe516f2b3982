"""To whoever started the manager: what sd_notify(3) sends, and how often the watchdog wants to hear of us."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOR_CHILDREN: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What is said to the keeper alone: a child that took it for its own would speak in our name."""


class Notifier:
    """The socket that we were started with, if any; what it does not take at once is lost."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Abstract or a path; an address of another family is a virtual machine's, which we are not.
        given = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + given[1:] if given.startswith("@") else given
        self._socket: socket.socket | None = None
        if given[:1] in {"@", "/"}:
            # Open for good: in a shortage of descriptors the watchdog must still be told.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_ns = self._watchdog_ns(environ) if self._socket is not None else None

    @staticmethod
    def _watchdog_ns(environ: Mapping[str, str]) -> int | None:
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_meant = pid in {"", str(os.getpid())}
        return int(usec) * 1000 if usec.isdecimal() and int(usec) > 0 and is_meant else None

    @property
    def listens(self) -> bool:
        """Tell whether there is somebody to tell."""
        return self._socket is not None

    def send(self, text: str) -> None:
        """Send it; a listener that is gone, slow or at an impossible address changes nothing for us."""
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self._socket.sendto(text.encode(errors="replace"), self._address)
