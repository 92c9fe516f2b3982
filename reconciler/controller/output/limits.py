"""Which processes use more than their watchers allow (`limits.max_memory`, `limits.max_cpu`).

Nobody tells what a process uses, so this is asked for at an interval: the one thing of the manager that is. Only
watchers that have such a limit are looked at, in a background lane, one look at a time; without any there is no timer.

The core is told when a process comes to be above a limit, and when it no longer is. The rest, samples and what was
told, is found again by the next controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from reconciler.controller.output.usage import Usage, Watch
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core.reconciler import Reconciler
from reconciler.model.observation import LimitExceeded, Observation, WatchedLimit
from reconciler.model.process import ProcessId, Running
from reconciler.model.spec import LimitsSpec, Spec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, Struct, field

SAMPLE_NS: Final = 2 * SECOND_NS
"""From one sample to the next. Processor time is what was used in between."""


class Asked(Struct, frozen=True):
    """A process that is looked at."""

    id: ProcessId
    incarnation: int
    pid: int
    limits: LimitsSpec


class Seen(Part):
    """What was seen of one process in its last samples."""

    above: dict[WatchedLimit, list[int]] = field(default_factory=dict)
    """By limit what it used, in samples in a row that were above it."""
    told: LimitExceeded | None = None
    allowed: int | None = None
    """The limit when that was told."""


class LimitWatch(Part):
    """Looks at the processes of watchers with a limit."""

    core: Reconciler
    reactor: Reactor
    lanes: Lanes
    feed: Callable[[Observation], None]
    _names: tuple[str, ...] = ()
    """The watchers that have a limit."""
    _watch: Watch = field(default_factory=Watch)
    _seen: dict[tuple[ProcessId, int], Seen] = field(default_factory=dict)
    _is_on: bool = False

    def follow(self, spec: Spec) -> None:
        """Look at the watchers of this spec that have a limit."""
        self._names = tuple(name for name, each in spec.watchers.items() if _has_any(each.limits))
        if not self._is_on and (self._names or self._seen):
            self._is_on = True
            self._ask()

    def _ask(self) -> None:
        """Take a sample; the next one comes when this has been judged and its time has come."""
        asked = [
            Asked(
                record.id,
                record.incarnation,
                record.phase.pid,
                self.core.spec.watchers[name].limits,
            )
            for name in self._names
            if name in self.core.spec.watchers
            for record in self.core.live(name)
            if isinstance(record.phase, Running) and record.memory.stopping_since_ns is None
        ]
        due_ns = clock.now_ns() + SAMPLE_NS
        most = {each.pid: each.limits.max_memory for each in asked}
        self.lanes.run(
            "processes",
            lambda: self._watch.sample(most),
            lambda found: self._judge(asked, found, due_ns),
            lambda _: self._go_on(due_ns),
        )

    def _judge(self, asked: list[Asked], found: Mapping[int, Usage], due_ns: int) -> None:
        keys = {(each.id, each.incarnation) for each in asked}
        for key in self._seen.keys() - keys:
            if self._seen.pop(key).told is not None:  # nobody looks at it any more
                self.feed(LimitExceeded(*key))
        for each in asked:
            if each.pid in found:
                self._judge_one(each, found[each.pid])
        self._go_on(due_ns)

    def _judge_one(self, asked: Asked, usage: Usage) -> None:
        key, limits = (asked.id, asked.incarnation), asked.limits
        seen = self._seen.get(key) or Seen()
        used: dict[WatchedLimit, int] = {
            "max_memory": usage.memory_bytes,
            "max_cpu": int(usage.cpu_percent),
        }
        exceeded, allowed = None, None
        for name, amount in used.items():
            most: int | None = getattr(limits, name)
            if most is None or amount <= most:
                seen.above.pop(name, None)
                continue
            row = [*seen.above.get(name, ()), amount][-limits.max_count :]
            seen.above[name] = row
            if exceeded is None and len(row) >= limits.max_count:
                exceeded, allowed = LimitExceeded(*key, name, min(row), len(row)), most
        was, now = seen.told and seen.told.limit, exceeded and exceeded.limit
        if (was, seen.allowed) != (now, allowed):
            seen.told, seen.allowed = exceeded, allowed
            self.feed(exceeded or LimitExceeded(*key))
        if seen.above or seen.told:
            self._seen[key] = seen
        else:
            self._seen.pop(key, None)

    def _go_on(self, due_ns: int) -> None:
        """Take the next sample in time, or none when nothing is left to look at."""
        self._is_on = bool(self._names or self._seen)
        if self._is_on:
            self.reactor.at(self, due_ns, self._ask)
        else:
            self._watch = Watch()


def _has_any(limits: LimitsSpec) -> bool:
    return limits.max_memory is not None or limits.max_cpu is not None
