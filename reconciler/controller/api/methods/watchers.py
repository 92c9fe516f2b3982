"""Methods by which an operator says what shall be of watchers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from reconciler.controller.api.orders import MAX_TIMEOUT_NS, Orders, patience
from reconciler.controller.api.request import LATER, Method
from reconciler.controller.api.selectors import Selected, Wanted, select
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.runtime import clock
from reconciler.core import orders
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.spec import MAX_NUMPROCESSES
from reconciler.model.units import SECOND_NS, parse_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.controller.api.parameters import Parameters
    from reconciler.controller.api.request import Request
    from reconciler.core.generations import Overlap
    from reconciler.model.process import Reach

SENT_WITHIN_NS: Final = 25 * SECOND_NS
"""How long a signal may wait for its hook unless the request says otherwise; clients wait 30 s for an answer."""


@dataclass(eq=False)
class WatcherMethods:
    """`start`, `stop` and the like."""

    core: Reconciler
    orders: Orders
    waiters: Waiters

    def methods(self) -> Mapping[str, Method]:
        """Return them by name."""
        return {
            name: Method(handler, "operate", mutates=True)
            for name, handler in (
                ("start", self.start),
                ("stop", self.stop),
                ("restart", self.restart),
                ("reload", self.reload),
                ("signal", self.signal),
                ("scale", self.scale),
                ("resume", self.resume),
                ("rerun", self.rerun),
            )
        }

    def start(self, request: Request, params: Parameters) -> object:
        """Start watchers, slots or jobs."""
        selected, waits = self.orders.chosen(request, params, needed=True), patience(params)
        order = self.orders.begin(request, params, may_end=True)
        params.end()
        return self.orders.each(order, waits, selected, orders.start)

    def stop(self, request: Request, params: Parameters) -> object:
        """Stop them."""
        selected, waits = self.orders.chosen(request, params, needed=True), patience(params)
        order = self.orders.begin(request, params, may_end=True)
        params.end()
        return self.orders.each(order, waits, selected, orders.stop)

    def resume(self, request: Request, params: Parameters) -> object:
        """Drop overrides: the spec alone counts again."""
        selected, waits = self.orders.chosen(request, params, needed=True), patience(params)
        order = self.orders.begin(request, params)
        params.end()
        return self.orders.each(order, waits, selected, orders.resume)

    def restart(self, request: Request, params: Parameters) -> object:
        """Replace processes."""
        selected, waits = self.orders.chosen(request, params), patience(params)
        at_once, order = params.flag("at_once"), self.orders.begin(request, params)
        params.end()
        return self.orders.each(
            order, waits, selected, lambda it: orders.restart(it, at_once=at_once)
        )

    def reload(self, request: Request, params: Parameters) -> object:
        """Have processes read their configuration again."""
        selected, waits = self.orders.chosen(request, params), patience(params)
        order = self.orders.begin(request, params)
        params.end()
        return self.orders.each(order, waits, selected, orders.reload)

    def rerun(self, request: Request, params: Parameters) -> object:
        """Fire jobs once more."""
        selected, waits = self.orders.chosen(request, params, needed=True), patience(params)
        failed, said = params.flag("failed"), params.choice("overlap", ("skip", "replace"))
        params.flag("require_all")  # what runs is in the answer; who requires all decides by it
        order = self.orders.begin(request, params)
        params.end()
        overlap: Overlap | None = (
            "replace" if said == "replace" else "skip" if said == "skip" else None
        )
        return self.orders.each(
            order, waits, selected, lambda it: orders.rerun(it, failed=failed, overlap=overlap)
        )

    def scale(self, request: Request, params: Parameters) -> object:
        """Set numbers of processes."""
        numbers, waits = params.number_map("scale", 0, MAX_NUMPROCESSES), patience(params)
        order = self.orders.begin(request, params, may_end=True)
        params.end()
        if order.length_ns is not None and None in numbers.values():
            msg = "for_ns: what follows its spec again does so for good"
            raise RequestError(code="invalid_request", message=msg, hint="leave for_ns out")
        found: dict[str, int | None] = {}
        slots: dict[str, tuple[int, ...] | None] = {}
        for written, number in numbers.items():
            selected = select(self.core, Wanted((written,)))
            for name in selected.slots:
                if found.setdefault(name, number) != number:
                    message = f"scale: {name} is to have {found[name]} and {number} processes"
                    raise RequestError(code="invalid_request", message=message)
            slots |= selected.slots
        self.orders.check(request, slots)
        # A number is for each watcher that is meant, named or not: there is nothing to consent to.
        selected = Selected(slots, frozenset(slots))
        return self.orders.each(order, waits, selected, lambda it: orders.scale(it, found[it.name]))

    def signal(self, request: Request, params: Parameters) -> object:
        """Send a signal, and answer when it was sent: before that nothing is certain, and nothing is stored."""
        selected = self.orders.chosen(request, params, needed=True)
        written, order = params.text("signal"), self.orders.begin(request, params)
        timeout_ns = params.number("timeout_ns", 0, MAX_TIMEOUT_NS)
        reach = params.choice("reach", ("process", "children", "tree")) or "process"
        params.end()
        try:
            word = parse_signal(written)
        except ValueError as error:
            raise RequestError(
                code="invalid_request", message=f"signal: {error}, found {written!r}"
            ) from None
        at_ns = clock.now_ns()
        sent: set[tuple[str, int]] = set()
        for name, slots in selected.slots.items():
            it = self.orders.subject(order, name, slots, by_name=name in selected.by_name)
            decision = orders.signal(it, word, at_ns, cast("Reach", reach))
            self.orders.carry_out(order, it, decision)
            sent |= {(name, slot) for slot in it.running}
        if not sent:
            return {"results": order.results}
        self.waiters.until_sent(
            request,
            order.results,
            at_ns,
            sent,
            SENT_WITHIN_NS if timeout_ns is None else timeout_ns,
        )
        return LATER
