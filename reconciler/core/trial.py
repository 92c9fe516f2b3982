"""The trial of the revision in force: what of it is still to be proven, and the verdict when it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import verdict
from reconciler.core.verdict import Finding
from reconciler.model.action import RecordVerdict
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.plan import Draft
    from reconciler.model.observed import WatcherObserved
    from reconciler.model.revision import Outlook, Trial
    from reconciler.model.spec import WatcherSpec


class Proof:
    """A revision on trial, and what is known of it. `trial` None: nobody asks whether it is good."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self.revision = 0
        self._unproven: dict[str, Finding] = {}
        """Watchers of the trial that have not stayed up long enough yet."""

    def begin(self, revision: int, trial: Trial | None) -> set[str]:
        """Put a revision on trial, or none; return the watchers that have something to prove."""
        self.trial, self.revision = trial, revision
        changed = trial.changed if trial is not None else {}
        self._unproven = {name: Finding("open", f"{name} does not run yet") for name in changed}
        return set(changed)

    @property
    def is_pending(self) -> bool:
        """Tell whether a verdict is still to come."""
        return self.trial is not None and self.trial.outcome == "pending"

    def outlook(self) -> Outlook | None:
        """Return when the revision is judged if nothing happens; None when none is on trial."""
        return verdict.outlook(self._unproven.values()) if self.is_pending else None

    def judge(self, draft: Draft, base_hash: str) -> RecordVerdict | None:
        """See whether a watcher lets the revision fail, or has proven it.

        Comes before its plan: what died is replaced there, and a roll must not go on.
        """
        trial, name = self.trial, draft.name
        if trial is None or not self.is_pending or name not in trial.changed or draft.retired:
            return None
        found = verdict.find(draft, trial, base_hash)
        if found.state == "proven":
            self._unproven.pop(name, None)
        else:
            self._unproven[name] = found
        if found.state != "failed":
            return None
        outcome = verdict.OUTCOME_OF_FAILURE[trial.on_failure]
        self.trial = replace(trial, outcome=outcome, reason=found.reason, watcher=name)
        return RecordVerdict(self.revision, self.trial, name, found.slot, found.output)

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
