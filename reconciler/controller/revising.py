"""Methods about revisions: the history, the difference between two, and an older one once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.controller import applying, operating
from reconciler.controller.exchange import LATER, Method
from reconciler.controller.files import CONSENT_TO_ROLLBACK
from reconciler.core.changes import changes, come_about
from reconciler.model.errors import RequestError
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.controller.exchange import Exchange
    from reconciler.controller.history import Content
    from reconciler.controller.loop import Controller
    from reconciler.controller.parameters import Parameters
    from reconciler.model.revision import Revision

HIGHEST: Final = 2**62


def check_base(controller: Controller, base: int | None) -> None:
    """Refuse what was planned on another revision than the one in force. Raises `RequestError`."""
    now = controller.applied.revision if controller.applied is not None else 0
    if base is not None and base != now:
        raise RequestError(
            code="conflict",
            message=f"revision {now} is in force by now, the plan was made on revision {base}",
            hint="look at the plan again",
        )


def shown(revision: Revision) -> dict[str, object]:
    """Return an entry of the history as clients see it."""
    return {
        "number": revision.number,
        "applied_ns": revision.wall_ns,
        "who": revision.who,
        "uid": revision.uid,
        "digest": revision.digest,
        "commit": revision.commit,
        "dirty": revision.dirty,
        "restores": revision.restores,
        "outcome": revision.outcome,
        "reason": revision.trial.reason,
        "judged_ns": revision.judged_wall_ns,
        "due_ns": None,
        "log": revision.log,
    }


def _history(exchange: Exchange, params: Parameters) -> object:
    params.end()
    revisions = exchange.controller.revisions
    current = revisions.current
    listed = [shown(each) for each in revisions.newest_first()]
    if current is not None and current.outcome == "pending":
        due_ns, waits_for = revisions.outlook()
        for each in listed:
            if each["number"] == current.number:
                each |= {"due_ns": due_ns, "reason": waits_for}
    return {"revision": current.number if current is not None else 0, "revisions": listed}


def _diff(exchange: Exchange, params: Parameters) -> object:
    old, new = params.number("old", 0, HIGHEST), params.number("new", 0, HIGHEST)
    params.end()
    later = _current(exchange.controller) if new is None else _known(exchange.controller, new)
    earlier = _before(exchange, later) if old is None else _known(exchange.controller, old)

    def both(before: Content, after: Content) -> None:
        facts = exchange.controller.reconciler.facts
        found = changes(before.spec, after.spec, come_about(before.spec, facts), facts)
        exchange.reply({"old": earlier.number, "new": later.number, "changes": found})

    _read(exchange, earlier, lambda before: _read(exchange, later, lambda now: both(before, now)))
    return LATER


def _before(exchange: Exchange, revision: Revision) -> Revision:
    """Return the revision before this one that is still kept."""
    known = exchange.controller.revisions.newest_first()
    found = next((each for each in known if each.number < revision.number), None)
    if found is None:
        message = f"no revision before {revision.number} is kept"
        raise RequestError(code="not_found", message=message, hint="reconcile history")
    return found


class _Rollback(Struct, frozen=True):
    """What a rollback was asked for."""

    dry_run: bool
    allow_removal: bool
    base: int | None
    order: operating.Order


def _rollback(exchange: Exchange, params: Parameters) -> object:
    number = params.number("revision", 0, HIGHEST)
    wish = _Rollback(
        params.flag("dry_run"),
        params.flag("allow_removal"),
        params.number("base", 0, HIGHEST),
        operating.ordered(exchange, params),
    )
    params.end()
    older = _wanted(exchange.controller, number)
    _read(exchange, older, lambda content: _take_again(exchange, wish, older, content))
    return LATER


def _wanted(controller: Controller, number: int | None) -> Revision:
    """Return the revision to go back to: the one asked for, or the newest good one before the present."""
    current = _current(controller)
    if number is None:
        found = controller.revisions.good_before(current.place)
        if found is None:
            message = f"there is no good revision before {current.place}"
            hint = "`reconcile history` lists them; `reconcile rollback REVISION` takes any"
            raise RequestError(code="not_found", message=message, hint=hint)
        return found
    if number == current.number:
        raise RequestError(code="conflict", message=f"revision {number} is the one in force")
    return _known(controller, number)


def _take_again(exchange: Exchange, wish: _Rollback, older: Revision, content: Content) -> None:
    """Answer what going back does, and do it unless it is a dry run. Raises `RequestError` when refused."""
    controller = exchange.controller
    assert controller.applied is not None
    planned = applying.pending_changes(controller, content.spec)
    answer: dict[str, object] = {
        "revision": controller.applied.revision,
        "restores": older.place,
        "changes": planned,
        "drift": applying.drift(controller, content.spec),
    }
    if wish.dry_run or content.spec == controller.applied.spec:
        exchange.reply({**answer, "applied": not wish.dry_run})
        return
    refusal = None if wish.allow_removal else applying.refusal(controller, content.spec)
    if refusal is not None:
        raise RequestError(code="conflict", message=refusal, hint=CONSENT_TO_ROLLBACK)
    check_base(controller, wish.base)

    def stored(revision: int) -> None:
        exchange.guard(lambda: exchange.reply({**answer, "revision": revision, "applied": True}))

    order = wish.order
    controller.tell(order.news(f"to the content of revision {older.place}", restores=older.place))
    restored = applying.Restored(older.place, exchange.who, exchange.uid, order.reason)
    applying.restore(controller, restored, content.spec, then=stored)


# ---- helpers --------------------------------------------------------------------------------------


def _current(controller: Controller) -> Revision:
    current = controller.revisions.current
    if current is None:
        message = "the revision in force has no entry in the history"
        raise RequestError(
            code="conflict", message=message, hint="`reconcile apply` makes one with the next edit"
        )
    return current


def _known(controller: Controller, number: int) -> Revision:
    found = controller.revisions.get(number)
    if found is None:
        numbers = [each.number for each in controller.revisions.newest_first()]
        kept = f"{numbers[-1]} to {numbers[0]} are kept" if numbers else "none is kept"
        raise RequestError(code="not_found", message=f"there is no revision {number}", hint=kept)
    return found


def _read(exchange: Exchange, revision: Revision, then: Callable[[Content], None]) -> None:
    """Hand over a content; that it is unreadable, or refused, is the request's answer."""

    def found(content: Content) -> None:
        if METHODS[exchange.method].mutates:
            exchange.refuse_at_the_end()
        then(content)

    def unreadable(reason: str) -> None:
        message = f"cannot read the content of revision {revision.number}: {reason}"
        exchange.fail(RequestError("conflict", message, hint="`reconcile history` lists others"))

    exchange.controller.revisions.read(
        revision.number,
        lambda content: exchange.guard(lambda: found(content)),
        unreadable,
        uid=exchange.uid,
    )


METHODS: Final[Mapping[str, Method]] = {
    "history": Method(_history, "view"),
    "diff": Method(_diff, "view"),
    "rollback": Method(_rollback, "admin", mutates=True),
}
