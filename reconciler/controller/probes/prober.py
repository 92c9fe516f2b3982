"""Who is asked, and when.

A probe waits for its instant, is under way until its answer or its timeout, and waits again, an interval after it was
last due. At most `MAX_UNDER_WAY` are at once: what comes beyond waits for one of them, which takes no longer than its
timeout. A turn ends after a moment; others of the loop have theirs before it goes on.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.probes.exchange import Address, Exchange
from reconciler.controller.probes.http import Outcome
from reconciler.controller.probes.log_lines import LogLines
from reconciler.controller.probes.names import Names, numbers_of
from reconciler.controller.probes.tally import Tally
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border, Log
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.core.wakes import Wakes
from reconciler.model.action import Probe
from reconciler.model.observation import Observation
from reconciler.model.probe import LogTarget, UnixTarget
from reconciler.model.process import ProcessId
from reconciler.model.units import MILLISECOND_NS

MAX_UNDER_WAY: Final = 128
"""Connections at once."""
TURN_NS: Final = 2 * MILLISECOND_NS
"""How long others of the loop wait at most for what is done here in one go."""
EVENTS_PER_LOOK: Final = 64


class _Asked:
    """One probe: what is asked, what its answers come to, and the question that is under way."""

    __slots__ = ("addresses", "due_ns", "exchange", "is_under_way", "probe", "tally")

    def __init__(self, probe: Probe, now_ns: int) -> None:
        self.probe = probe
        self.tally = Tally(probe)
        self.due_ns = max(probe.probing.begin_ns, now_ns)
        self.is_under_way = False
        self.exchange: Exchange | None = None
        self.addresses: list[Address] = []
        """Where it is, if that needs nobody to be asked for."""
        target = probe.probing.target
        assert not isinstance(target, LogTarget)
        if isinstance(target, UnixTarget):
            self.addresses = [(socket.AF_UNIX, target.path)]
        else:
            self.addresses = numbers_of(target.host, target.port)


class Prober:
    """Asks all that the core wants to have asked."""

    def __init__(
        self,
        reactor: Reactor,
        lanes: Lanes,
        border: Border,
        log: Log,
        feed: Callable[[Observation], None],
    ) -> None:
        self._reactor = reactor
        self._border = border
        self._feed = feed
        self._names = Names(lanes)
        self._log_lines = LogLines(reactor, log, feed)
        self._asked: dict[str, _Asked] = {}
        self._wakes: Wakes[str] = Wakes()
        """When each is due: to be asked, or to have answered."""
        self._waiting: deque[_Asked] = deque()
        """Those that are due while enough others are under way."""
        self._under_way = 0
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, _Asked] = {}
        reactor.watch(self._epoll, READ, lambda _: self._look())

    def ask(self, probe: Probe) -> None:
        """Ask this from now on, in place of what was asked under its name."""
        self.drop(probe.id)
        if isinstance(probe.probing.target, LogTarget):
            self._log_lines.ask(probe)
            return
        asked = self._asked[str(probe.id)] = _Asked(probe, clock.now_ns())
        self._wake(asked, asked.due_ns)
        self._set_alarm()

    def drop(self, id: ProcessId) -> None:
        """Ask this no more."""
        self._log_lines.drop(id)
        asked = self._asked.pop(str(id), None)
        if asked is not None:
            self._wakes.put(str(id), None)
            self._end(asked)

    # ---- in the loop ----

    def _go_on(self) -> None:
        """Ask whatever is due, and give up what has taken too long; the rest in the next turn."""
        now_ns = clock.now_ns()
        until_ns = now_ns + TURN_NS
        for key in self._wakes.due(now_ns):
            asked = self._asked[key]
            if asked.is_under_way:
                self._guard(asked, partial(self._give_up, asked))
            elif self._under_way < MAX_UNDER_WAY:
                self._guard(asked, partial(self._begin, asked))
            else:
                self._waiting.append(asked)
            if clock.now_ns() >= until_ns:
                break
        self._begin_waiting(until_ns)
        self._set_alarm()

    def _look(self) -> None:
        """Go on with connections that are ready."""
        for descriptor, _ in self._epoll.poll(0, EVENTS_PER_LOOK):
            asked = self._by_descriptor.get(descriptor)
            if asked is not None:
                self._guard(asked, partial(self._step, asked))
        if self._waiting:
            self._begin_waiting(clock.now_ns() + TURN_NS)
        self._set_alarm()

    def _begin_waiting(self, until_ns: int) -> None:
        while self._waiting and self._under_way < MAX_UNDER_WAY and clock.now_ns() < until_ns:
            asked = self._waiting.popleft()
            if self._asked.get(str(asked.probe.id)) is asked:
                self._guard(asked, partial(self._begin, asked))

    def _set_alarm(self) -> None:
        due_ns = self._wakes.next_ns()
        if self._waiting and self._under_way < MAX_UNDER_WAY:
            due_ns = clock.now_ns()
        self._reactor.at(self, due_ns, self._go_on)

    def _guard(self, asked: _Asked, call: Callable[[], None]) -> None:
        """Have something done for one probe; what nobody expected says nothing of the process, and is asked again."""
        if not self._border.guard(f"probing {asked.probe.id}", call):
            self._end(asked)
            self._again(asked)

    # ---- one probe ----

    def _begin(self, asked: _Asked) -> None:
        """Ask; the time counts from now, also where a name is looked up first."""
        probing = asked.probe.probing
        asked.is_under_way = True
        self._under_way += 1
        self._wake(asked, clock.now_ns() + probing.timeout_ns)
        target = probing.target
        assert not isinstance(target, LogTarget)
        if asked.addresses or isinstance(target, UnixTarget):
            self._connect(asked, asked.addresses)
        else:
            self._names.find(target.host, target.port, partial(self._named, asked, asked.due_ns))

    def _named(self, asked: _Asked, due_ns: int, addresses: list[Address], cause: str) -> None:
        """Go on with a name that was looked up, unless that took too long."""
        if not asked.is_under_way or asked.due_ns != due_ns or asked.exchange is not None:
            return
        if addresses:
            self._guard(asked, partial(self._connect, asked, addresses))
        else:
            self._answered(asked, Outcome(False, f"{asked.probe.probing.target}: {cause}"))
        self._set_alarm()

    def _connect(self, asked: _Asked, addresses: list[Address]) -> None:
        asked.exchange = exchange = Exchange(asked.probe.probing.target, addresses)
        outcome = exchange.begin()
        self._follow(asked, exchange, outcome)

    def _step(self, asked: _Asked) -> None:
        exchange = asked.exchange
        assert exchange is not None
        assert exchange.socket is not None
        before, descriptor, wanted = exchange.socket, exchange.socket.fileno(), exchange.wants
        outcome = exchange.go_on()
        if outcome is None and exchange.socket is before:
            if exchange.wants != wanted:
                self._epoll.modify(descriptor, exchange.wants)
            return
        del self._by_descriptor[descriptor]  # another address may have come by the same number
        self._follow(asked, exchange, outcome)

    def _follow(self, asked: _Asked, exchange: Exchange, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._answered(asked, outcome)
            return
        assert exchange.socket is not None
        descriptor = exchange.socket.fileno()
        self._by_descriptor[descriptor] = asked
        self._epoll.register(descriptor, exchange.wants)

    def _give_up(self, asked: _Asked) -> None:
        probing, exchange = asked.probe.probing, asked.exchange
        if exchange is not None:
            outcome = exchange.at_timeout(probing.timeout_ns)
        else:
            outcome = Outcome(False, f"{probing.target}: its name was not found in time")
        self._answered(asked, outcome)

    def _answered(self, asked: _Asked, outcome: Outcome) -> None:
        self._end(asked)
        told = asked.tally.take(outcome, clock.now_ns())
        if told is not None:
            self._feed(told)
        self._again(asked)

    def _again(self, asked: _Asked) -> None:
        """Ask again an interval after it was last due; what was left out meanwhile is not made up for."""
        if self._asked.get(str(asked.probe.id)) is not asked:
            return
        interval_ns, now_ns = asked.probe.probing.interval_ns, clock.now_ns()
        missed = max(now_ns - asked.due_ns, 0) // interval_ns
        asked.due_ns += (missed + 1) * interval_ns
        self._wake(asked, asked.due_ns)

    def _end(self, asked: _Asked) -> None:
        """Let go of what is under way."""
        if not asked.is_under_way:
            return
        asked.is_under_way = False
        self._under_way -= 1
        exchange, asked.exchange = asked.exchange, None
        if exchange is not None and exchange.socket is not None:
            self._by_descriptor.pop(exchange.socket.fileno(), None)
            exchange.close()  # epoll lets go of what is closed

    def _wake(self, asked: _Asked, at_ns: int) -> None:
        self._wakes.put(str(asked.probe.id), at_ns)
