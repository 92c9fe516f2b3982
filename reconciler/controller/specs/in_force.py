"""The newest spec that was accepted, and what another one would change; the core has it once it is stored."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controller.runtime import clock
from reconciler.controller.state.records import Applied
from reconciler.core.changes import changes, removal_refused
from reconciler.core.changes import drift as core_drift
from reconciler.core.impact import with_impact
from reconciler.core.reconciler import Reconciler
from reconciler.model.change import Change, Drift
from reconciler.model.errors import RequestError
from reconciler.model.observed import WatcherObserved
from reconciler.model.spec import ApplySpec, Spec
from reconciler.model.value import Part


class InForce(Part):
    """Holds it; `applied` is None as long as there is none. `observed` tells of a watcher what operators want of it."""

    applied: Applied | None
    core: Reconciler
    observed: Callable[[str], WatcherObserved]

    @property
    def spec(self) -> Spec | None:
        """Return the spec itself."""
        return self.applied.spec if self.applied is not None else None

    @property
    def revision(self) -> int:
        """Return its number, 0 when there is none."""
        return self.applied.revision if self.applied is not None else 0

    @property
    def settings(self) -> ApplySpec:
        """Return what it says of how saved files are applied."""
        return self.applied.spec.apply if self.applied is not None else ApplySpec()

    def changes(self, spec: Spec) -> tuple[Change, ...]:
        """Return what applying a spec now would do."""
        # What the first spec says of the manager itself is in force already: it was started so.
        old = self.spec or Spec(daemon=spec.daemon, apply=spec.apply)
        found = changes(old, spec, self.core.observed, self.core.facts)
        return with_impact(found, old, spec, self.core.observed)

    def drift(self, spec: Spec) -> tuple[Drift, ...]:
        """Return what operators keep otherwise than a spec says, also after it is applied."""
        return core_drift(spec, self.observed, clock.wall_offset_ns())

    def refusal(self, spec: Spec) -> str | None:
        """Return why a spec removes too much to be applied unasked, or None."""
        old = self.spec
        return None if old is None else removal_refused(old, spec, self.core.observed)

    def check_base(self, base: int | None) -> None:
        """Refuse what was planned on another revision than the one in force. Raises `RequestError`."""
        if base not in {None, self.revision}:
            raise RequestError(
                code="conflict",
                message=f"revision {self.revision} is in force by now, the plan was made on revision {base}",
                hint="look at the plan again",
            )
