"""The method runs: what the ledger holds of jobs, which run was fired when, by what and whom, and how it ended.

The newest run of each slot is known in memory, too, and may be newer there than on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import select, wanted
from reconciler.controller.runtime import clock
from reconciler.controller.state.queries import Key, stored_runs
from reconciler.controller.state.saving import Saving
from reconciler.core.reconciler import Reconciler
from reconciler.model.answer import RunEntry
from reconciler.model.errors import RequestError
from reconciler.model.job import Run
from reconciler.model.value import Part
from reconciler.wire.methods import AskRuns


class RunMethods(Part):
    """`runs`."""

    core: Reconciler
    saving: Saving

    def runs(self, request: Request, asked: AskRuns) -> None:
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

        request.in_lane("records", lambda: stored_runs(path, jobs, limit), read)


def _told(found: Mapping[Key, Run], limit: int) -> list[RunEntry]:
    """Return runs as clients see them, the newest first."""
    offset = clock.wall_offset_ns()
    fired = {key: run.fired_wall_ns or run.fired_at_ns + offset for key, run in found.items()}
    newest = sorted(found, key=lambda key: (fired[key], key[2], -key[1]), reverse=True)
    return [_entry(key, found[key], fired[key]) for key in newest[:limit]]


def _entry(key: Key, run: Run, fired_ns: int) -> RunEntry:
    ended_ns = run.ended_wall_ns
    if ended_ns is None and run.duration_ns is not None:
        ended_ns = fired_ns + run.duration_ns
    return RunEntry(
        *key, run.trigger, run.who, fired_ns, ended_ns, run.duration_ns, run.outcome, run.pid, run.exit, run.note,
        run.instant_ns,
    )  # fmt: skip
