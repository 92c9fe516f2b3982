"""Methods about the manager itself: who it is, and its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import reconciler
from reconciler.controller.api.request import Request
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.runtime.config import Config
from reconciler.controller.specs.source import SourceWatch
from reconciler.core.reconciler import Reconciler
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.process import pid_of
from reconciler.model.value import Part
from reconciler.wire import methods

PROTOCOL: Final = 1


class ManagerMethods(Part):
    """`hello` and `shutdown`."""

    config: Config
    core: Reconciler
    source: SourceWatch
    keeper: KeeperIntroduced
    waiters: Waiters
    shut_down: Callable[[bool, int | None], bool]
    """Ends everything, now or in order, with an exit code; tells whether all that runs is left to the next manager."""

    def hello(self, request: Request, _asked: methods.Hello) -> None:
        """Say who answers and what the caller may do."""
        request.reply(
            {
                "version": reconciler.__version__,
                "protocol": PROTOCOL,
                "name": self.config.name,
                "source": self.source.source,
                "state_dir": self.config.state_dir,
                "role": request.permit.role,
                "labels": request.permit.labels,
                "keeper_pid": self.keeper.pid,
                "controller_pid": os.getpid(),
                "upgrades": self.keeper.upgrades,
            }
        )

    def shutdown(self, request: Request, asked: methods.ShutDown) -> None:
        """End everything."""
        code = f", with exit code {asked.code}" if asked.code else ""
        how = f"ends everything{' at once' if asked.now else ''}{code}"
        request.tell(how, now=asked.now)
        leaves = self.shut_down(asked.now, asked.code or None)
        if asked.wait and not self._is_hook(request):
            self.waiters.until_end(request)
        else:
            request.reply({"leaves": leaves})

    def _is_hook(self, request: Request) -> bool:
        """Tell whether a hook asks: the end waits for it, so it must not wait for the end."""
        helpers = (record for name in self.core.names() for record in self.core.helpers(name))
        return any(pid_of(record.phase) == request.pid for record in helpers)
