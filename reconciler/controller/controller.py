"""The round of one controller: drain observations, ask the core, hand out its actions, sleep until its next instant.

Whatever happens becomes an observation in the inbox; the core is asked once per round. A mistake in the core is not
caught: this process ends with a traceback, its children live on, and the keeper starts another controller. What
comes from outside enters at borders.
"""

from __future__ import annotations

import gc
import os
from functools import partial
from typing import NoReturn

import reconciler
from reconciler.controller.parts import Parts
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Contradiction, Fatal
from reconciler.controller.runtime.keeper_link import LinkClosed
from reconciler.controller.specs.loader import handed_over
from reconciler.controller.specs.revisions import SAVED
from reconciler.controller.state.records import IntentWritten, ServedBy
from reconciler.core import intents
from reconciler.model.event import Event
from reconciler.model.intent import Intent
from reconciler.model.observation import (
    Delivery,
    IntentChanged,
    JobChanged,
    Observation,
    SignalReceived,
    SpecApplied,
)


class Controller(Parts):
    """The parts, and what goes on between them; no part knows it."""

    _wake_at_ns: int | None = None
    _signals_sent: tuple[Delivery, ...] = ()

    def run(self, *, last_good: bool = False) -> NoReturn:
        """Serve until the keeper is gone. Raises `LinkClosed`, and whatever is wrong with us.

        `last_good`: the spec files are ignored until they change.
        """
        self._begin(last_good=last_good)
        # What was imported and read stays: a collection need not look it through each time.
        gc.freeze()
        gc.enable()
        self.notifier.heartbeat()  # the keeper asked with its first words
        try:
            while True:
                is_due = self.inbox or self.shutdown.due
                self.runtime.reactor.wait(0 if is_due else self._wake_at_ns)
                self._round()
        except LinkClosed:
            # There is nothing left to decide, but what was told shall be known later.
            self.write_last()
            raise

    def _round(self) -> None:
        """Ask the core once, and do what it says.

        What fails here is ours: what the core believes and what the keeper was told may differ by now, so
        this controller ends, and the next one begins with what is there. Raises `Contradiction`.
        """
        try:
            self._ask_core()
        except Fatal:
            raise
        except Exception as error:
            raise Contradiction from error

    def _ask_core(self) -> None:
        now_ns = clock.now_ns()
        if self.shutdown.leave_if_due():
            return
        if self.keeper_observations.held_back is not None:
            if not any(isinstance(observation, SpecApplied) for observation in self.inbox):
                return
            self.keeper_observations.release()
        self.specs.schedules.look_at_clock()
        due = self._wake_at_ns is not None and now_ns >= self._wake_at_ns
        if not self.inbox and not due:
            return
        observations = self.inbox.take()
        step = self.core.step(observations, now_ns)
        for observation in observations:
            self._taken(observation)
        self._wake_at_ns = step.wake_at_ns
        self.actions.act(step.actions)
        for event in step.events:
            self.output.tell(event)
        self.shutdown.leave_if_due()
        if step.touched:
            self.output.board.touched(step.touched)
            self.api.touched(step.touched)
        self._signals_sent += step.answered
        self._answer_signals()
        self.runtime.border.guard("notifying systemd", self.notifier.acted)
        self.actions.remember_retiring()
        if self.config.until_done:
            self.jobs_done.look(step.touched)

    def _taken(self, observation: Observation) -> None:
        """Do what waits until the core has an observation: forget an operator's word, follow what the spec says.

        Not before: what is started under the former spec until then gets the former spec's values.
        """
        self.saving.taken(observation)
        if isinstance(observation, SpecApplied):
            follow = partial(self.specs.secrets.follow, observation.spec)
            self.runtime.border.guard("reading secrets", follow)
            watch = partial(self.specs.watched_files.follow, observation.spec)
            self.runtime.border.guard("looking at watched files", watch)
            watch = partial(self.output.limits.follow, observation.spec)
            self.runtime.border.guard("watching limits", watch)
            follow = partial(self.log_owners.follow, observation.spec)
            self.runtime.border.guard("looking up owners of log files", follow)
            follow = partial(self.specs.schedules.follow, observation.spec)
            self.runtime.border.guard("following schedules", follow)

    def _answer_signals(self) -> None:
        """Answer who waits for a signal, once it has left us: what lies here would be lost with us."""
        if self._signals_sent and not self.link.has_unsent:
            answered, self._signals_sent = self._signals_sent, ()
            self.api.waiters.answered(answered)

    # ---- the beginning ----

    def _begin(self, *, last_good: bool) -> None:
        """Put everything known before the core, and look at the spec files."""
        stored, specs, new_keeper = self.stored, self.specs, self.is_new_keeper
        for note in stored.notes:
            self.output.tell(Event("store.damaged", note))
        self.inbox += [JobChanged(watcher, job) for watcher, job in stored.jobs.items()]
        for watcher, intent in stored.intents.items():
            self._recall(watcher, intent)
        self.api.dispatcher.remembered.recall(stored.answered)
        hear = self.keeper_observations.hear
        self.link.open(hear, self._answer_signals)
        hear([each for each in self.first_words if not isinstance(each, SignalReceived)])
        specs.revisions.begin(new_keeper=new_keeper)
        if stored.applied is not None:
            self.follow(stored.applied.spec)
            if not new_keeper:
                specs.source.source = stored.applied.source or specs.source.source
                self._resume()
            # A new manager reads the files that it was started with first, and what was applied before counts
            # only when they cannot be used. What it has taken over goes on meanwhile.
        if new_keeper:
            self.saving.write(ServedBy(self.keeper.keeper_id))
        begin = partial(
            specs.files.begin,
            handed_over(os.getppid(), self.config.reading_fd),
            ignore=last_good,
            ordered_by=(self.config.started_by or SAVED) if new_keeper else "",
            ready=self._judged,
        )
        if not self.runtime.border.guard("looking at the spec files for the first time", begin):
            self._judged()
        # They are about what the spec in force has: it comes first.
        hear([each for each in self.first_words if isinstance(each, SignalReceived)])
        self.log.write(
            "info",
            "controller started",
            version=reconciler.__version__,
            revision=stored.applied.revision if stored.applied else 0,
            last_good=last_good,
        )

    def _recall(self, watcher: str, intent: Intent) -> None:
        """Put an operator's stored word before the core, with its end on the clock of this boot."""
        recalled = intents.recalled(
            intent, self.core.facts.boot_id, clock.now_ns(), clock.wall_ns()
        )
        if recalled != intent:
            self.saving.write(IntentWritten(watcher, recalled))
        self.inbox.append(IntentChanged(watcher, recalled))

    def _resume(self) -> None:
        """Put what was applied before in front of the core."""
        applied, current = self.specs.in_force.applied, self.specs.revisions.current
        assert applied is not None
        trial = current.trial if current is not None else None
        self.inbox.append(SpecApplied(applied.spec, applied.revision, applied.retiring, trial))
        self.keeper_observations.release()
        self.specs.verdicts.resume()
        self._round()

    def _judged(self) -> None:
        """The files were judged for the first time: whatever came of it, clients may now ask."""
        applied = self.specs.in_force.applied
        if (
            self.keeper_observations.held_back is not None
            and applied
            and not self.saving.is_awaited
        ):
            self._resume()
        if applied is None:
            cause = self.specs.standing.message
            self.log.write("error", "there is no spec to start from", cause=cause)
            self.api.server.open()
