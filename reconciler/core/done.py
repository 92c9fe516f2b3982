"""When a spec of jobs alone is done: counted as watchers change, so that no observation costs a look at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from reconciler.model.spec import Spec

Outcome: TypeAlias = Literal["open", "passed", "failed"]
"""What came of a job: `open` until it has ended and nothing of it is left."""


class Done:
    """The jobs that are open, and those that have failed."""

    def __init__(self) -> None:
        self._spec: Spec | None = None
        self._has_only_jobs = False
        self._open: set[str] = set()
        self._failed: set[str] = set()

    def code(
        self, spec: Spec, touched: Iterable[str], outcome: Callable[[str], Outcome]
    ) -> int | None:
        """Return 0 or 1 by the outcomes when there are only jobs and all have ended, else None.

        `touched` are the watchers that may have changed since the last call.
        """
        if spec is not self._spec:
            watchers = spec.watchers
            self._spec = spec
            self._has_only_jobs = all(each.is_job for each in watchers.values()) and bool(watchers)
            self._open, self._failed = set(), set()
            touched = watchers
        if not self._has_only_jobs:
            return None
        for name in touched:
            self._open.discard(name)
            self._failed.discard(name)
            if name in spec.watchers:
                came = outcome(name)
                if came != "passed":
                    (self._open if came == "open" else self._failed).add(name)
        return None if self._open else int(bool(self._failed))
