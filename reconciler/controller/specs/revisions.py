"""The history of the applied spec.

Each accepted spec is a revision with a trial (`core.verdict` judges it, `verdicts` does what follows). The entries
are held here and in the store; what is decided next is read from them alone, so a new controller goes on where the
last one was:

    pending --stayed up--> good
       |  \\--next spec--> superseded
       +--did not--> paused --apply --continue--> pending
                     failed          (nothing to pause or to go back to, or on_failure: keep)
                     rolled_back     then the older content is in force, as the next revision
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.repository import Commit, commit_of
from reconciler.controller.state.history import dropped
from reconciler.controller.state.queries import read_spec
from reconciler.controller.state.records import RevisionChanged, SourceFile
from reconciler.controller.state.saving import Saving
from reconciler.core import verdict
from reconciler.core.reconciler import Reconciler
from reconciler.model.digest import sha256
from reconciler.model.revision import OnFailure, Revision, RevisionOutcome, Trial
from reconciler.model.spec import Spec
from reconciler.model.units import format_few
from reconciler.model.value import Part, replace

SAVED: Final = "saved files"
"""Who applies when nobody gave an order."""
MAX_NAMED: Final = 5
"""So many watchers are named where there may be thousands."""


class Revisions(Part):
    """The entries by number; the newest is that of the spec in force."""

    known: dict[int, Revision]
    core: Reconciler
    in_force: InForce
    saving: Saving
    lanes: Lanes
    _removed: tuple[int, tuple[str, ...]] = (0, ())
    """Which watchers the newest revision took out of the spec, as far as this controller knows."""

    def begin(self, *, new_keeper: bool) -> None:
        """Close what was left open. Under a new keeper all processes are new, and so is the time of the trial."""
        current = self.current
        for number, each in tuple(self.known.items()):
            if each.outcome == "pending" and each is not current:
                self.known[number] = _closed(each, "superseded")
        if current is not None and new_keeper:
            trial = replace(current.trial, begun_ns=clock.now_ns())
            self._change(replace(current, trial=trial))

    # ---- looking ----

    @property
    def current(self) -> Revision | None:
        """Return the entry of the spec in force; None when there is none, or it was damaged."""
        return self.known.get(self.in_force.revision)

    def newest_first(self) -> list[Revision]:
        """Return all entries."""
        return [self.known[number] for number in sorted(self.known, reverse=True)]

    def outlook(self) -> tuple[int | None, str]:
        """Return when the revision in force is judged (since the epoch) and why not sooner, while it is on trial."""
        found, current = self.core.outlook(), self.current
        if found is None or current is None or current.outcome != "pending":
            return None, ""
        due_ns = None if found.due_ns is None else found.due_ns + clock.wall_offset_ns()
        return due_ns, found.reason

    def good_before(self, number: int) -> Revision | None:
        """Return the newest good revision that is older than this one."""
        older = (each for each in self.newest_first() if each.number < number)
        return next((each for each in older if each.outcome == "good"), None)

    def rejected(self) -> Revision | None:
        """Return the revision of the files that are left aside because it was not good."""
        current = self.current
        if current is None or not current.files_differ or current.uid is not None:
            return None
        return self.known.get(current.number - 1)

    def why_aside(self) -> str:
        """Return why the spec in force is not what the files say."""
        current = self.current
        assert current is not None
        former = self.known.get(current.number - 1)
        reason = f": {former.trial.reason}" if former is not None and former.trial.reason else ""
        return (
            f"revision {current.number - 1} was rolled back to the content of {current.restores}{reason}; "
            "the files say something else and are left aside until they change"
        )

    # ---- new ones ----

    def make(
        self, spec: Spec, files: tuple[SourceFile, ...], who: str, uid: int | None, restores: int
    ) -> Revision:
        """Return the entry of a spec that is about to be in force, and close that of the former one."""
        old, number = self.in_force.spec or Spec(), self.in_force.revision + 1
        observed, facts, current = self.saving.observed, self.core.facts, self.current
        former = None if current is None else current.trial
        changed = verdict.changed(old, spec, observed, facts, former)
        made = Revision(number, clock.wall_ns(), who, uid, _digest(files))
        if restores:
            older = self.known.get(restores, Revision(restores))
            same = {"digest": older.digest, "commit": older.commit, "dirty": older.dirty}
            made = replace(made, **same, restores=restores, files_differ=True)
        trial = Trial(
            changed, clock.now_ns(), spec.apply.confirm_after, self._on_failure(spec, made)
        )
        self._removed = (number, tuple(sorted(old.watchers.keys() - spec.watchers.keys())))
        if current is not None and not restores and not self._removed[1]:
            starts_nothing = not (changed and verdict.changed(old, spec, observed, facts))
            if starts_nothing and not verdict.mends(old, spec, current.trial):
                return _inherits(replace(made, trial=trial), current)
        return replace(made, trial=trial)

    def _on_failure(self, spec: Spec, made: Revision) -> OnFailure:
        """Return what to do when it is not good: what the spec says, where there is something to go back to."""
        wanted = spec.apply.on_failure
        if made.restores or not self.known:
            return "keep"  # one that goes back stays: there would be no end to it
        return "keep" if wanted == "rollback" and self.fallback(made.number) is None else wanted

    def fallback(self, number: int) -> Revision | None:
        """Return what to go back to: the newest good one, or else the newest that was never found bad."""
        older = (each for each in self.newest_first() if each.number < number)
        unproven = (each for each in older if each.outcome in {"superseded", "pending"})
        return self.good_before(number) or next(unproven, None)

    def took_over(self, made: Revision, reason: str = "") -> None:
        """Put a new entry into the history, and close the former one; call it once its spec is being stored.

        `reason` is why somebody has told to restore an older one.
        """
        former = self.known.get(made.number - 1)
        if former is not None and made.restores and made.uid is not None:
            why = f' ("{reason}")' if reason else ""
            found_bad = former.outcome not in {"good", "pending"} and former.trial.reason
            self._change(_closed(former, "rolled_back", found_bad or f"by {made.who}{why}"))
        elif former is not None and former.outcome == "pending":
            self._change(_closed(former, "superseded"))
        elif former is not None and former.trial.changed:
            self._change(_closed(former, former.outcome, former.trial.reason))
        self.known[made.number] = made
        for number in dropped(self.known):
            del self.known[number]

    def find_commit(
        self, number: int, files: tuple[SourceFile, ...], source: tuple[str, ...]
    ) -> None:
        """Ask for the commit of a new revision; nothing waits for the answer."""

        def ask() -> Commit | None:
            current = self.current
            is_current = current is not None and current.number == number
            return commit_of(files, source) if is_current else None

        def found(commit: Commit | None) -> None:
            if commit is not None:
                self.amend(number, commit=commit.id, dirty=commit.dirty)

        self.lanes.run("commands", ask, found, lambda _: None)

    def amend(self, number: int, **known: object) -> None:
        """Take note of what is known by now of a revision that is still kept."""
        revision = self.known.get(number)
        if revision is not None:
            self._change(replace(revision, **known))

    def confirm(self, who: str) -> None:
        """Take note that somebody has told to apply what had been applied by itself already: it is his, too."""
        current = self.current
        if current is not None and current.who == SAVED:
            self._change(replace(current, who=f"{SAVED}, confirmed by {who}"))

    def files_agree(self) -> None:
        """Take note that the files say what is in force."""
        if self.current is not None and self.current.files_differ:
            self.amend(self.current.number, files_differ=False)

    def _change(self, revision: Revision) -> None:
        self.known[revision.number] = revision
        self.saving.write(RevisionChanged(revision))

    # ---- verdicts ----

    def judged(self, revision: Revision, trial: Trial) -> None:
        """Take note of what came of a trial."""
        if trial.outcome == "paused":  # it may be tried once more
            self._change(replace(revision, trial=trial, judged_wall_ns=clock.wall_ns()))
        else:
            self._change(_closed(replace(revision, trial=trial), trial.outcome, trial.reason))

    def try_again(self) -> Revision:
        """Put a paused revision on trial once more and return it; who asks stores it."""
        current = self.current
        assert current is not None
        trial = replace(
            current.trial, begun_ns=clock.now_ns(), outcome="pending", reason="", watcher=""
        )
        again = replace(current, trial=trial, judged_wall_ns=None, log=())
        self.known[again.number] = again
        return again

    def why_idle(self, number: int) -> str:
        """Return what a revision did that starts nothing."""
        of, removed = self._removed
        if of != number or not removed:
            return "it starts nothing"
        return f"it only removed {format_few(removed, MAX_NAMED)}"

    def read(
        self,
        number: int,
        found: Callable[[Spec], None],
        unreadable: Callable[[str], None],
        uid: int | None = None,
    ) -> None:
        """Hand over the spec of a revision, off the loop, or say why it cannot be read.

        `uid` is the user who has asked.
        """
        applied, path = self.in_force.applied, self.saving.store.path
        if applied is not None and applied.revision == number:
            found(applied.spec)
            return

        self.lanes.run(
            "records",
            partial(read_spec, path, number),
            lambda answer: unreadable(answer) if isinstance(answer, str) else found(answer),
            unreadable,
            uid=uid,
        )


def _inherits(made: Revision, former: Revision) -> Revision:
    """Return the entry of an edit that starts nothing: what was known of the one before it is known of this one."""
    if former.outcome == "pending":
        return replace(made, trial=replace(made.trial, begun_ns=former.trial.begun_ns))
    if former.outcome not in {"paused", "failed"}:
        return made
    known = former.trial
    trial = replace(made.trial, outcome=former.outcome, reason=known.reason, watcher=known.watcher)
    return replace(made, trial=trial, judged_wall_ns=former.judged_wall_ns, log=former.log)


def _closed(revision: Revision, outcome: RevisionOutcome, reason: str = "") -> Revision:
    """Return an entry whose trial is over; what it changed is of no more use, and may be long."""
    trial = replace(revision.trial, outcome=outcome, reason=reason, changed={})
    judged = revision.judged_wall_ns
    return replace(
        revision, trial=trial, judged_wall_ns=clock.wall_ns() if judged is None else judged
    )


def _digest(files: tuple[SourceFile, ...]) -> str:
    whole = sha256()
    for each in sorted(files, key=lambda file: file.path):
        whole.update(f"{each.path}\0{each.digest}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()[:16]
