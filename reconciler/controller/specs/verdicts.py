"""What follows from a verdict on the revision in force: it is good, paused, or the older content comes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reconciler.controller.specs.apply import Author
from reconciler.controller.specs.files import SpecFiles
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.revisions import Revisions
from reconciler.model.action import RecordVerdict
from reconciler.model.event import Event
from reconciler.model.hiding import shown_lines
from reconciler.model.process import ProcessId
from reconciler.model.spec import Spec
from reconciler.model.value import Part

LOG_LINES: Final = 5
BY_ITSELF: Final = "apply.on_failure"
"""Who rolls back when nobody asked."""


class Verdicts(Part):
    """Tells what came of revisions, and rolls back."""

    in_force: InForce
    revisions: Revisions
    files: SpecFiles
    last_lines: Callable[[ProcessId, int, Callable[[list[str]], None]], None]
    """Hands over so many last lines that a process wrote, none when nobody knows."""
    tell: Callable[[Event], None]

    def resume(self) -> None:
        """Finish what a former controller began: a verdict lies in the store, what follows from it does not."""
        current = self.revisions.current
        if current is not None and current.outcome == "rolled_back":
            self._roll_back(current.number)

    def judged(self, action: RecordVerdict) -> None:
        """Write down what came of a revision, tell it, and do what follows."""
        revision = self.revisions.current
        if revision is None or revision.number != action.revision:
            return  # the next one is on its way to the core
        self.revisions.judged(revision, action.trial)
        if action.trial.outcome == "good":
            why = action.trial.reason or self.revisions.why_idle(action.revision)
            text = f"revision {action.revision} is good: {why}"
            details = {"revision": action.revision, "outcome": "good"}
            self.tell(Event("revision.good", text, details=details))
        elif action.output is not None:
            self._failed(action, shown_lines(action.output))
        else:
            place = ProcessId(action.watcher, action.slot)
            self.last_lines(place, LOG_LINES, lambda found: self._failed(action, found))

    def _failed(self, action: RecordVerdict, written: list[str]) -> None:
        """Tell why a revision is not good, with what the process wrote last."""
        number, trial = action.revision, action.trial
        log = tuple(written[-LOG_LINES:])
        if log:
            self.revisions.amend(number, log=log)
        follows = {
            "paused": "what still runs as before stays so; `reconcile apply --continue` goes on",
            "rolled_back": "it is rolled back",
        }.get(trial.outcome, "it stays in force")
        text = f"revision {number} is not good: {trial.reason}; {follows}"
        details = {
            "revision": number,
            "outcome": trial.outcome,
            "reason": trial.reason,
            "log": list(log),
        }
        event = Event(f"revision.{trial.outcome}", text, action.watcher, action.slot, details)
        self.tell(event)
        if trial.outcome == "rolled_back":
            self._roll_back(number)

    def _roll_back(self, number: int, before: int | None = None) -> None:
        """Put older content in force, of a revision `before` that one; what is unreadable is passed over."""
        older = self.revisions.fallback(number if before is None else before)
        if older is None:
            text = f"revision {number} cannot be rolled back: nothing to go back to can be read"
            self.tell(Event("rollback.failed", text, details={"revision": number}))
            return

        def found(spec: Spec) -> None:
            # Else somebody was faster.
            if self.in_force.revision == number and not self.files.is_ending():
                self.files.restore(older.place, spec, Author(BY_ITSELF))

        def unreadable(reason: str) -> None:
            text = f"the content of revision {older.number} cannot be read: {reason}"
            self.tell(Event("revision.damaged", text))
            self._roll_back(number, older.number)

        self.revisions.read(older.number, found, unreadable)
