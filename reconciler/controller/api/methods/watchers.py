"""Methods by which an operator says what shall be of watchers."""

from __future__ import annotations

from functools import partial
from typing import Final

from reconciler.controller.api.orders import Order, Orders
from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Selected, Wanted, select
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.runtime import clock
from reconciler.core import orders
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.units import SECOND_NS, parse_signal
from reconciler.model.value import Part
from reconciler.wire import methods

SENT_WITHIN_NS: Final = 25 * SECOND_NS
"""How long a signal may wait for its hook unless the request says otherwise; clients wait 30 s for an answer."""


class WatcherMethods(Part):
    """`start`, `stop` and the like."""

    core: Reconciler
    orders: Orders
    waiters: Waiters

    def start(self, request: Request, asked: methods.ForSomeTime) -> None:
        """Start watchers, slots or jobs."""
        selected = self.orders.chosen(request, asked, needed=True)
        self.orders.each(request, asked, selected, orders.start, asked.for_ns)

    def stop(self, request: Request, asked: methods.ForSomeTime) -> None:
        """Stop them."""
        selected = self.orders.chosen(request, asked, needed=True)
        self.orders.each(request, asked, selected, orders.stop, asked.for_ns)

    def resume(self, request: Request, asked: methods.OrderOfSelected) -> None:
        """Drop overrides: the spec alone counts again."""
        selected = self.orders.chosen(request, asked, needed=True)
        self.orders.each(request, asked, selected, orders.resume)

    def restart(self, request: Request, asked: methods.Restart) -> None:
        """Replace processes."""
        decide = partial(orders.restart, at_once=asked.at_once)
        self.orders.each(request, asked, self.orders.chosen(request, asked), decide)

    def reload(self, request: Request, asked: methods.OrderOfSelected) -> None:
        """Have processes read their configuration again."""
        selected = self.orders.chosen(request, asked)
        self.orders.each(request, asked, selected, orders.reload)

    def rerun(self, request: Request, asked: methods.Rerun) -> None:
        """Fire jobs once more."""
        selected = self.orders.chosen(request, asked, needed=True)
        decide = partial(orders.rerun, failed=asked.failed, overlap=asked.overlap)
        self.orders.each(request, asked, selected, decide)

    def scale(self, request: Request, asked: methods.Scale) -> None:
        """Set numbers of processes."""
        if asked.for_ns is not None and None in asked.scale.values():
            msg = "for_ns: what follows its spec again does so for good"
            raise RequestError(code="invalid_request", message=msg, hint="leave for_ns out")
        found: dict[str, int | None] = {}
        slots: dict[str, tuple[int, ...] | None] = {}
        for written, number in asked.scale.items():
            selected = select(self.core, Wanted((written,)))
            for name in selected.slots:
                if found.setdefault(name, number) != number:
                    message = f"scale: {name} is to have {found[name]} and {number} processes"
                    raise RequestError(code="invalid_request", message=message)
            slots |= selected.slots
        self.orders.check(request, slots)
        # A number is for each watcher that is meant, named or not: there is nothing to consent to.
        selected = Selected(slots, frozenset(slots))
        self.orders.each(
            request, asked, selected, lambda it: orders.scale(it, found[it.name]), asked.for_ns
        )

    def signal(self, request: Request, asked: methods.SendSignal) -> None:
        """Send a signal, and answer when it was sent: before that nothing is certain, and nothing is stored."""
        selected = self.orders.chosen(request, asked, needed=True)
        try:
            word = parse_signal(asked.signal)
        except ValueError as error:
            message = f"signal: {error}, found {asked.signal!r}"
            raise RequestError(code="invalid_request", message=message) from None
        order, at_ns, sent = Order(request, asked.reason), clock.now_ns(), set[tuple[str, int]]()
        for name, slots in selected.slots.items():
            it = self.orders.subject(order, name, slots, by_name=name in selected.by_name)
            self.orders.carry_out(order, it, orders.signal(it, word, at_ns, asked.reach))
            sent |= {(name, slot) for slot in it.running}
        if not sent:
            request.reply({"results": order.results})
            return
        within_ns = SENT_WITHIN_NS if asked.timeout_ns is None else asked.timeout_ns
        self.waiters.until_sent(request, order.results, at_ns, sent, within_ns)
