"""A spec that was read becomes the one in force: guarded, numbered, stored, and then told to the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.entries import Applied
from reconciler.controller.loader import environment_digest
from reconciler.core.changes import changes, removal_refused
from reconciler.core.changes import drift as core_drift
from reconciler.core.template import sockets_of
from reconciler.model.errors import RequestError
from reconciler.model.event import JobChanged, SpecApplied
from reconciler.model.job import Job
from reconciler.model.news import News
from reconciler.model.spec import Spec
from reconciler.model.units import format_count
from reconciler.model.value import Struct, replace
from reconciler.specfile.source import SPEC_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.controller.entries import SourceFile
    from reconciler.controller.looking import Look
    from reconciler.controller.loop import Controller
    from reconciler.model.change import Change, Drift
    from reconciler.model.revision import Revision
    from reconciler.model.spec import WatcherSpec

MAX_TOLD: Final = 50
MAX_NAMED: Final = 3
"""Changes that stand in the sentence; the details of the event have more."""


def pending_changes(controller: Controller, spec: Spec) -> tuple[Change, ...]:
    """Return what applying a spec now would do."""
    # What the first spec says of the manager itself is in force already: it was started so.
    first = Spec(daemon=spec.daemon, apply=spec.apply)
    old = controller.applied.spec if controller.applied is not None else first
    core = controller.reconciler
    return changes(old, spec, core.observed, core.facts)


def drift(controller: Controller, spec: Spec) -> tuple[Drift, ...]:
    """Return what operators keep otherwise than a spec says, also after it is applied."""
    return core_drift(spec, controller.observed, clock.wall_offset_ns())


def refusal(controller: Controller, spec: Spec) -> str | None:
    """Return why a spec removes too much to be applied unasked, or None."""
    if controller.applied is None:
        return None
    return removal_refused(controller.applied.spec, spec, controller.reconciler.observed)


def waiting(count: int) -> str:
    """Return what is said of saved files that wait for an order (`apply.auto: false`)."""
    what = "1 change waits" if count == 1 else f"{count} changes wait"
    return f"{what} for reconcile apply (see: reconcile plan)"


def commit(
    controller: Controller,
    spec: Spec,
    files: tuple[SourceFile, ...],
    seen: Look,
    *,
    who: str,
    uid: int | None = None,
    then: Callable[[int], None] | None = None,
) -> int:
    """Number and store a spec; once it lies on the disk the core is told, and `then` its revision.

    `seen` is how the files looked before they were read.
    """
    made = controller.revisions.make(spec, files, who, uid)
    _put_in_force(controller, spec, made, storable(files), then)
    # The files are taken note of at once: what comes next is compared with them.
    controller.files.accepted(files, seen, made.number)
    controller.revisions.find_commit(made, files)
    return made.number


class Restored(Struct, frozen=True):
    """Which older revision comes back, and whose word that is; `uid` None: it was found bad by itself."""

    revision: int
    who: str
    uid: int | None = None
    reason: str = ""


def restore(
    controller: Controller,
    restored: Restored,
    spec: Spec,
    *,
    then: Callable[[int], None] | None = None,
) -> None:
    """Put the content of an older revision in force, as a new one; the files are left aside as they are."""
    files = controller.files.in_force()
    made = controller.revisions.make(
        spec, files, restored.who, restored.uid, restores=restored.revision
    )
    _put_in_force(controller, spec, made, storable(files), then, restored)
    controller.files.set_aside()


def _put_in_force(
    controller: Controller,
    spec: Spec,
    made: Revision,
    files: tuple[SourceFile, ...],
    then: Callable[[int], None] | None,
    restored: Restored | None = None,
) -> None:
    old = controller.applied
    told = pending_changes(controller, spec)
    applied = Applied(
        spec,
        made.number,
        retiring_with(old.spec if old is not None else Spec(), spec, controller.retiring()),
        files,
        controller.files.source,
        environment_digest(),
        made.wall_ns,
        made.uid,
        unknown_jobs(spec) if controller.ledger_lost else (),
        made,
    )
    controller.applied = applied
    controller.ledger_lost = False
    controller.write_then(applied, lambda: _stored(controller, applied, told, made, then))
    controller.border.guard(
        "taking up the daemon's settings", lambda: controller.follow_daemon(spec)
    )
    controller.revisions.took_over(made, restored)


def _stored(
    controller: Controller,
    applied: Applied,
    told: tuple[Change, ...],
    made: Revision,
    then: Callable[[int], None] | None,
) -> None:
    for name in applied.unknown_jobs:
        controller.feed(JobChanged(name, Job(known=False)))
    controller.feed(SpecApplied(applied.spec, made.number, applied.retiring, made.trial))
    guard = controller.border.guard
    guard("telling what was applied", lambda: _tell_applied(controller, made, told))
    if then is not None:
        then(applied.revision)


def _tell_applied(controller: Controller, made: Revision, told: tuple[Change, ...]) -> None:
    listed = [
        {"name": each.name, "how": each.how, "message": each.message} for each in told[:MAX_TOLD]
    ]
    count = format_count(len(told), "change")
    again = f", the content of {made.restores} again" if made.restores else ""
    which = "; ".join(f"{each.name}: {each.message}" for each in told[:MAX_NAMED])
    which = f" ({which}{'; ...' if len(told) > MAX_NAMED else ''})" if told else ""
    by = "with" if " by " in made.who else "by"  # `up by root`
    message = f"revision {made.number} applied {by} {made.who}{again}: {count}{which}"
    details = {
        "revision": made.number,
        "who": made.who,
        "restores": made.restores,
        "changes": listed,
        "count": len(told),
    }
    controller.tell(News("spec.applied", message, details=details))


def retiring_with(
    old: Spec, new: Spec, retiring: Mapping[str, WatcherSpec]
) -> dict[str, WatcherSpec]:
    """Return what has to be stopped when `new` follows `old`: what it drops, and what still was."""
    return {
        name: spec
        for name, spec in {**retiring, **old.watchers}.items()
        if name not in new.watchers
    }


def unknown_jobs(spec: Spec) -> tuple[str, ...]:
    """Return the jobs of a spec: after the loss of the ledger none of them may be fired unasked."""
    return tuple(name for name, watcher in spec.watchers.items() if watcher.is_job)


def storable(files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    """Return files without texts that must not be stored: the values of environment files."""
    return tuple(
        each if each.path.endswith(SPEC_SUFFIXES) else replace(each, text=None) for each in files
    )


def only(old: Spec, new: Spec, names: frozenset[str]) -> Spec:
    """Return the old spec with just these watchers and sockets as the new one says, and the sockets they need.

    Raises `RequestError` when a socket is to go that a watcher still uses.
    """
    watchers = {name: spec for name, spec in old.watchers.items() if name not in names}
    sockets = dict(old.sockets)
    for name in names & new.watchers.keys():
        watchers[name] = new.watchers[name]
        used = new.watchers[name].use_sockets
        wanted = {*(used if isinstance(used, tuple) else ()), new.watchers[name].stdin_socket}
        sockets |= {each: socket for each, socket in new.sockets.items() if each in wanted}
    sockets = {name: socket for name, socket in sockets.items() if name not in names}
    sockets |= {name: new.sockets[name] for name in names & new.sockets.keys()}
    for name, spec in watchers.items():
        lost = [each for each in sockets_of(spec) if each not in sockets]
        if lost:
            message = f"socket {lost[0]} is used by {name}"
            hint = f"name the watcher as well: --only {lost[0]} --only {name}"
            raise RequestError(code="conflict", message=message, hint=hint)
    return replace(old, watchers=watchers, sockets=sockets)
