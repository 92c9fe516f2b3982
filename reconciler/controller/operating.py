"""Methods by which an operator says what shall be: each word is stored before it counts, and told as news.

What an order does in which state is decided in `core.orders`, and when it is done in `core.goals`. Nothing is
refused because something else is under way: the core works off what is wanted in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from reconciler.controller import clock
from reconciler.controller.entries import (
    Answered,
    GenerationWritten,
    IntentWritten,
    OrderWritten,
)
from reconciler.controller.exchange import LATER, Exchange, Later, Method
from reconciler.controller.selection import Selected, Wanted, labels_of, select, wanted
from reconciler.core import intents, orders
from reconciler.model.errors import RequestError
from reconciler.model.event import IntentChanged, JobChanged
from reconciler.model.intent import Voice
from reconciler.model.news import News
from reconciler.model.order import Goal
from reconciler.model.process import ProcessId, Running, pid_of
from reconciler.model.spec import MAX_NUMPROCESSES
from reconciler.model.units import DAY_NS, SECOND_NS, format_few, parse_signal
from reconciler.model.value import Struct, from_plain, replace, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reconciler.controller.parameters import Parameters
    from reconciler.core.generations import Overlap
    from reconciler.core.orders import Subject
    from reconciler.model.intent import Intent
    from reconciler.model.job import Generation
    from reconciler.model.order import Decision
    from reconciler.model.process import Reach

MAX_TIMEOUT_NS: Final = 10 * DAY_NS
MAX_LENGTH_NS: Final = 366 * DAY_NS
"""Longest time for which a word may count; what shall count for longer counts until it is taken back."""
SENT_WITHIN_NS: Final = 25 * SECOND_NS
"""How long a signal may wait for its hook unless the request says otherwise; clients wait 30 s for an answer."""
MAX_REASON: Final = 256
"""Characters: it stands in status, events and the store."""


@dataclass(slots=True)
class Order:
    """What one request changes: entries to store with the events that follow, and what is answered."""

    exchange: Exchange
    reason: str
    length_ns: int | None = None
    """How long it shall count; None: until it is taken back."""
    results: list[dict[str, object]] = field(default_factory=list)
    _entries: list[IntentWritten | GenerationWritten] = field(default_factory=list)
    _when_written: list[Callable[[], None]] = field(default_factory=list)

    def say(self, name: str, message: str, **more: object) -> None:
        """Add to the answer, and tell it to those who follow events."""
        self.results.append({"name": name, "message": message, **more})
        self.exchange.controller.tell(self.news(message, name))

    def news(self, message: str, watcher: str = "", **details: object) -> News:
        """Return what is told of this: who did what, why, and what comes of it."""
        exchange, name = self.exchange, self.exchange.who
        why = f' ("{self.reason}")' if self.reason else ""
        text = f"{exchange.method} by {name}{why}: {message}"
        details |= {"who": name, "uid": exchange.uid, "pid": exchange.pid, "reason": self.reason}
        return News(f"operator.{exchange.method}", text, watcher, details=details)

    @property
    def voice(self) -> Voice:
        """Return whose word this is, as it is stored with it."""
        now_ns, wall_ns = clock.now_ns(), clock.wall_ns()
        boot_id = self.exchange.controller.reconciler.facts.boot_id
        until = (
            None
            if self.length_ns is None
            else intents.until(self.length_ns, boot_id, now_ns, wall_ns)
        )
        return Voice(self.exchange.who, self.reason, wall_ns, until)

    def intend(self, name: str, intent: Intent) -> None:
        """Store an operator's word about a watcher, then put it before the core."""
        controller = self.exchange.controller
        controller.pending_intents[name] = intent
        self._entries.append(IntentWritten(name, intent))
        self._when_written.append(lambda: controller.feed(IntentChanged(name, intent)))

    def generation(self, name: str, generation: Generation) -> None:
        """Store a new generation of a job, then put it before the core."""
        controller = self.exchange.controller
        controller.pending_generations[name] = generation

        def written() -> None:
            # Its runs are taken as they are by now: one may have ended while this was written.
            job = replace(
                controller.reconciler.observed(name).job, generation=generation, known=True
            )
            controller.feed(JobChanged(name, job))

        self._entries.append(GenerationWritten(name, generation))
        self._when_written.append(written)

    def then(self, done: Callable[[], None]) -> Later:
        """Write it all down together, with its answer, and go on when that lies on the disk.

        A controller that dies in between leaves no half of an order, and the next one knows the order
        again when its caller repeats it for want of an answer.
        """
        exchange = self.exchange

        def written() -> None:
            for each in self._when_written:
                each()
            done()

        controller = exchange.controller
        if not (self._entries or controller.pending_intents or controller.pending_generations):
            done()
            return LATER
        answered = None
        if exchange.request_id is not None:
            key = exchange.uid, exchange.request_id
            answered = Answered(*key, exchange.method, tuple(self.results))
        # What changes nothing waits too for what was said before: it counts for whom it answers.
        entry = OrderWritten(tuple(self._entries), answered)
        controller.write_then(entry, written, exchange.guard)
        return LATER


def answer_again(
    exchange: Exchange, params: Parameters, results: Sequence[Mapping[str, object]]
) -> None:
    """Answer an order that a former controller wrote down; nobody may have heard of that."""
    order = Order(exchange, "", results=[dict(each) for each in results])
    goals: list[Goal] = [from_plain(Goal, each["goal"]) for each in order.results if "goal" in each]
    _answer(order, patience(params), goals)


def ordered(exchange: Exchange, params: Parameters, *, may_end: bool = False) -> Order:
    """Take `reason` out of a request's parameters, and `for_ns` where what is said `may_end` by itself."""
    reason = params.text("reason", MAX_REASON) or ""
    length_ns = params.number("for_ns", 1, MAX_LENGTH_NS) if may_end else None
    return Order(exchange, reason, length_ns)


class Patience(Struct, frozen=True):
    """Whether and how long a request waits until what was asked for is done."""

    wait: bool
    timeout_ns: int | None


def patience(params: Parameters) -> Patience:
    """Take `wait` and `timeout_ns` out of a request's parameters."""
    return Patience(params.flag("wait"), params.number("timeout_ns", 0, MAX_TIMEOUT_NS))


def _answer(order: Order, waits: Patience, goals: Sequence[Goal]) -> Later:
    """Answer when all is stored, or when it is done."""

    def stored() -> None:
        if not waits.wait:
            order.exchange.reply({"results": order.results})
            return
        waiters = order.exchange.controller.server.waiters
        waiters.add(order.exchange, order.results, goals, waits.timeout_ns)

    return order.then(stored)


# ---- carrying out ---------------------------------------------------------------------------------


def _each(
    order: Order, waits: Patience, selected: Selected, decide: Callable[[Subject], Decision]
) -> Later:
    """Decide for each watcher of a selection, carry that out, and answer."""
    goals: list[Goal] = []
    for name, slots in selected.slots.items():
        it = _subject(order, name, slots, by_name=name in selected.by_name)
        decision = decide(it)
        _carry_out(order, it, decision)
        if decision.goal is not None:
            goals.append(decision.goal)
    return _answer(order, waits, goals)


def _subject(order: Order, name: str, slots: tuple[int, ...] | None, *, by_name: bool) -> Subject:
    """Return all that is known of a watcher, with what is still being stored of it."""
    controller = order.exchange.controller
    it = controller.reconciler.subject(name, clock.now_ns(), clock.wall_offset_ns())
    observed = controller.observed(name)
    return replace(it, observed=observed, slots=slots, by_name=by_name, voice=order.voice)


def _carry_out(order: Order, it: Subject, decision: Decision) -> None:
    """Write down what a decision changes, tell the core of it, and say it."""
    if decision.intent is not None:
        order.intend(it.name, decision.intent)
    if decision.generation is not None:
        order.generation(it.name, decision.generation)
    for event in decision.events:
        order.exchange.controller.feed(event)
    more: dict[str, object] = {"taken": decision.taken}
    if decision.goal is not None:
        more["goal"] = to_plain(decision.goal)
    if decision.fired or decision.running:
        known = it.observed.job.generation
        newest = decision.generation or known
        more |= {
            "generation": newest.number if newest is not None else 0,
            "fired": decision.fired,
            "running": [_running(it, slot) for slot in decision.running],
        }
    order.say(it.name, decision.message, **more)


def _running(it: Subject, slot: int) -> dict[str, object]:
    """Return what is told of a slot that an order leaves alone because it still runs."""
    record = it.observed.records.get(ProcessId(it.name, slot))
    phase = record.phase if record is not None else None
    since = phase.started_at_ns + clock.wall_offset_ns() if isinstance(phase, Running) else None
    return {"slot": slot, "pid": pid_of(phase) if phase is not None else None, "since_ns": since}


# ---- the methods ----------------------------------------------------------------------------------


def _start(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    return _each(order, waits, selected, orders.start)


def _stop(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    return _each(order, waits, selected, orders.stop)


def _resume(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params)
    params.end()
    return _each(order, waits, selected, orders.resume)


def _restart(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params), patience(params)
    at_once, order = params.flag("at_once"), ordered(exchange, params)
    params.end()
    return _each(order, waits, selected, lambda it: orders.restart(it, at_once=at_once))


def _reload(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params), patience(params)
    order = ordered(exchange, params)
    params.end()
    return _each(order, waits, selected, orders.reload)


def _rerun(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    failed, said = params.flag("failed"), params.choice("overlap", ("skip", "replace"))
    params.flag("require_all")  # what runs is in the answer; who requires all decides by it
    order = ordered(exchange, params)
    params.end()
    overlap: Overlap | None = "replace" if said == "replace" else "skip" if said == "skip" else None
    return _each(
        order, waits, selected, lambda it: orders.rerun(it, failed=failed, overlap=overlap)
    )


def _scale(exchange: Exchange, params: Parameters) -> object:
    numbers, waits = params.number_map("scale", 0, MAX_NUMPROCESSES), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    if order.length_ns is not None and None in numbers.values():
        msg = "for_ns: what follows its spec again does so for good"
        raise RequestError(code="invalid_request", message=msg, hint="leave for_ns out")
    found: dict[str, int | None] = {}
    slots: dict[str, tuple[int, ...] | None] = {}
    for written, number in numbers.items():
        selected = select(exchange.controller, Wanted((written,)))
        for name in selected.slots:
            if found.setdefault(name, number) != number:
                message = f"scale: {name} is to have {found[name]} and {number} processes"
                raise RequestError(code="invalid_request", message=message)
        slots |= selected.slots
    _may_operate(exchange, slots)
    # A number is for each watcher that is meant, named or not: there is nothing to consent to.
    selected = Selected(slots, frozenset(slots))
    return _each(order, waits, selected, lambda it: orders.scale(it, found[it.name]))


def _signal(exchange: Exchange, params: Parameters) -> object:
    """Send a signal, and answer when it was sent: before that nothing is certain, and nothing is stored."""
    selected = chosen(exchange, params, needed=True)
    written, order = params.text("signal"), ordered(exchange, params)
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
        it = _subject(order, name, slots, by_name=name in selected.by_name)
        decision = orders.signal(it, word, at_ns, cast("Reach", reach))
        _carry_out(order, it, decision)
        sent |= {(name, slot) for slot in it.running}
    if not sent:
        return {"results": order.results}
    waiters = exchange.controller.server.waiters
    waiters.until_sent(
        exchange, order.results, at_ns, sent, SENT_WITHIN_NS if timeout_ns is None else timeout_ns
    )
    return LATER


# ---- helpers --------------------------------------------------------------------------------------


def chosen(exchange: Exchange, params: Parameters, *, needed: bool = False) -> Selected:
    """Take the selection out of a request's parameters; all of it must be the caller's to operate."""
    selected = select(exchange.controller, wanted(params), needed=needed)
    _may_operate(exchange, selected.slots)
    return selected


def _may_operate(exchange: Exchange, names: Iterable[str]) -> None:
    """Refuse the whole request when one of its watchers is not the caller's: nothing is done by halves."""
    shut = [
        name for name in names if not exchange.permit.covers(labels_of(exchange.controller, name))
    ]
    if shut:
        what = f"{exchange.method} {format_few(shut, 3)}"
        raise exchange.denied(what, "name only watchers with these labels, or select them with -l")


METHODS: Final[Mapping[str, Method]] = {
    "start": Method(_start, "operate", mutates=True),
    "stop": Method(_stop, "operate", mutates=True),
    "restart": Method(_restart, "operate", mutates=True),
    "reload": Method(_reload, "operate", mutates=True),
    "signal": Method(_signal, "operate", mutates=True),
    "scale": Method(_scale, "operate", mutates=True),
    "resume": Method(_resume, "operate", mutates=True),
    "rerun": Method(_rerun, "operate", mutates=True),
}
