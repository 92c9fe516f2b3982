"""The method runs: what the ledger holds of jobs, which run was fired when, by what and whom, and how it ended.

The newest run of each slot is known in memory, too, and may be newer there than on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.controller.api.selectors import select, wanted
from reconciler.controller.runtime import clock
from reconciler.controller.state.queries import stored_runs
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.controller.api.request import Request
    from reconciler.controller.state.queries import Key
    from reconciler.model.job import Run
    from reconciler.wire.methods import AskRuns


@dataclass(eq=False)
class RunMethods:
    """`runs`."""

    core: Reconciler
    saving: Saving

    def runs(self, request: Request, asked: AskRuns) -> object:
        """Answer with the newest runs of some jobs."""
        selected, limit = select(self.core, wanted(asked), needed=True), asked.limit
        jobs, path = {}, self.saving.store.path
        for name, slots in selected.slots.items():
            spec = self.core.watcher_spec(name)
            if spec is not None and spec.is_job:
                jobs[name] = slots
            elif name in selected.by_name:
                hint = "only jobs (restart: never) have runs; see: reconcile events"
                message = f"{name} is a service, not a job"
                raise RequestError(code="invalid_request", message=message, hint=hint)

        def read(stored: dict[Key, Run] | None) -> None:
            found = stored or {}
            for name, slots in jobs.items():
                for slot, run in self.saving.observed(name).job.runs.items():
                    key = (name, slot, run.generation)
                    if slots is not None and slot not in slots:
                        continue
                    # The row has wall times, so it counts unless the run has ended since.
                    if key not in found or found[key].outcome != run.outcome:
                        found[key] = run
            request.reply({"runs": _told(found, limit), "complete": stored is not None})

        return request.in_lane("records", lambda: stored_runs(path, jobs, limit), read)


def _told(found: Mapping[Key, Run], limit: int) -> list[dict[str, object]]:
    """Return runs as clients see them, the newest first."""
    offset = clock.wall_offset_ns()
    fired = {key: run.fired_wall_ns or run.fired_at_ns + offset for key, run in found.items()}
    newest = sorted(found, key=lambda key: (fired[key], key[2], -key[1]), reverse=True)
    return [
        {
            "name": key[0],
            "slot": key[1],
            "generation": key[2],
            "trigger": found[key].trigger,
            "who": found[key].who,
            "fired_ns": fired[key],
            "ended_ns": _ended_ns(found[key], fired[key]),
            "duration_ns": found[key].duration_ns,
            "outcome": found[key].outcome,
            "pid": found[key].pid,
            "exit": found[key].exit,
            "note": found[key].note,
        }
        for key in newest[:limit]
    ]


def _ended_ns(run: Run, fired_ns: int) -> int | None:
    if run.ended_wall_ns is not None or run.duration_ns is None:
        return run.ended_wall_ns
    return fired_ns + run.duration_ns
