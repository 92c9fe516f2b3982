"""The parts that everything runs on."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controller.runtime.borders import Border, Log
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.event import Event


class Runtime:
    """What is waited for, background tasks, and the border around them."""

    def __init__(self, log: Log, tell: Callable[[Event], None]) -> None:
        self.log = log
        self.border = Border(log, tell)
        self.reactor = Reactor(self.border.report)
        self.lanes = Lanes(self.reactor, self.border.report)
