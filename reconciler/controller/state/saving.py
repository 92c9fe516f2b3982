"""What is on its way to the disk, and what goes on once it lies there.

While nothing can be written (disk full) it goes on at once: an operator's word must count just then, and the store
keeps the record. Only runs of jobs wait, see `RunRecorded`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from reconciler.controller.runtime.borders import Border, Fatal
from reconciler.controller.state.records import (
    EventsWritten,
    GenerationWritten,
    IntentWritten,
    Record,
    RunWritten,
)
from reconciler.controller.state.store import (
    Answer,
    Damaged,
    PutBack,
    Recovered,
    Store,
    Trouble,
    Unwritable,
    WriterDied,
    Written,
)
from reconciler.core.reconciler import Reconciler
from reconciler.model.event import Event
from reconciler.model.intent import Intent
from reconciler.model.job import Generation
from reconciler.model.observation import IntentChanged, JobChanged, Observation, RunRecorded
from reconciler.model.observed import WatcherObserved
from reconciler.model.value import Part, field, replace


class StoreDamaged(Fatal):
    """The database broke while it was in use; the next controller moves it aside and says so."""


class Saving(Part):
    """Gives records to the store and takes its answers."""

    store: Store
    core: Reconciler
    border: Border
    tell: Callable[[Event], None]
    feed: Callable[[Observation], None]
    events_written: Callable[[EventsWritten], None]
    damage: tuple[str, ...]
    """What was found damaged at the beginning."""
    trouble: str = ""
    """Why nothing can be written just now, empty when all is well."""
    intents: dict[str, Intent] = field(default_factory=dict)
    generations: dict[str, Generation] = field(default_factory=dict)
    """What was accepted of a watcher and the core does not have yet: the next request builds upon it."""
    _waiting: dict[int, Callable[[], object]] = field(default_factory=dict)

    def write(self, record: Record) -> None:
        """Store something; nobody waits for it."""
        self.store.write(record)

    def write_then(
        self,
        record: Record,
        then: Callable[[], None],
        guard: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        """Store something and go on once it lies on the disk, behind the border of who has asked."""
        self.store.write(record)
        where = f"going on after storing {type(record).__name__}"
        behind = guard or partial(self.border.guard, where)
        if self.trouble:
            behind(then)
        else:
            self._waiting[id(record)] = lambda: behind(then)

    @property
    def is_awaited(self) -> bool:
        """Tell whether something goes on when a record lies on the disk."""
        return bool(self._waiting)

    def observed(self, name: str) -> WatcherObserved:
        """Return what is known of a watcher, with what is still being stored of it."""
        observed = self.core.observed(name)
        intent, generation = self.intents.get(name), self.generations.get(name)
        if intent is not None:
            observed = replace(observed, intent=intent)
        if generation is not None:
            observed = replace(observed, job=replace(observed.job, generation=generation))
        return observed

    def accept(self, entries: Sequence[IntentWritten | GenerationWritten]) -> None:
        """Take note of what is being stored: whoever asks next builds upon it."""
        for entry in entries:
            match entry:
                case IntentWritten(watcher, intent):
                    self.intents[watcher] = intent
                case GenerationWritten(watcher, generation):
                    self.generations[watcher] = generation

    def taken(self, observation: Observation) -> None:
        """Forget what the core has by now."""
        match observation:
            case IntentChanged(watcher, intent) if self.intents.get(watcher) is intent:
                del self.intents[watcher]
            case JobChanged(watcher, job) if self.generations.get(watcher) is job.generation:
                self.generations.pop(watcher, None)
            case _:
                pass

    def take(self, answers: Sequence[Answer]) -> None:
        """Take what the store has to say. Raises `StoreDamaged`."""
        for answer in answers:
            match answer:
                case Written(RunWritten(watcher, run, _)):
                    self.feed(RunRecorded(watcher, run))
                case Written(record):
                    self._go_on_after(record)
                case Unwritable(record, message):
                    self.tell(Event("store.failed", f"{message}; it is lost when the manager ends"))
                    self._go_on_after(record)
                case WriterDied(message):
                    self.tell(Event("store.failed", f"{message}; another one goes on"))
                    self.store.replace_writer()
                case Trouble(message):
                    self.trouble = message
                    text = f"{message}; tried again until it works, jobs wait"
                    self.tell(Event("store.failed", text))
                    waiting, self._waiting = self._waiting, {}
                    for then in waiting.values():
                        then()
                case Recovered():
                    self.trouble = ""
                    self.tell(Event("store.recovered", "state is written again"))
                case PutBack(message):
                    self.tell(Event("store.damaged", message))
                case Damaged(message):
                    raise StoreDamaged(message)

    def _go_on_after(self, record: Record) -> None:
        if isinstance(record, EventsWritten):
            self.events_written(record)
        then = self._waiting.pop(id(record), None)
        if then is not None:
            then()
