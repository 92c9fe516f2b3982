"""The trial of the revision in force: what of it is still to be proven, and the verdict when it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.core import verdict
from reconciler.core.plan import WHOLE, Plan
from reconciler.core.verdict import Finding
from reconciler.model.action import RecordVerdict
from reconciler.model.observed import WatcherObserved
from reconciler.model.revision import Outlook, Trial
from reconciler.model.spec import WatcherSpec
from reconciler.model.value import replace


class Proof:
    """A revision on trial, and what is known of it. `trial` None: nobody asks whether it is good."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self.revision = 0
        self._unproven: dict[str, dict[int, Finding]] = {}
        """Watchers of the trial, and their slots, that have not stayed up long enough yet."""

    def begin(self, revision: int, trial: Trial | None) -> set[str]:
        """Put a revision on trial, or none; return the watchers that have something to prove."""
        self.trial, self.revision = trial, revision
        changed = trial.changed if trial is not None else {}
        self._unproven = {n: {WHOLE: Finding("open", f"{n} does not run yet")} for n in changed}
        return set(changed)

    @property
    def is_pending(self) -> bool:
        """Tell whether a verdict is still to come."""
        return self.trial is not None and self.trial.outcome == "pending"

    def outlook(self, why: Callable[[str, int], str]) -> Outlook | None:
        """Return when the revision is judged if nothing happens; None when none is on trial.

        `why` tells why a slot of a watcher does not run.
        """
        if not self.is_pending:
            return None
        lasts = {name: verdict.last(found.values()) for name, found in self._unproven.items()}
        last = verdict.last(found for found in lasts.values() if found is not None)
        if last is None:
            return Outlook(None)
        name = next(name for name, found in lasts.items() if found is last)
        return Outlook(last.due_ns, last.reason or ("" if last.due_ns else why(name, last.slot)))

    def judge(self, plan: Plan, base_hash: str) -> RecordVerdict | None:
        """See whether a watcher lets the revision fail, or has proven it.

        Comes before its plan: what died is replaced there, and a roll must not go on.
        """
        trial, name = self.trial, plan.name
        if trial is None or not self.is_pending or name not in trial.changed or plan.retired:
            return None
        found = verdict.find(plan, trial, base_hash)
        self._note(plan, {slot: each for slot, each in found.items() if each.state == "open"})
        failed = next((each for each in found.values() if each.state == "failed"), None)
        if failed is None:
            return None
        outcome = verdict.OUTCOME_OF_FAILURE[trial.on_failure]
        self.trial = replace(trial, outcome=outcome, reason=failed.reason, watcher=name)
        return RecordVerdict(self.revision, self.trial, name, failed.slot, failed.output)

    def _note(self, plan: Plan, opened: dict[int, Finding]) -> None:
        """Take down what of a watcher is still to be proven; slots that are not looked at stay as they were."""
        if plan.slots.looked_at is not None:
            known = self._unproven.get(plan.name, {})
            for slot in (WHOLE, *plan.slots.looked_at):
                known.pop(slot, None)
            known.update(opened)
            opened = known
        self._unproven.pop(plan.name, None)
        if opened:
            self._unproven[plan.name] = opened

    @property
    def is_proven(self) -> bool:
        """Tell whether everything that the revision changed has proven it, and nobody has said so."""
        return self.is_pending and not self._unproven

    def confirm(
        self, known: Mapping[str, tuple[WatcherSpec, WatcherObserved]], now_ns: int
    ) -> RecordVerdict:
        """Call the revision good, for what is known of the watchers that it changed."""
        assert self.trial is not None
        reason = verdict.why_good(known, now_ns)
        self.trial = replace(self.trial, outcome="good", reason=reason)
        return RecordVerdict(self.revision, self.trial)
