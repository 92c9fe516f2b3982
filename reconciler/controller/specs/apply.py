"""A spec that was read becomes the one in force: guarded, numbered, stored, and then told to the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from reconciler.controller.runtime.borders import Border
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.loader import environment_digest
from reconciler.controller.specs.revisions import Revisions
from reconciler.controller.state.records import Applied, FilesChanged, RevisionChanged, SourceFile
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.core.template import sockets_of
from reconciler.model.change import Change
from reconciler.model.errors import RequestError
from reconciler.model.event import Event
from reconciler.model.job import Job
from reconciler.model.observation import JobChanged, Observation, SpecApplied
from reconciler.model.revision import Revision
from reconciler.model.spec import Spec
from reconciler.model.units import format_count
from reconciler.model.value import Part, Struct, replace
from reconciler.specfile.source import SPEC_SUFFIXES

MAX_TOLD: Final = 50
MAX_NAMED: Final = 3
"""Changes that stand in the sentence; the details of the event have more."""


class Author(Struct, frozen=True):
    """Whose word a spec is, and why; `uid` None: nobody's who called."""

    who: str
    uid: int | None = None
    reason: str = ""


class Applier(Part):
    """Puts specs in force; what is to follow then is called with the new revision once it lies on the disk."""

    core: Reconciler
    in_force: InForce
    revisions: Revisions
    saving: Saving
    border: Border
    feed: Callable[[Observation], None]
    tell: Callable[[Event], None]
    follow: Callable[[Spec], None]
    """Takes from an accepted spec what it says of the manager itself."""
    ledger_lost: bool
    """There may have been jobs that nobody can name any more."""

    def put_in_force(
        self,
        spec: Spec,
        source: tuple[str, ...],
        files: tuple[SourceFile, ...],
        author: Author,
        then: Then | None = None,
        restores: int = 0,
    ) -> int:
        """Number and store a spec, then put it before the core; return its number.

        `source` are the files and folders that were given, `files` those that were read. `restores` is the older
        revision whose content this is, 0: of none.
        """
        made = self.revisions.make(spec, files, author.who, author.uid, restores)
        planned = self.in_force.changes(spec)
        # What has to be stopped: what this one drops, and what still was.
        before = {**self.core.retiring(), **(self.in_force.spec or Spec()).watchers}
        retiring = {name: each for name, each in before.items() if name not in spec.watchers}
        # After the loss of the ledger no job may be fired unasked.
        unknown = [n for n, each in spec.watchers.items() if each.is_job and self.ledger_lost]
        applied = Applied(
            spec,
            made.number,
            retiring,
            _storable(files),
            source,
            environment_digest(),
            made.wall_ns,
            made.uid,
            tuple(unknown),
            made,
        )
        self.in_force.applied = applied
        self.ledger_lost = False
        self.saving.write_then(applied, lambda: self._stored(applied, made, planned, then))
        self.border.guard("taking up the daemon's settings", lambda: self.follow(spec))
        self.revisions.took_over(made, author.reason)
        return made.number

    def go_on(self, then: Callable[[], None]) -> None:
        """Put a paused revision on trial once more, so that its roll goes on."""
        again = self.revisions.try_again()

        def stored() -> None:
            applied = self.in_force.applied
            if applied is not None and applied.revision == again.number:
                self.feed(SpecApplied(applied.spec, again.number, trial=again.trial))
            then()

        self.saving.write_then(RevisionChanged(again), stored)

    def note_files(self, files: tuple[SourceFile, ...]) -> None:
        """Store the bytes of files that changed and still say what is in force."""
        self.saving.write(FilesChanged(_storable(files), environment_digest()))
        self.revisions.files_agree()

    def _stored(
        self, applied: Applied, made: Revision, planned: tuple[Change, ...], then: Then | None
    ) -> None:
        for name in applied.unknown_jobs:
            self.feed(JobChanged(name, Job(known=False)))
        self.feed(SpecApplied(applied.spec, made.number, applied.retiring, made.trial))
        self.border.guard("telling what was applied", lambda: self._tell_applied(made, planned))
        if then is not None:
            then(applied.revision)

    def _tell_applied(self, made: Revision, planned: tuple[Change, ...]) -> None:
        listed = [
            {"name": each.name, "how": each.how, "message": each.message}
            for each in planned[:MAX_TOLD]
        ]
        count = format_count(len(planned), "change")
        again = f", the content of {made.restores} again" if made.restores else ""
        which = "; ".join(f"{each.name}: {each.message}" for each in planned[:MAX_NAMED])
        which = f" ({which}{'; ...' if len(planned) > MAX_NAMED else ''})" if planned else ""
        by = "with" if " by " in made.who else "by"  # `up by root`
        message = f"revision {made.number} applied {by} {made.who}{again}: {count}{which}"
        details = {
            "revision": made.number,
            "who": made.who,
            "restores": made.restores,
            "changes": listed,
            "count": len(planned),
        }
        self.tell(Event("spec.applied", message, details=details))


Then: TypeAlias = Callable[[int], None]


def _storable(files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
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
