"""The method upgrade: keeper and controller become another version, and nothing that they hold notices.

The new code is asked first whether it starts and reads what the running keeper hands over. The keeper then
replaces itself and hangs up, which ends this process; the client asks again, and the next controller, which
is of the new code, finds that it is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

import reconciler
from reconciler.controller.api.request import Request
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.action import KeeperAction, Upgrade
from reconciler.model.errors import RequestError
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.value import Part
from reconciler.wire import methods

CHECK_TIMEOUT_S: Final = 20.0
_CHECK: Final = (
    "import sys, reconciler.controller.controller; from reconciler.keeper.__main__ import main; "
    "sys.exit(main(['keeper', '--reads', sys.argv[1]]))"
)


class Upgrades(Part):
    """Has the keeper replace its code, once at a time."""

    keeper: KeeperIntroduced
    """Who the keeper is, as it says itself."""
    lanes: Lanes
    send: Callable[[KeeperAction], None]
    _request: Request | None = None
    """It waits for the keeper to replace its code, which ends this process."""

    def upgrade(self, request: Request, asked: methods.Upgrade) -> None:
        """Have the keeper replace its code, unless that is how this controller came to be."""
        number, python = asked.number, asked.python or sys.executable
        if not python.startswith("/"):
            message = f"python: expected an absolute path, found {python[:128]!r}"
            raise RequestError(code="invalid_request", message=message)
        if number is not None and number <= self.keeper.upgrades:
            ours = {"version": reconciler.__version__, "controller_pid": os.getpid()}
            upgrades = self.keeper.upgrades
            request.reply({**ours, "keeper_pid": self.keeper.pid, "upgrades": upgrades})
            return
        if self._request is not None:
            raise RequestError(code="conflict", message="another upgrade is under way")
        self._request = request

        def checked(trouble: str) -> None:
            if trouble:
                self.failed(trouble)
                return
            request.tell(f"becomes what {python} runs", python=python)
            self.send(Upgrade(python))

        format = self.keeper.format
        self.lanes.run("commands", lambda: _trouble_with(python, format), checked, self.failed)

    def failed(self, cause: str) -> None:
        """Answer that all is as it was, and why."""
        request, self._request = self._request, None
        if request is not None:
            message = f"cannot upgrade: {cause}"
            hint = "nothing was changed; the version that ran goes on"
            request.fail(RequestError(code="conflict", message=message, hint=hint))


def _trouble_with(python: str, format: int) -> str:
    """Return why the code of an interpreter cannot take over; empty when it can."""
    import subprocess

    try:
        done = subprocess.run(
            [python, "-I", "-c", _CHECK, str(format)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        return f"cannot execute {python}: {(error.strerror or str(error)).lower()}"
    except subprocess.TimeoutExpired:
        return f"{python} does not start within {CHECK_TIMEOUT_S:.0f} s"
    if done.returncode == 0 and done.stdout == f"reads {format}\n":
        return ""
    said = done.stderr.strip().splitlines()
    return f"{python}: {said[-1][:256] if said else 'it is no Python that has reconcile'}"
