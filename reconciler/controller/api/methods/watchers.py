"""Methods by which an operator says what shall be of watchers: each word is stored before it counts, and told.

What an order does in which state is decided in `core.orders`, and when it is done in `core.goals`. Nothing is
refused because something else is under way: the core works off what is wanted in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from reconciler.controller.api.lines import Piece, WorkLine
from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Selected, Wanted, labels_of, select, wanted
from reconciler.controller.api.waiters import SignalWaiter, Waiters
from reconciler.controller.runtime import clock
from reconciler.controller.state.records import (
    Answered,
    GenerationWritten,
    IntentWritten,
    OrderWritten,
)
from reconciler.controller.state.saving import Saving
from reconciler.core import intents, orders
from reconciler.core.orders import Subject
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError
from reconciler.model.intent import RequestedBy
from reconciler.model.observation import IntentChanged, JobChanged, Observation
from reconciler.model.order import Decision, Goal
from reconciler.model.process import ProcessId, Running, pid_of
from reconciler.model.units import SECOND_NS, format_few, parse_signal
from reconciler.model.value import Part, field, from_plain, replace, to_plain
from reconciler.wire import methods

SENT_WITHIN_NS: Final = 25 * SECOND_NS
"""How long a signal may wait for its hook unless the request says otherwise; clients wait 30 s for an answer."""


class Order(Part):
    """What one request changes: entries to store with the events that follow, and what is answered."""

    request: Request
    length_ns: int | None = None
    """How long it shall count; None: until it is taken back."""
    results: list[dict[str, object]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)
    """What was decided, by watcher."""
    signalled: set[tuple[str, int]] = field(default_factory=set)
    """Of a signal: the slots that get it."""

    def take(self, it: Subject, decision: Decision) -> None:
        """Take what was decided for a watcher."""
        more: dict[str, object] = {"taken": decision.taken}
        if decision.goal is not None:
            more["goal"] = to_plain(decision.goal)
            self.goals.append(decision.goal)
        if decision.fired or decision.running:
            known = it.observed.job.generation
            newest = decision.generation or known
            more |= {
                "generation": newest.number if newest is not None else 0,
                "fired": decision.fired,
                "queued": decision.queued,
                "running": [_running(it, slot) for slot in decision.running],
            }
        self.results.append({"name": it.name, "message": decision.message, **more})
        self.decisions.append((it.name, decision))

    def entries(self) -> Iterator[IntentWritten | GenerationWritten]:
        """Yield what is to be stored."""
        for name, decision in self.decisions:
            if decision.intent is not None:
                yield IntentWritten(name, decision.intent)
            if decision.generation is not None:
                yield GenerationWritten(name, decision.generation)


class WatcherMethods(Part):
    """`start`, `stop` and the like.

    What a request means for many watchers is decided over as many turns as it takes, stored as a whole, and then
    carried out over many turns: what others see of it then has happened.
    """

    core: Reconciler
    saving: Saving
    waiters: Waiters
    feed: Callable[[Observation], None]
    is_core_behind: Callable[[], bool]
    """What is fed now has to wait for a later round than the next one."""
    deciding: WorkLine
    carrying_out: WorkLine

    def start(self, request: Request, asked: methods.ForSomeTime) -> None:
        """Start watchers, slots or jobs, and first what these require and nobody has started."""
        selected = self._chosen(request, asked, needed=True)
        first = dict.fromkeys(self.core.to_start_first(selected.slots))
        selected = self._with(
            request, selected, {n: None for n in first if n not in selected.slots}
        )
        started = selected.slots.keys()

        def decide(it: Subject) -> Decision:
            awaits = self.core.why_stuck(it.name, but=started)
            return orders.start(replace(it, awaits=awaits))

        self._each(request, asked, selected, decide, asked.for_ns)

    def stop(self, request: Request, asked: methods.Stop) -> None:
        """Stop them, and what depends on them where that is asked for; else name it."""
        selected = self._chosen(request, asked, needed=True)
        graph = self.core.graph
        if asked.with_dependents:
            others = self._running(graph.all_dependents(selected.slots))
            selected = self._with(request, selected, dict.fromkeys(others))

        def decide(it: Subject) -> Decision:
            left = [n for n in graph.dependents.get(it.name, ()) if n not in selected.slots]
            return orders.stop(replace(it, dependents=self._running(left)))

        self._each(request, asked, selected, decide, asked.for_ns)

    def resume(self, request: Request, asked: methods.OrderOfSelected) -> None:
        """Drop overrides: the spec alone counts again."""
        selected = self._chosen(request, asked, needed=True)
        self._each(request, asked, selected, orders.resume)

    def restart(self, request: Request, asked: methods.Restart) -> None:
        """Replace processes."""
        decide = partial(orders.restart, at_once=asked.at_once)
        self._each(request, asked, self._chosen(request, asked), decide)

    def reload(self, request: Request, asked: methods.OrderOfSelected) -> None:
        """Have processes read their configuration again."""
        selected = self._chosen(request, asked)
        self._each(request, asked, selected, orders.reload)

    def rerun(self, request: Request, asked: methods.Rerun) -> None:
        """Fire jobs once more."""
        selected = self._chosen(request, asked, needed=True)
        decide = partial(orders.rerun, failed=asked.failed, overlap=asked.overlap)
        self._each(request, asked, selected, decide)

    def scale(self, request: Request, asked: methods.Scale) -> None:
        """Set numbers of processes."""
        if asked.for_ns is not None and None in asked.scale.values():
            msg = "for_ns: what follows its spec again does so for good"
            raise RequestError(code="invalid_request", message=msg, hint="leave for_ns out")
        if not (asked.scale or asked.by):
            raise RequestError(
                code="invalid_request", message="scale: say which watchers are meant"
            )
        numbers: list[tuple[str, tuple[Callable[..., Decision], int | None]]]
        numbers = [(written, (orders.scale, number)) for written, number in asked.scale.items()]
        numbers += [(written, (orders.scale_by, more)) for written, more in asked.by.items()]
        found: dict[str, tuple[Callable[..., Decision], int | None]] = {}
        slots: dict[str, tuple[int, ...] | None] = {}
        for written, wanted_number in numbers:
            selected = select(self.core, Wanted((written,)))
            for name in selected.slots:
                if found.setdefault(name, wanted_number) != wanted_number:
                    message = (
                        f"scale: two numbers for {name}, {found[name][1]} and {wanted_number[1]}"
                    )
                    raise RequestError(code="invalid_request", message=message)
            slots |= selected.slots
        self._check(request, slots)
        # A number is for each watcher that is meant, named or not: there is nothing to consent to.
        selected = Selected(slots, frozenset(slots))

        def decide(it: Subject) -> Decision:
            order, number = found[it.name]
            return order(it, number)

        self._each(request, asked, selected, decide, asked.for_ns)

    def signal(self, request: Request, asked: methods.SendSignal) -> None:
        """Send a signal, and answer when it was sent: before that nothing is certain, and nothing is stored."""
        selected = self._chosen(request, asked, needed=True)
        try:
            word = parse_signal(asked.signal)
        except ValueError as error:
            message = f"signal: {error}, found {asked.signal!r}"
            raise RequestError(code="invalid_request", message=message) from None
        order, at_ns = Order(request), clock.now_ns()

        def decide(it: Subject) -> Decision:
            order.signalled.update((it.name, slot) for slot in it.running)
            return orders.signal(it, word, at_ns, asked.reach)

        def decided() -> None:
            if order.signalled:
                within_ns = SENT_WITHIN_NS if asked.timeout_ns is None else asked.timeout_ns
                self.waiters.begin(
                    SignalWaiter(request, order.results, within_ns, at_ns, order.signalled)
                )
            self.carrying_out.add(request, self._carry_out(order), sent)

        def sent() -> None:
            if not order.signalled:
                request.reply({"results": order.results})

        self.deciding.add(request, self._decide(order, selected, decide), decided)

    # ---- carrying out ----

    def _chosen(
        self, request: Request, asked: methods.Selects, *, needed: bool = False
    ) -> Selected:
        """Return what a request means; all of it must be the caller's to operate."""
        selected = select(self.core, wanted(asked), needed=needed)
        self._check(request, selected.slots)
        return selected

    def _with(self, request: Request, selected: Selected, others: Mapping[str, None]) -> Selected:
        """Return a selection with other watchers before it, as if they were named; the caller must be allowed them."""
        self._check(request, others)
        names = selected.by_name | others.keys()
        return Selected({**others, **selected.slots}, frozenset(names))

    def _running(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return which of some watchers have a process, in the order of their names."""
        return tuple(
            name
            for name in sorted(names)
            if name in self.core.spec.watchers and self.core.observed(name).live
        )

    def _check(self, request: Request, names: Iterable[str]) -> None:
        """Refuse the whole request when one of its watchers is not the caller's: nothing is done by halves."""
        shut = [name for name in names if not request.permit.covers(labels_of(self.core, name))]
        if shut:
            what = f"{request.method} {format_few(shut, 3)}"
            hint = "name only watchers with these labels, or select them with -l"
            raise request.denied(what, hint)

    def _each(
        self,
        request: Request,
        asked: methods.Waiting,
        selected: Selected,
        decide: Callable[[Subject], Decision],
        length_ns: int | None = None,
    ) -> None:
        """Decide for each watcher of a selection, carry that out, and answer.

        `length_ns` is for how long it counts; None: until it is taken back.
        """
        order = Order(request, length_ns)

        self.deciding.add(
            request, self._decide(order, selected, decide), lambda: self._store(order, asked)
        )

    def _decide(
        self, order: Order, selected: Selected, decide: Callable[[Subject], Decision]
    ) -> Iterator[Piece]:
        """Decide for each watcher of a selection."""
        for name, slots in selected.slots.items():
            it = self._subject(order, name, slots, by_name=name in selected.by_name)
            order.take(it, decide(it))
            yield None

    def answer_again(
        self, request: Request, asked: methods.Waiting, results: Sequence[Mapping[str, object]]
    ) -> None:
        """Answer an order that a former controller wrote down; nobody may have heard of that."""
        order = Order(request, results=[dict(each) for each in results])
        order.goals = [from_plain(Goal, r["goal"]) for r in order.results if "goal" in r]
        self._store(order, asked)

    def _subject(
        self, order: Order, name: str, slots: tuple[int, ...] | None, *, by_name: bool
    ) -> Subject:
        """Return all that is known of a watcher, with what is still being stored of it."""
        it = self.core.subject(name, clock.now_ns(), clock.wall_offset_ns())
        observed, by = self.saving.observed(name), self._requested_by(order)
        return replace(it, observed=observed, slots=slots, by_name=by_name, by=by)

    def _carry_out(self, order: Order) -> Iterator[Piece]:
        """Tell the core, and people, what was decided of each watcher.

        The last of it is with the core after its next round, so that whoever looks then finds what was asked for.
        """
        for name, decision in order.decisions:
            while self.is_core_behind():
                yield "later"
            order.request.tell(decision.message, name)
            for observation in decision.observations:
                self.feed(observation)
            if decision.intent is not None:
                self.feed(IntentChanged(name, decision.intent))
            if decision.generation is not None:
                # Its runs are taken as they are by now: one may have ended while this was written.
                job = self.core.observed(name).job
                self.feed(
                    JobChanged(name, replace(job, generation=decision.generation, known=True))
                )
            yield None

    # ---- writing down ----

    def _requested_by(self, order: Order) -> RequestedBy:
        """Return whose word an order is, as it is stored with it."""
        now_ns, wall_ns = clock.now_ns(), clock.wall_ns()
        until = (
            None
            if order.length_ns is None
            else intents.until(order.length_ns, self.core.facts.boot_id, now_ns, wall_ns)
        )
        return RequestedBy(order.request.who, order.request.reason, wall_ns, until)

    def _store(self, order: Order, asked: methods.Waiting) -> None:
        """Write an order down together with its answer, and carry it out when that lies on the disk.

        A controller that dies in between leaves no half of an order, and the next one knows the order
        again when its caller repeats it for want of an answer.
        """
        request, entries = order.request, tuple(order.entries())

        def carried_out() -> None:
            if asked.wait:
                self.waiters.add(request, order.results, order.goals, asked.timeout_ns)
            else:
                request.reply({"results": order.results})

        def stored() -> None:
            self.carrying_out.add(request, self._carry_out(order), carried_out)

        if not (entries or self.saving.intents or self.saving.generations):
            stored()
            return
        if entries:
            request.refuse_at_the_end()
        self.saving.accept(entries)
        answered = None
        if request.request_id is not None:
            key = request.uid, request.request_id
            answered = Answered(*key, request.method, tuple(order.results))
        # What changes nothing waits too for what was said before: it counts for whom it answers.
        self.saving.write_then(OrderWritten(entries, answered), stored, request.guard)


def _running(it: Subject, slot: int) -> dict[str, object]:
    """Return what is told of a slot that an order leaves alone because it still runs."""
    record = it.observed.records.get(ProcessId(it.name, slot))
    phase = record.phase if record is not None else None
    since = phase.started_at_ns + clock.wall_offset_ns() if isinstance(phase, Running) else None
    return {"slot": slot, "pid": pid_of(phase) if phase is not None else None, "since_ns": since}
