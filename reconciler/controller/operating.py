"""Methods by which an operator says what shall be: each word is stored before it counts, and told as news.

Nothing is refused because something else is under way: the core works off what is wanted in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.entries import (
    Answered,
    GenerationWritten,
    IntentWritten,
    OrderWritten,
)
from reconciler.controller.exchange import LATER, Exchange, Later, Method
from reconciler.controller.selection import Wanted, labels_of, select, wanted
from reconciler.controller.waiting import as_wanted, has_ended
from reconciler.core import intents, jobs, watchers
from reconciler.core.reconciler import MAX_REQUESTS
from reconciler.model.errors import RequestError
from reconciler.model.event import IntentChanged, JobChanged, ReloadAsked, RetryAsked, SignalAsked
from reconciler.model.intent import Voice
from reconciler.model.news import News
from reconciler.model.process import MAIN, Running, pid_of
from reconciler.model.spec import MAX_NUMPROCESSES, WatcherSpec
from reconciler.model.units import DAY_NS, format_duration, parse_signal
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reconciler.controller.loop import Controller
    from reconciler.controller.parameters import Parameters
    from reconciler.controller.selection import Selected
    from reconciler.model.intent import Intent
    from reconciler.model.job import Generation
    from reconciler.model.observed import WatcherObserved
    from reconciler.model.status import WatcherStatus

MAX_TIMEOUT_NS: Final = 10 * DAY_NS
MAX_LENGTH_NS: Final = 366 * DAY_NS
"""Longest time for which a word may count; what shall count for longer counts until it is taken back."""
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

        if not self._entries:
            done()
            return LATER
        answered = None
        if exchange.request_id is not None:
            key = exchange.uid, exchange.request_id
            answered = Answered(*key, exchange.method, tuple(self.results))
        exchange.controller.write_then(
            OrderWritten(tuple(self._entries), answered), written, exchange.guard
        )
        return LATER


def answer_again(
    exchange: Exchange, params: Parameters, results: Sequence[Mapping[str, object]]
) -> None:
    """Answer an order that a former controller wrote down; nobody may have heard of that."""
    order = Order(exchange, "", results=[dict(each) for each in results])
    names = {str(each["name"]) for each in results}
    is_done = has_ended if exchange.method == "rerun" else as_wanted
    _answer(order, patience(params), names, is_done)


def ordered(exchange: Exchange, params: Parameters, *, may_end: bool = False) -> Order:
    """Take `reason` out of a request's parameters, and `for_ns` where what is said `may_end` by itself."""
    reason = params.text("reason", MAX_REASON) or ""
    length_ns = params.number("for_ns", 1, MAX_LENGTH_NS) if may_end else None
    return Order(exchange, reason, length_ns)


class Patience(Struct, frozen=True):
    """Whether and how long a request waits until watchers are as wanted."""

    wait: bool
    timeout_ns: int | None


def patience(params: Parameters) -> Patience:
    """Take `wait` and `timeout_ns` out of a request's parameters."""
    return Patience(params.flag("wait"), params.number("timeout_ns", 0, MAX_TIMEOUT_NS))


def _answer(
    order: Order,
    waits: Patience,
    names: set[str],
    is_done: Callable[[WatcherStatus], bool] = as_wanted,
) -> Later:
    """Answer when all is stored, or when it has come about."""

    def stored() -> None:
        result = {"results": order.results}
        if not waits.wait:
            order.exchange.reply(result)
            return
        waiters = order.exchange.controller.server.waiters
        waiters.add(order.exchange, result, names, timeout_ns=waits.timeout_ns, is_done=is_done)

    return order.then(stored)


# ---- start, stop, restart -------------------------------------------------------------------------


def _start(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    for name, slots in selected.slots.items():
        spec, observed = _of(exchange.controller, name)
        if spec is None:
            order.say(name, "is being removed")
            continue
        if spec.is_job and _has_run(spec, observed) and name in selected.by_name:
            # Naming a finished job is the consent to fire it again; a glob is not.
            _fire_again(order, name, spec, slots, failed=False, overlap=None)
            continue
        intent = observed.intent
        said = intents.started(intent, order.voice, autostart=spec.autostart)
        is_new = said.hold != intent.hold or order.length_ns is not None
        if is_new or intent.hold_voice.until is not None:
            order.intend(name, said)
        exchange.controller.feed(RetryAsked(name))
        order.say(name, _started_message(spec, observed, is_new=is_new) + _length(order))
    return _answer(order, waits, set(selected.slots))


def _length(order: Order) -> str:
    return "" if order.length_ns is None else f", for {format_duration(order.length_ns)}"


def _started_message(spec: WatcherSpec, observed: WatcherObserved, *, is_new: bool) -> str:
    if is_new:
        return "started"
    if spec.is_job and _has_run(spec, observed):
        return "has completed, not fired again; `reconcile rerun` does that"
    return "runs already; slots that wait are tried now"


def _stop(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    _refuse_slots(selected, "stop", "scale it, or signal the slot")
    for name in selected.slots:
        _, observed = _of(exchange.controller, name)
        intent = observed.intent
        says_more = bool(order.reason) or order.length_ns is not None
        if intent.hold == "stopped" and intent.hold_voice.until is None and not says_more:
            order.say(name, f"is stopped already, by {intent.hold_voice.who}")
            continue
        running = len(_running(observed))
        order.intend(name, intents.stopped(intent, order.voice))
        what = f"stops {_processes(running)}" if running else "stopped; nothing ran"
        order.say(name, what + _length(order))
    return _answer(order, waits, set(selected.slots))


def _resume(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    order = ordered(exchange, params)
    params.end()
    _refuse_slots(selected, "resume", "what operators say by hand counts for a whole watcher")
    for name in selected.slots:
        spec, observed = _of(exchange.controller, name)
        if (observed.intent.hold, observed.intent.scale) == (None, None):
            order.say(name, "follows its spec already")
            continue
        resumed = intents.resumed(observed.intent)
        order.intend(name, resumed)
        if spec is not None:
            before, after = watchers.wanted(spec, observed.intent), watchers.wanted(spec, resumed)
            order.say(name, f"follows its spec again: {before} -> {_processes(after)}")
        else:
            order.say(name, "is being removed")
    return _answer(order, waits, set(selected.slots))


def _restart(exchange: Exchange, params: Parameters) -> object:
    selected, waits, at_once = (
        chosen(exchange, params),
        patience(params),
        params.flag("at_once"),
    )
    order = ordered(exchange, params)
    params.end()
    for name, slots in selected.slots.items():
        _restart_one(order, name, slots, at_once=at_once, by_name=name in selected.by_name)
    return _answer(order, waits, set(selected.slots))


def _restart_one(
    order: Order, name: str, slots: tuple[int, ...] | None, *, at_once: bool, by_name: bool
) -> None:
    spec, observed = _of(order.exchange.controller, name)
    if spec is None:
        order.say(name, "is being removed")
    elif observed.intent.hold == "stopped":
        order.say(
            name, f"is stopped by {observed.intent.hold_voice.who}; `reconcile start` starts it"
        )
    elif spec.is_job and by_name:
        _fire_again(order, name, spec, slots, failed=False, overlap="replace")
    elif spec.is_job:
        order.say(name, "is a job, not fired again; `reconcile rerun` does that")
    else:
        order.intend(name, intents.restarted(observed.intent, slots, at_once=at_once))
        how = "all at once" if at_once else "one by one"
        what = f"slot {', '.join(map(str, slots))}" if slots else "its processes"
        order.say(name, f"replaces {what} {how}")


def _reload(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params), patience(params)
    order = ordered(exchange, params)
    params.end()
    controller = exchange.controller
    for name, slots in selected.slots.items():
        spec, observed = _of(controller, name)
        if spec is not None and spec.reload == "replace" and not spec.is_job:
            _restart_one(order, name, slots, at_once=False, by_name=False)
            continue
        running = [slot for slot in _running(observed) if slots is None or slot in slots]
        if spec is None or not running:
            done = spec is not None and spec.is_job and _has_run(spec, observed)
            order.say(
                name, "has completed; `reconcile rerun` fires it again" if done else "nothing runs"
            )
        elif spec.reload == "replace":
            order.say(name, "is a job that runs; it has no reload of its own")
        else:
            for slot in slots or (None,):
                controller.feed(ReloadAsked(name, slot))
            order.say(name, f"told {_processes(len(running))}")
    return _answer(order, waits, set(selected.slots))


def _signal(exchange: Exchange, params: Parameters) -> object:
    selected = chosen(exchange, params, needed=True)
    written, order = params.text("signal"), ordered(exchange, params)
    params.end()
    try:
        signal = parse_signal(written)
    except ValueError as error:
        raise RequestError(
            code="invalid_request", message=f"signal: {error}, found {written!r}"
        ) from None
    controller = exchange.controller
    for name, slots in selected.slots.items():
        _, observed = _of(controller, name)
        running = [slot for slot in _running(observed) if slots is None or slot in slots]
        busy = [slot for slot in running if controller.reconciler.is_busy(name, slot)]
        if busy:
            order.say(
                name,
                f"not sent: {MAX_REQUESTS} signals already wait for the before_signal hook of {name}.{busy[0]}",
            )
            continue
        for slot in running:
            controller.feed(SignalAsked(name, slot, signal))
        order.say(name, f"{signal} to {_processes(len(running))}" if running else "nothing runs")
    return order.then(lambda: exchange.reply({"results": order.results}))


def _scale(exchange: Exchange, params: Parameters) -> object:
    numbers, waits = params.number_map("scale", 0, MAX_NUMPROCESSES), patience(params)
    order = ordered(exchange, params, may_end=True)
    params.end()
    controller = exchange.controller
    if order.length_ns is not None and None in numbers.values():
        msg = "for_ns: what follows its spec again does so for good"
        raise RequestError(code="invalid_request", message=msg, hint="leave for_ns out")
    for name in numbers:
        if controller.reconciler.spec.watchers.get(name) is None:
            select(controller, Wanted((name,)))
            raise RequestError(
                code="invalid_request", message=f"scale: {name!r} is not the name of one watcher"
            )
    _may_operate(exchange, numbers)
    for name, number in numbers.items():
        spec, observed = _of(controller, name)
        assert spec is not None
        order.intend(name, intents.scaled(observed.intent, order.voice, number))
        before = spec.numprocesses if observed.intent.scale is None else observed.intent.scale
        after = spec.numprocesses if number is None else number
        order.say(
            name,
            f"{before} -> {after} processes"
            + (", as the spec says" if number is None else _length(order)),
        )
    return _answer(order, waits, set(numbers))


# ---- jobs -----------------------------------------------------------------------------------------


def _rerun(exchange: Exchange, params: Parameters) -> object:
    selected, waits = chosen(exchange, params, needed=True), patience(params)
    failed, overlap = params.flag("failed"), params.choice("overlap", ("skip", "replace"))
    params.flag("require_all")  # what runs is in the answer; who requires all decides by it
    order = ordered(exchange, params)
    params.end()
    controller = exchange.controller
    found = {name: _of(controller, name)[0] for name in selected.slots}
    for name in selected.by_name:
        spec = found[name]
        if spec is not None and not spec.is_job and spec.restart != "on-failure":
            hint = (
                "only jobs (restart: never) are fired again; `reconcile restart` replaces processes"
            )
            raise RequestError(
                code="invalid_request", message=f"{name} is a service, not a job", hint=hint
            )
    fired = set()
    for name, spec in found.items():
        if spec is None:
            order.say(name, "is being removed")
        elif spec.is_job:
            fired.add(name)
            _fire_again(order, name, spec, selected.slots[name], failed=failed, overlap=overlap)
        elif name in selected.by_name:
            _restart_one(order, name, selected.slots[name], at_once=False, by_name=True)
    return _answer(order, waits, fired, has_ended)


def _fire_again(
    order: Order,
    name: str,
    spec: WatcherSpec,
    slots: tuple[int, ...] | None,
    *,
    failed: bool,
    overlap: str | None,
) -> None:
    """Make a new generation of a job; what an operator stopped is thereby started again."""
    controller = order.exchange.controller
    core = controller.reconciler
    observed = controller.observed(name)
    rerun = jobs.rerun(
        spec,
        observed,
        slots,
        core.base_hash(name),
        core.facts,
        failed=failed,
        overlap="replace" if overlap == "replace" else "skip" if overlap == "skip" else None,
        who=order.exchange.who,
    )
    running = []
    for slot in rerun.running:
        record = next(
            (r for id, r in observed.records.items() if id.slot == slot and id.role == MAIN), None
        )
        phase = record.phase if record is not None else None
        since = phase.started_at_ns + clock.wall_offset_ns() if isinstance(phase, Running) else None
        running.append(
            {"slot": slot, "pid": pid_of(phase) if phase is not None else None, "since_ns": since}
        )
    if rerun.fired:
        if observed.intent.hold == "stopped":
            said = intents.started(observed.intent, order.voice, autostart=spec.autostart)
            order.intend(name, said)
        order.generation(name, rerun.generation)
    order.say(
        name,
        _fired_message(rerun, failed=failed),
        generation=rerun.generation.number if rerun.fired else _newest(observed),
        fired=rerun.fired,
        running=running,
    )


def _fired_message(rerun: jobs.Rerun, *, failed: bool) -> str:
    words = []
    if rerun.fired:
        words.append(f"fired slot {', '.join(map(str, rerun.fired))}")
    if rerun.running:
        words.append(f"slot {', '.join(map(str, rerun.running))} still runs")
    return "; ".join(words) or ("no slot has failed" if failed else "nothing to fire")


def _newest(observed: WatcherObserved) -> int:
    return observed.job.generation.number if observed.job.generation is not None else 0


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
        more = f" and {len(shut) - 3} more" if len(shut) > 3 else ""
        what = f"{exchange.method} {', '.join(shut[:3])}{more}"
        raise exchange.denied(what, "name only watchers with these labels, or select them with -l")


def _of(controller: Controller, name: str) -> tuple[WatcherSpec | None, WatcherObserved]:
    return controller.reconciler.spec.watchers.get(name), controller.observed(name)


def _has_run(spec: WatcherSpec, observed: WatcherObserved) -> bool:
    """Tell whether every slot of a job has had its run and none runs, or nobody knows (lost ledger)."""
    runs = observed.job.runs
    done = [
        slot in runs and runs[slot].outcome is not None for slot in range(1, spec.numprocesses + 1)
    ]
    return not observed.job.known or (bool(done) and all(done))


def _running(observed: WatcherObserved) -> list[int]:
    return sorted(
        id.slot for id, r in observed.records.items() if id.role == MAIN and pid_of(r.phase)
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _refuse_slots(selected: Selected, verb: str, hint: str) -> None:
    for name, slots in selected.slots.items():
        if slots is not None:
            raise RequestError(
                code="unsupported", message=f"cannot {verb} one slot of {name}", hint=hint
            )


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
