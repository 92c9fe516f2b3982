"""Methods of the control socket that ask, apply and follow; `operating` has those that give orders."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

import reconciler
from reconciler.controller import applying, ledger, operating, revising, upgrading, waiting
from reconciler.controller.entries import KEPT_EVENTS, KEPT_ORDERS
from reconciler.controller.exchange import LATER, Answer, Method
from reconciler.controller.files import CONSENT, cut_message
from reconciler.controller.logs import last_lines
from reconciler.controller.news import Wished
from reconciler.controller.selection import near_names, patterns, select, wanted
from reconciler.controller.streams import EventStream, Following, LogStream, ProgressStream
from reconciler.model.errors import RequestError
from reconciler.model.process import pid_of
from reconciler.model.spec import Spec
from reconciler.model.units import format_count
from reconciler.model.value import Struct
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.controller.exchange import Exchange
    from reconciler.controller.loader import Loaded
    from reconciler.controller.logs import LogPlace
    from reconciler.controller.looking import Look
    from reconciler.controller.loop import Controller
    from reconciler.controller.parameters import Parameters

PROTOCOL: Final = 1
MAX_LINES: Final = 10_000
DEFAULT_LINES: Final = 100
MAX_REASONS: Final = 20
MAX_EVENTS: Final = KEPT_EVENTS + KEPT_ORDERS


def _hello(exchange: Exchange, params: Parameters) -> object:
    params.text("client")
    params.number("protocol", 0, 2**31)
    params.end()
    controller = exchange.controller
    return {
        "version": reconciler.__version__,
        "protocol": PROTOCOL,
        "name": controller.config.name,
        "source": controller.files.source,
        "state_dir": controller.config.state_dir,
        "role": exchange.permit.role,
        "labels": exchange.permit.labels,
        "keeper_pid": controller.keeper.pid,
        "controller_pid": controller.pid,
        "upgrades": controller.keeper.upgrades,
    }


def _status(exchange: Exchange, params: Parameters) -> object:
    selection, usage = wanted(params), params.flag("usage")
    params.end()
    board = exchange.controller.status
    is_whole = not usage and not selection.names and not selection.labels
    slots = {} if is_whole else select(exchange.controller, selection).slots

    def looked() -> None:
        if usage:
            board.answer_with_usage(exchange, slots)
        elif any(each is not None for each in slots.values()):
            exchange.finish(Answer(board.answer_of_slots(slots)))
        else:
            exchange.finish(Answer(board.answer(None if is_whole else slots)))

    exchange.controller.files.when_looked(lambda: exchange.guard(looked))
    return LATER


# ---- plan and apply -------------------------------------------------------------------------------


def _plan(exchange: Exchange, params: Parameters) -> object:
    source = _source(params)
    params.end()
    controller = exchange.controller
    _may_read(exchange, source)

    def planned(spec: Spec, revision: int) -> Answer:
        """Compare; what is observed meanwhile may count or not. Runs in a thread."""
        changes, drift = (
            applying.pending_changes(controller, spec),
            applying.drift(controller, spec),
        )
        return Answer(rpc.pack({"revision": revision, "changes": changes, "drift": drift}))

    def read(loaded: Loaded, _seen: Look) -> None:
        ask = partial(planned, loaded.spec, _revision(controller))
        controller.lanes.run("loader", ask, exchange.finish, exchange.broken, uid=exchange.uid)

    readings = controller.server.readings
    readings.ask(exchange, source or controller.files.source, read, is_shared=True)
    return LATER


class _Wish(Struct, frozen=True):
    """What `apply` was asked for."""

    source: tuple[str, ...]
    dry_run: bool
    allow_removal: bool
    goes_on: bool
    base: int | None
    order: operating.Order


def _apply(exchange: Exchange, params: Parameters) -> object:
    source, only = _source(params), params.texts("only")
    replace_source = params.flag("replace_source")
    wish = _Wish(
        source,
        params.flag("dry_run"),
        params.flag("allow_removal"),
        params.flag("continue"),
        params.number("base", 0, revising.HIGHEST),
        operating.ordered(exchange, params),
    )
    params.end()
    controller = exchange.controller
    if (
        source
        and source != controller.files.source
        and not replace_source
        and controller.files.source
    ):
        raise RequestError(
            code="conflict",
            message=f"this instance is run from {', '.join(controller.files.source)}, not from {', '.join(source)}",
            hint="--replace-source makes it follow the other files",
        )

    def read(loaded: Loaded, seen: Look) -> None:
        _apply_spec(exchange, wish, _narrowed(controller, loaded.spec, only), loaded, seen)

    controller.server.readings.ask(exchange, source or controller.files.source, read)
    return LATER


def _apply_spec(exchange: Exchange, wish: _Wish, spec: Spec, loaded: Loaded, seen: Look) -> None:
    """Answer what applying does, and do it unless it is a dry run. Raises `RequestError` when refused."""
    controller, files = exchange.controller, exchange.controller.files
    changes = applying.pending_changes(controller, spec)
    planned = {"changes": changes, "drift": applying.drift(controller, spec)}
    if wish.dry_run:
        exchange.reply({"revision": _revision(controller), **planned, "applied": False})
        return
    exchange.refuse_at_the_end()
    if wish.goes_on and _goes_on(exchange, wish, spec, seen):
        return
    is_other = bool(wish.source) and wish.source != files.source
    if not is_other and not wish.goes_on:
        _refuse_rejected(controller, seen)
    if not wish.allow_removal:
        refusal = applying.refusal(controller, spec)
        if refusal is not None:
            raise RequestError(code="conflict", message=refusal, hint=CONSENT)
        cut = None if is_other else files.looks_cut(seen, spec)
        if cut is not None:
            raise RequestError(code="conflict", message=cut_message(cut), hint=CONSENT)
    is_same = controller.applied is not None and spec == controller.applied.spec and not is_other
    if not is_same:
        revising.check_base(controller, wish.base)
    # Nothing refuses from here on; so far nothing was done.
    files.warn(loaded.warnings)
    controller.secrets.read_again()
    if is_other:
        files.replace_source(wish.source)
    read = files.source_files(loaded.files)
    if is_same:
        files.unchanged(read, seen)
        controller.revisions.confirm(exchange.who)
        unchanged = planned | {"changes": ()}
        exchange.reply({"revision": _revision(controller), **unchanged, "applied": True})
        return

    def stored(revision: int) -> None:
        exchange.guard(lambda: exchange.reply({"revision": revision, **planned, "applied": True}))

    controller.tell(wish.order.news(format_count(len(changes), "change")))
    who = exchange.who
    applying.commit(controller, spec, read, seen, who=who, uid=exchange.uid, then=stored)


def _goes_on(exchange: Exchange, wish: _Wish, spec: Spec, seen: Look) -> bool:
    """Go on with a paused revision; False when files that were left aside are to be tried again.

    Raises `RequestError` when there is nothing to go on with.
    """
    controller = exchange.controller
    current, number = controller.revisions.current, _revision(controller)
    if controller.files.is_set_aside(seen):
        return False
    if current is None or controller.applied is None or current.outcome != "paused":
        outcome = f"revision {number} is {current.outcome}" if current else "nothing was applied"
        raise RequestError(code="conflict", message=f"{outcome}: there is nothing to continue")
    if spec != controller.applied.spec:
        message = f"the files say something else than revision {number}, which is paused"
        raise RequestError(
            code="conflict", message=message, hint="`reconcile apply` without --continue applies"
        )
    controller.secrets.read_again()
    controller.tell(wish.order.news(f"goes on with revision {number}", revision=number))
    controller.revisions.go_on(
        lambda: exchange.reply({"revision": number, "changes": (), "applied": True})
    )
    return True


def _refuse_rejected(controller: Controller, seen: Look) -> None:
    """Refuse files that were rolled back as they are. Raises `RequestError`."""
    rejected = controller.revisions.rejected()
    if rejected is not None and controller.files.is_set_aside(seen):
        raise RequestError(
            code="conflict",
            message=f"these files are revision {rejected.number}, which was rolled back: {rejected.trial.reason}",
            hint="change them, or `reconcile apply --continue` tries them once more",
        )


def _narrowed(controller: Controller, spec: Spec, only: tuple[str, ...]) -> Spec:
    if not only:
        return spec
    old = controller.applied.spec if controller.applied is not None else Spec()
    known = {*spec.watchers, *old.watchers, *spec.sockets, *old.sockets}
    for name in only:
        if name not in known:
            near = near_names(name, sorted(known))
            hint = (
                f"did you mean {', '.join(near)}?" if near else "give the whole name, without slot"
            )
            message = f"no watcher or socket {name[:128]!r}, neither in the files nor in force"
            raise RequestError(code="not_found", message=message, hint=hint)
    return applying.only(old, spec, frozenset(only))


def _source(params: Parameters) -> tuple[str, ...]:
    source = params.texts("source")
    for path in source:
        if not path.startswith("/"):
            raise RequestError(
                code="invalid_request",
                message=f"source: expected absolute paths, found {path[:128]!r}",
            )
    return source


def _may_read(exchange: Exchange, source: tuple[str, ...]) -> None:
    """Refuse other files than those of the instance to all but admins: mistakes quote what they read."""
    other = sorted(set(source) - set(exchange.controller.files.source))
    if other and not exchange.permit.includes("admin"):
        what = f"read {other[0][:128]}"
        raise exchange.denied(what, "leave the files out, or ask an admin")


def _revision(controller: Controller) -> int:
    return controller.applied.revision if controller.applied is not None else 0


# ---- following ------------------------------------------------------------------------------------


def _apply_follow(exchange: Exchange, params: Parameters) -> object:
    revision, selection = params.number("revision", 0, 2**62), wanted(params)
    runs = params.flag("runs")
    params.end()
    controller = exchange.controller
    # With a revision, what it removes and its sockets may be named: they are nothing to wait for.
    if (selection.names or selection.labels) and revision is None:
        select(controller, selection)
    return controller.server.streams.add(
        exchange,
        lambda number: ProgressStream(
            controller, exchange.connection, number, selection, revision or 0, runs=runs
        ),
    )


def _events(exchange: Exchange, params: Parameters) -> object:
    since, limit = params.number("since", 0, 2**62) or 0, params.number("limit", 1, MAX_EVENTS)
    wished = _wished(params)
    params.end()
    controller, count = exchange.controller, limit or MAX_EVENTS

    def answer() -> None:
        news = controller.news
        found = news.since(since, count, wished)
        left_out = news.count_since(since, wished) - len(found)
        # Whoever asks for a time, or a number, from which something was dropped is told so.
        oldest_ns = news.oldest_ns
        asked = bool(wished.since_ns or since)
        forgot = (
            asked
            and oldest_ns is not None
            and (oldest_ns > wished.since_ns if wished.since_ns else news.missed(since) > 0)
        )
        kept_since = {"kept_since_ns": oldest_ns} if forgot else {}
        exchange.reply({"events": found, "left_out": left_out, **kept_since})

    if not controller.event_log.recall(since, count if wished.is_all else MAX_EVENTS, answer):
        answer()
    return LATER


def _wished(params: Parameters) -> Wished:
    """Take out of a request's parameters which events it means."""
    return Wished(
        patterns(params, "names", "write names out"),
        patterns(params, "types", "write types out"),
        params.number("since_ns", 0, 2**62) or 0,
    )


def _events_follow(exchange: Exchange, params: Parameters) -> object:
    since, until_end = params.number("since", 0, 2**62), params.flag("until_end")
    wished = _wished(params)
    params.end()
    controller = exchange.controller
    cursor = controller.news.newest if since is None else since
    return controller.server.streams.add(
        exchange,
        lambda number: EventStream(
            controller, exchange.connection, number, cursor, wished, until_end=until_end
        ),
    )


def _logs(exchange: Exchange, params: Parameters) -> object:
    selection, lines = wanted(params), params.number("lines", 0, MAX_LINES)
    stderr, hooks = params.flag("stderr"), params.flag("hooks")
    since_ns = params.number("since_ns", 0, 2**63 - 1)
    params.end()
    controller = exchange.controller
    count = DEFAULT_LINES if lines is None else lines
    places: dict[str, LogPlace] = {}
    by_watcher: dict[str, list[str]] = {}
    for name, slots in select(controller, selection).slots.items():
        found = (
            controller.log_places.hooks(name) if hooks else controller.log_places.of(name, slots)
        )
        found = [place for place in found if place.source == "stderr" or not stderr]
        places |= {place.path: place for place in found}
        by_watcher[name] = [place.path for place in found]

    def answer(entries: Sequence[Mapping[str, object]]) -> None:
        given = {entry["path"] for entry in entries}
        is_asked = count and since_ns is None and (selection.names or not given)
        silent = [name for name in by_watcher if is_asked and given.isdisjoint(by_watcher[name])]
        why = [
            controller.log_places.why_empty(name, stderr=stderr, hooks=hooks)
            for name in silent[:MAX_REASONS]
        ]
        if len(silent) > len(why):
            why.append(f"and {len(silent) - len(why)} more watchers have no output to be shown")
        exchange.in_lane(
            "logs",
            lambda: rpc.pack({"entries": entries, "empty": why}),
            lambda packed: exchange.finish(Answer(packed)),
        )

    return exchange.in_lane(
        "logs", lambda: last_lines(tuple(places.values()), count, since_ns), answer
    )


def _logs_follow(exchange: Exchange, params: Parameters) -> object:
    selection, lines = wanted(params), params.number("lines", 0, MAX_LINES)
    after = _positions(params)
    wish = Following(
        selection,
        10 if lines is None else lines,
        params.flag("stderr"),
        params.flag("hooks"),
        params.flag("whole"),
        params.flag("resumable"),
        after,
    )
    params.end()
    controller = exchange.controller
    if after is None:  # who comes again asks for what may be gone by now
        select(controller, selection)
    return controller.server.streams.add(
        exchange, lambda number: LogStream(controller, exchange.connection, number, wish)
    )


def _positions(params: Parameters) -> dict[str, str] | None:
    """Return places in logs by path; they come in few long texts, since there may be thousands.

    Raises `RequestError`.
    """
    texts = params.texts("after", rpc.MAX_STRING_BYTES)
    if not texts:
        return None
    found = {}
    for line in "\n".join(texts).split("\n"):
        position, _, path = line.partition(" ")
        if not line:
            continue
        if re.fullmatch(r"\d{1,20}(:\d{1,20}){3}", position) is None:
            message = (
                f"after: expected a place that a log notification has told, found {line[:60]!r}"
            )
            raise RequestError(code="invalid_request", message=message)
        found[path] = position
    return found


def _stream_cancel(exchange: Exchange, params: Parameters) -> object:
    number = params.number("stream", 0, 2**62)
    params.end()
    if number is None or not exchange.controller.server.streams.cancel(exchange.connection, number):
        raise RequestError(code="not_found", message=f"this connection has no stream {number}")
    return {}


def _shutdown(exchange: Exchange, params: Parameters) -> object:
    now, wait, code = params.flag("now"), params.flag("wait"), params.number("code", 0, 255) or 0
    order = operating.ordered(exchange, params)
    params.end()
    controller = exchange.controller
    how = (" at once" if now else "") + (f", with exit code {code}" if code else "")
    controller.tell(order.news(f"ends everything{how}", now=now))
    leaves = controller.shut_down(now=now, code=code)
    if wait and not _is_hook(exchange):
        controller.server.waiters.until_end(exchange)
        return LATER
    return {"leaves": leaves}


def _is_hook(exchange: Exchange) -> bool:
    """Tell whether a hook asks: the end waits for it, so it must not wait for the end."""
    core = exchange.controller.reconciler
    helpers = (record for name in core.names() for record in core.helpers(name))
    return any(pid_of(record.phase) == exchange.pid for record in helpers)


METHODS: Final[Mapping[str, Method]] = {
    "hello": Method(_hello, "view"),
    "status": Method(_status, "view"),
    "plan": Method(_plan, "view"),
    "apply": Method(_apply, "admin", mutates=True),
    "apply.follow": Method(_apply_follow, "view"),
    "events": Method(_events, "view"),
    "events.follow": Method(_events_follow, "view"),
    "logs": Method(_logs, "view"),
    "logs.follow": Method(_logs_follow, "view"),
    "stream.cancel": Method(_stream_cancel, "view"),
    "shutdown": Method(_shutdown, "admin", mutates=True),
    **upgrading.METHODS,
    **ledger.METHODS,
    **operating.METHODS,
    **waiting.METHODS,
    **revising.METHODS,
}
