"""The method upgrade: keeper and controller become another version, and nothing that they hold notices.

The new code is asked first whether it starts and reads what the running keeper hands over. The keeper then
replaces itself and hangs up, which ends this process; the client asks again, and the next controller, which
is of the new code, finds that it is done.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import reconciler
from reconciler.controller.exchange import LATER, Method
from reconciler.controller.operating import ordered
from reconciler.model.action import Upgrade
from reconciler.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.controller.exchange import Exchange
    from reconciler.controller.loop import Controller
    from reconciler.controller.parameters import Parameters

CHECK_TIMEOUT_S: Final = 20.0
_CHECK: Final = (
    "import sys, reconciler.controller.loop; from reconciler.keeper.__main__ import main; "
    "sys.exit(main(['keeper', '--reads', sys.argv[1]]))"
)


def upgrade(exchange: Exchange, params: Parameters) -> object:
    """Have the keeper replace its code, unless that is how this controller came to be."""
    number, python = params.number("number", 1, 2**31), params.text("python") or sys.executable
    order = ordered(exchange, params)
    params.end()
    controller = exchange.controller
    keeper = controller.keeper
    if not python.startswith("/"):
        message = f"python: expected an absolute path, found {python[:128]!r}"
        raise RequestError(code="invalid_request", message=message)
    if number is not None and number <= keeper.upgrades:
        return {
            "version": reconciler.__version__,
            "keeper_pid": keeper.pid,
            "controller_pid": controller.pid,
            "upgrades": keeper.upgrades,
        }
    if controller.upgrading is not None:
        raise RequestError(code="conflict", message="another upgrade is under way")
    controller.upgrading = exchange

    def checked(trouble: str) -> None:
        if trouble:
            failed(controller, trouble)
            return
        controller.tell(order.news(f"becomes what {python} runs", python=python))
        controller.send_to_keeper(Upgrade(python))

    controller.lanes.run(
        "commands",
        lambda: _trouble_with(python, keeper.format),
        checked,
        lambda said: failed(controller, said),
    )
    return LATER


def failed(controller: Controller, cause: str) -> None:
    """Answer that all is as it was, and why."""
    exchange, controller.upgrading = controller.upgrading, None
    if exchange is not None:
        message = f"cannot upgrade: {cause}"
        hint = "nothing was changed; the version that ran goes on"
        exchange.fail(RequestError(code="conflict", message=message, hint=hint))


def _trouble_with(python: str, format: int) -> str:
    """Return why the code of an interpreter cannot take over; empty when it can."""
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


METHODS: Final[Mapping[str, Method]] = {"upgrade": Method(upgrade, "admin", mutates=True)}
