"""Methods about revisions: the history, the difference between two, and an older one once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.api.request import Request
from reconciler.controller.specs.apply import Author
from reconciler.controller.specs.parts import Specs
from reconciler.core.changes import changes, come_about
from reconciler.core.reconciler import Reconciler
from reconciler.model.answer import History, RevisionEntry
from reconciler.model.change import Difference
from reconciler.model.errors import RequestError
from reconciler.model.revision import Revision
from reconciler.model.spec import Spec
from reconciler.model.value import Part, replace
from reconciler.wire import methods

CONSENT_TO_ROLLBACK: Final = "`reconcile rollback --allow-removal` does it all the same"


class RevisionMethods(Part):
    """`history`, `diff` and `rollback`."""

    core: Reconciler
    specs: Specs

    def history(self, request: Request, _asked: methods.Parameters) -> None:
        """Answer with the revisions that are kept, newest first."""
        revisions, current = self.specs.revisions, self.specs.revisions.current
        listed = [_shown(each) for each in revisions.newest_first()]
        due_ns, reason = revisions.outlook()
        for place, each in enumerate(listed):
            if each.outcome == "pending":  # none but the one in force
                listed[place] = replace(each, due_ns=due_ns, reason=reason)
        request.reply(History(0 if current is None else current.number, tuple(listed)))

    def diff(self, request: Request, asked: methods.AskDiff) -> None:
        """Answer what a revision says otherwise than another."""
        old, new = asked.old, asked.new
        later = self._current() if new is None else self._known(new)
        earlier = self._before(later) if old is None else self._known(old)

        def both(before: Spec, after: Spec) -> None:
            facts = self.core.facts
            found = changes(before, after, come_about(before, facts), facts)
            request.reply(Difference(earlier.number, later.number, found))

        def read_later(before: Spec) -> None:
            self._read(request, later, lambda after: both(before, after))

        self._read(request, earlier, read_later)

    def _before(self, revision: Revision) -> Revision:
        """Return the revision before this one that is still kept."""
        known = self.specs.revisions.newest_first()
        found = next((each for each in known if each.number < revision.number), None)
        if found is None:
            message = f"no revision before {revision.number} is kept"
            raise RequestError(code="not_found", message=message, hint="reconcile history")
        return found

    def rollback(self, request: Request, asked: methods.Rollback) -> None:
        """Put an older content in force."""
        older = self._wanted(asked.revision)
        self._read(request, older, lambda spec: self._take_again(request, asked, older, spec))

    def _wanted(self, number: int | None) -> Revision:
        """Return the revision to go back to: the one asked for, or the newest good one before the present."""
        current = self._current()
        if number is None:
            found = self.specs.revisions.good_before(current.place)
            if found is None:
                message = f"there is no good revision before {current.place}"
                hint = "`reconcile history` lists them; `reconcile rollback REVISION` takes any"
                raise RequestError(code="not_found", message=message, hint=hint)
            return found
        if number == current.number:
            raise RequestError(code="conflict", message=f"revision {number} is the one in force")
        return self._known(number)

    def _take_again(
        self, request: Request, asked: methods.Rollback, older: Revision, spec: Spec
    ) -> None:
        """Answer what going back does, and do it unless it is a dry run. Raises `RequestError` when refused."""
        request.refuse_at_the_end()
        answer: dict[str, object] = {
            "revision": self.specs.in_force.revision,
            "restores": older.place,
            "changes": self.specs.in_force.changes(spec),
            "drift": self.specs.in_force.drift(spec),
        }
        if asked.dry_run or spec == self.specs.in_force.spec:
            request.reply({**answer, "applied": not asked.dry_run})
            return
        refusal = None if asked.allow_removal else self.specs.in_force.refusal(spec)
        if refusal is not None:
            raise RequestError(code="conflict", message=refusal, hint=CONSENT_TO_ROLLBACK)
        self.specs.in_force.check_base(asked.base)

        def stored(revision: int) -> None:
            request.guard(lambda: request.reply({**answer, "revision": revision, "applied": True}))

        message = f"to the content of revision {older.place}"
        request.tell(message, restores=older.place)
        author = Author(request.who, request.uid, asked.reason)
        self.specs.files.restore(older.place, spec, author, then=stored)

    # ---- helpers ----

    def _current(self) -> Revision:
        current = self.specs.revisions.current
        if current is None:
            message = "the revision in force has no entry in the history"
            hint = "`reconcile apply` makes one with the next edit"
            raise RequestError(code="conflict", message=message, hint=hint)
        return current

    def _known(self, number: int) -> Revision:
        found = self.specs.revisions.known.get(number)
        if found is None:
            numbers = [each.number for each in self.specs.revisions.newest_first()]
            kept = f"{numbers[-1]} to {numbers[0]} are kept" if numbers else "none is kept"
            raise RequestError(
                code="not_found", message=f"there is no revision {number}", hint=kept
            )
        return found

    def _read(self, request: Request, revision: Revision, then: Callable[[Spec], None]) -> None:
        """Hand over its spec; that it is unreadable, or refused, is the request's answer."""

        def unreadable(reason: str) -> None:
            message = f"cannot read the content of revision {revision.number}: {reason}"
            request.fail(RequestError("conflict", message, hint="`reconcile history` lists others"))

        self.specs.revisions.read(
            revision.number,
            lambda spec: request.guard(lambda: then(spec)),
            unreadable,
            uid=request.uid,
        )


def _shown(it: Revision) -> RevisionEntry:
    """Return an entry of the history as clients see it."""
    return RevisionEntry(
        it.number, it.wall_ns, it.who, it.uid, it.digest, it.commit, it.dirty, it.restores, it.outcome,
        it.trial.reason, it.judged_wall_ns, log=it.log,
    )  # fmt: skip
