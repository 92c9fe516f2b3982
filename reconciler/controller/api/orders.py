"""Orders of operators: each word is stored before it counts, and told as an event.

What an order does in which state is decided in `core.orders`, and when it is done in `core.goals`. Nothing is
refused because something else is under way: the core works off what is wanted in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Selected, labels_of, select, wanted
from reconciler.controller.api.waiters import Waiters
from reconciler.controller.runtime import clock
from reconciler.controller.state.records import (
    Answered,
    GenerationWritten,
    IntentWritten,
    OrderWritten,
)
from reconciler.controller.state.saving import Saving
from reconciler.core import intents
from reconciler.core.orders import Subject
from reconciler.core.reconciler import Reconciler
from reconciler.model.event import Event
from reconciler.model.intent import Intent, RequestedBy
from reconciler.model.job import Generation
from reconciler.model.observation import IntentChanged, JobChanged, Observation
from reconciler.model.order import Decision, Goal
from reconciler.model.process import ProcessId, Running, pid_of
from reconciler.model.units import format_few
from reconciler.model.value import Part, field, from_plain, replace, to_plain
from reconciler.wire.methods import Selects, Waiting


def event_of(
    request: Request, reason: str, message: str, watcher: str = "", **details: object
) -> Event:
    """Return what is told of an order: who did what, why, and what comes of it."""
    name = request.who
    why = f' ("{reason}")' if reason else ""
    text = f"{request.method} by {name}{why}: {message}"
    details |= {"who": name, "uid": request.uid, "pid": request.pid, "reason": reason}
    return Event(f"operator.{request.method}", text, watcher, details=details)


class Order(Part):
    """What one request changes: entries to store with the events that follow, and what is answered."""

    request: Request
    reason: str
    length_ns: int | None = None
    """How long it shall count; None: until it is taken back."""
    results: list[dict[str, object]] = field(default_factory=list)
    entries: list[IntentWritten | GenerationWritten] = field(default_factory=list)
    when_written: list[Callable[[], None]] = field(default_factory=list)


class Orders(Part):
    """Carries orders out."""

    core: Reconciler
    saving: Saving
    waiters: Waiters
    feed: Callable[[Observation], None]
    tell: Callable[[Event], None]

    def chosen(self, request: Request, asked: Selects, *, needed: bool = False) -> Selected:
        """Return what a request means; all of it must be the caller's to operate."""
        selected = select(self.core, wanted(asked), needed=needed)
        self.check(request, selected.slots)
        return selected

    def check(self, request: Request, names: Iterable[str]) -> None:
        """Refuse the whole request when one of its watchers is not the caller's: nothing is done by halves."""
        shut = [name for name in names if not request.permit.covers(labels_of(self.core, name))]
        if shut:
            what = f"{request.method} {format_few(shut, 3)}"
            hint = "name only watchers with these labels, or select them with -l"
            raise request.denied(what, hint)

    def each(
        self,
        request: Request,
        asked: Waiting,
        selected: Selected,
        decide: Callable[[Subject], Decision],
        length_ns: int | None = None,
    ) -> None:
        """Decide for each watcher of a selection, carry that out, and answer.

        `length_ns` is for how long it counts; None: until it is taken back.
        """
        order, goals = Order(request, asked.reason, length_ns), list[Goal]()
        for name, slots in selected.slots.items():
            it = self.subject(order, name, slots, by_name=name in selected.by_name)
            decision = decide(it)
            self.carry_out(order, it, decision)
            if decision.goal is not None:
                goals.append(decision.goal)
        return self._answer(order, asked, goals)

    def answer_again(
        self, request: Request, asked: Waiting, results: Sequence[Mapping[str, object]]
    ) -> None:
        """Answer an order that a former controller wrote down; nobody may have heard of that."""
        order = Order(request, "", results=[dict(each) for each in results])
        goals: list[Goal] = [from_plain(Goal, r["goal"]) for r in order.results if "goal" in r]
        self._answer(order, asked, goals)

    def subject(
        self, order: Order, name: str, slots: tuple[int, ...] | None, *, by_name: bool
    ) -> Subject:
        """Return all that is known of a watcher, with what is still being stored of it."""
        it = self.core.subject(name, clock.now_ns(), clock.wall_offset_ns())
        observed, by = self.saving.observed(name), self._requested_by(order)
        return replace(it, observed=observed, slots=slots, by_name=by_name, by=by)

    def carry_out(self, order: Order, it: Subject, decision: Decision) -> None:
        """Write down what a decision changes, tell the core of it, and say it."""
        if decision.intent is not None:
            self._intend(order, it.name, decision.intent)
        if decision.generation is not None:
            self._generate(order, it.name, decision.generation)
        for observation in decision.observations:
            self.feed(observation)
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
        order.results.append({"name": it.name, "message": decision.message, **more})
        self.tell(event_of(order.request, order.reason, decision.message, it.name))

    # ---- writing down ----

    def _requested_by(self, order: Order) -> RequestedBy:
        """Return whose word an order is, as it is stored with it."""
        now_ns, wall_ns = clock.now_ns(), clock.wall_ns()
        until = (
            None
            if order.length_ns is None
            else intents.until(order.length_ns, self.core.facts.boot_id, now_ns, wall_ns)
        )
        return RequestedBy(order.request.who, order.reason, wall_ns, until)

    def _intend(self, order: Order, name: str, intent: Intent) -> None:
        """Store an operator's word about a watcher, then put it before the core."""
        self.saving.intents[name] = intent
        order.entries.append(IntentWritten(name, intent))
        order.when_written.append(lambda: self.feed(IntentChanged(name, intent)))

    def _generate(self, order: Order, name: str, generation: Generation) -> None:
        """Store a new generation of a job, then put it before the core."""
        self.saving.generations[name] = generation

        def written() -> None:
            # Its runs are taken as they are by now: one may have ended while this was written.
            job = replace(self.core.observed(name).job, generation=generation, known=True)
            self.feed(JobChanged(name, job))

        order.entries.append(GenerationWritten(name, generation))
        order.when_written.append(written)

    def _answer(self, order: Order, asked: Waiting, goals: Sequence[Goal]) -> None:
        """Write an order down together with its answer, and answer when that lies on the disk, or when it is done.

        A controller that dies in between leaves no half of an order, and the next one knows the order
        again when its caller repeats it for want of an answer.
        """
        request = order.request

        def stored() -> None:
            for each in order.when_written:
                each()
            if asked.wait:
                self.waiters.add(request, order.results, goals, asked.timeout_ns)
            else:
                request.reply({"results": order.results})

        if not (order.entries or self.saving.intents or self.saving.generations):
            stored()
            return
        answered = None
        if request.request_id is not None:
            key = request.uid, request.request_id
            answered = Answered(*key, request.method, tuple(order.results))
        # What changes nothing waits too for what was said before: it counts for whom it answers.
        entry = OrderWritten(tuple(order.entries), answered)
        self.saving.write_then(entry, stored, request.guard)


def _running(it: Subject, slot: int) -> dict[str, object]:
    """Return what is told of a slot that an order leaves alone because it still runs."""
    record = it.observed.records.get(ProcessId(it.name, slot))
    phase = record.phase if record is not None else None
    since = phase.started_at_ns + clock.wall_offset_ns() if isinstance(phase, Running) else None
    return {"slot": slot, "pid": pid_of(phase) if phase is not None else None, "since_ns": since}
