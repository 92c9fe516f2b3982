"""Methods about the manager itself: who it is, its end, and another version of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import reconciler
from reconciler.controller.api.orders import event_of, reason_of
from reconciler.controller.api.request import LATER, Method
from reconciler.controller.api.upgrade import Upgrades
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.runtime.config import Config
from reconciler.controller.specs.source import SourceWatch
from reconciler.core.reconciler import Reconciler
from reconciler.model.news import News
from reconciler.model.process import pid_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.controller.api.parameters import Parameters
    from reconciler.controller.api.request import Request

PROTOCOL: Final = 1


@dataclass(eq=False)
class ManagerMethods:
    """`hello`, `shutdown` and `upgrade`."""

    config: Config
    core: Reconciler
    source: SourceWatch
    upgrades: Upgrades
    waiters: Waiters
    shut_down: Callable[[bool, int], bool]
    """Ends everything, now or in order, with an exit code; tells whether all that runs is left to the next manager."""
    tell: Callable[[News], None]

    def methods(self) -> Mapping[str, Method]:
        """Return them by name."""
        return {
            "hello": Method(self.hello, "view"),
            "shutdown": Method(self.shutdown, "admin", mutates=True),
            "upgrade": Method(self.upgrades.upgrade, "admin", mutates=True),
        }

    def hello(self, request: Request, params: Parameters) -> object:
        """Say who answers and what the caller may do."""
        params.text("client")
        params.number("protocol", 0, 2**31)
        params.end()
        keeper = self.upgrades.keeper
        return {
            "version": reconciler.__version__,
            "protocol": PROTOCOL,
            "name": self.config.name,
            "source": self.source.source,
            "state_dir": self.config.state_dir,
            "role": request.permit.role,
            "labels": request.permit.labels,
            "keeper_pid": keeper.pid,
            "controller_pid": os.getpid(),
            "upgrades": keeper.upgrades,
        }

    def shutdown(self, request: Request, params: Parameters) -> object:
        """End everything."""
        now, wait = params.flag("now"), params.flag("wait")
        code, reason = params.number("code", 0, 255) or 0, reason_of(params)
        params.end()
        how = (" at once" if now else "") + (f", with exit code {code}" if code else "")
        self.tell(event_of(request, reason, f"ends everything{how}", now=now))
        leaves = self.shut_down(now, code)
        if wait and not self._is_hook(request):
            self.waiters.until_end(request)
            return LATER
        return {"leaves": leaves}

    def _is_hook(self, request: Request) -> bool:
        """Tell whether a hook asks: the end waits for it, so it must not wait for the end."""
        helpers = (record for name in self.core.names() for record in self.core.helpers(name))
        return any(pid_of(record.phase) == request.pid for record in helpers)
