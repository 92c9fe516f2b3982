"""The loop: drain events, ask the core, hand out its actions, sleep until its next instant.

`Controller` is the one object that all parts act upon. Whatever happens becomes an event in its inbox;
the core is asked once per round. A mistake in the core is not caught: this process ends with a traceback,
its children live on, and the keeper starts another controller. What comes from outside enters at borders.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import reconciler
from reconciler.controller import clock, upgrading
from reconciler.controller.accounts import SocketOwners
from reconciler.controller.borders import Border, Fatal
from reconciler.controller.compress import Compressor
from reconciler.controller.entries import (
    EventsTold,
    GenerationWritten,
    IntentWritten,
    RetiringChanged,
    RunWritten,
    ServedBy,
)
from reconciler.controller.event_log import EventLog
from reconciler.controller.files import SpecFiles
from reconciler.controller.lanes import Lanes
from reconciler.controller.last_words import LastWords
from reconciler.controller.link import Link, LinkClosed
from reconciler.controller.loader import handed_over
from reconciler.controller.log_places import LogPlaces
from reconciler.controller.news import NewsRoom
from reconciler.controller.notifying import Notifier
from reconciler.controller.own_log import Log
from reconciler.controller.port_holders import PortHolders
from reconciler.controller.reactor import READ, WRITE, Reactor
from reconciler.controller.revisions import SAVED, Revisions
from reconciler.controller.secrets import Secrets
from reconciler.controller.server import Server
from reconciler.controller.status import StatusBoard
from reconciler.controller.store import (
    Damaged,
    PutBack,
    Recovered,
    Store,
    Trouble,
    Unwritable,
    WriterDied,
    Written,
)
from reconciler.core import intents
from reconciler.core.reconciler import Reconciler
from reconciler.model.action import (
    Bind,
    Forget,
    Notify,
    Quit,
    ReadSecrets,
    RecordGeneration,
    RecordIntent,
    RecordRun,
    RecordVerdict,
    Spawn,
    Unbind,
)
from reconciler.model.event import (
    IntentChanged,
    JobChanged,
    KeeperIntroduced,
    LogRotated,
    PulseAsked,
    RecordChanged,
    RunRecorded,
    ShutdownAsked,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
    SpecApplied,
    UpgradeFailed,
)
from reconciler.model.news import News
from reconciler.model.observed import Facts
from reconciler.model.process import MAIN, Exited, pid_of
from reconciler.model.socket import BindRefused, SocketRecord
from reconciler.model.spec import KEEP_RUNS
from reconciler.model.units import MILLISECOND_NS, SECOND_NS, format_count, format_duration
from reconciler.model.value import replace
from reconciler.wire.link import ProtocolError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping

    from reconciler.controller.config import Config
    from reconciler.controller.entries import Applied, Entry
    from reconciler.controller.exchange import Exchange
    from reconciler.model.action import Action, KeeperAction
    from reconciler.model.event import Delivery, Event, KeeperEvent
    from reconciler.model.intent import Intent
    from reconciler.model.job import Generation
    from reconciler.model.observed import WatcherObserved
    from reconciler.model.process import ProcessId
    from reconciler.model.spec import DaemonLogSpec, Spec, WatcherSpec

EVENTS_PER_ROUND: Final = 500
"""When thousands of processes end at once, others get their turn in between."""
VIEWER_NS: Final = 2 * SECOND_NS
VIEWER_POLL_NS: Final = 20 * MILLISECOND_NS
"""How long, and how often, who shows what happens is looked for before an end that is there from the beginning."""
MAX_DONE: Final = 5
"""Jobs that are named at such an end."""
HOOK_RUNNER: Final = str(Path(reconciler.__file__).with_name("hook") / "__main__.py")
LOG_LEVEL_OF_NEWS: Final = {
    "failed": "warning",
    "fault": "error",
    "rejected": "error",
    "held": "warning",
    "missing": "warning",
    "writable": "warning",
    "watching": "warning",
    "damaged": "error",
    "denied": "warning",
    "paused": "warning",
    "rolled_back": "warning",
}
"""By the last word of a news type; all else is info."""


class StoreDamaged(Fatal):
    """The database broke while it was in use; the next controller moves it aside and says so."""


class Contradiction(Fatal):
    """The core has failed, or what it was to be told is lost: what is believed may not be so any more."""


class Controller:
    """Everything that one controller knows and holds."""

    def __init__(
        self,
        config: Config,
        link: socket.socket,
        control: socket.socket,
        *,
        last_good: bool = False,
    ) -> None:
        """Open the store. Raises what `Store` raises."""
        self.config = config
        self.log = Log(config.log_level, config.log_format, config.log_file, config.state_dir)
        self.border = Border(self.log, self.tell)
        self.reactor = Reactor(self.border.report)
        self.lanes = Lanes(self.reactor, self.border.report)
        self.store = Store(config.state_dir)
        self.applied: Applied | None = None
        """The newest spec that was accepted; the core has it once it is stored."""
        self.ledger_lost = False
        self.store_trouble = ""
        """Why nothing can be written just now, empty when all is well."""
        self.store_damage: tuple[str, ...] = ()
        """What this controller found damaged when it began."""
        self.shutting_down = False
        self.keeper = KeeperIntroduced("", "", os.getppid(), 0, "")
        """Who the keeper is, as it says itself once it was met."""
        self.upgrading: Exchange | None = None
        """The request that waits for the keeper to replace its code, which ends this process."""
        self.pid = os.getpid()
        self.pending_intents: dict[str, Intent] = {}
        self.pending_generations: dict[str, Generation] = {}
        """What was accepted and is on its way to disk and core: the next request builds upon it."""
        self._last_good = last_good
        self._begun_ns = clock.now_ns()
        self._has_fired = False
        """A run of a job was recorded in the life of this manager, as far as we know."""
        self._link = Link(link)
        self._inbox: list[Event] = []
        self._held_back: list[KeeperEvent] | None = []
        """Keeper events that came before there was a spec: without one the core would stop everything."""
        self._written: dict[int, Callable[[], object]] = {}
        self._quit: Quit | None = None
        self._is_new_keeper = False
        """Nothing was told yet of what a keeper that was not here before has taken over."""
        self._taken_over = 0
        self._dead: set[ProcessId] | None = set()
        """What the keeper's snapshot shows dead, as long as the snapshot goes on."""
        self._wake_at_ns: int | None = None
        self._signals_sent: list[Delivery] = []
        self._retiring: Mapping[str, WatcherSpec] = {}
        self.news: NewsRoom = NewsRoom(1)
        self.event_log: EventLog
        self.reconciler: Reconciler
        self.secrets = Secrets(self)
        self._socket_owners = SocketOwners(self.lanes, self.send_to_keeper)
        self.revisions = Revisions(self)
        self.files = SpecFiles(self, config.source)
        self.status = StatusBoard(self)
        self.last_words = LastWords(self)
        self.log_places = LogPlaces(lambda: self.reconciler, self.status.of)
        self.notifier = Notifier(self, self._notify)
        self.compressor = Compressor(self)
        self.port_holders = PortHolders(self)
        self.server = Server(self, control)

    # ---- what the other files ask for ----

    def feed(self, event: Event) -> None:
        """Put an event before the core, in this round or the next."""
        self._inbox.append(event)

    def tell(self, news: News) -> None:
        """Number a piece of news, keep it, log it, and send it to those who follow."""
        at_ns = clock.now_ns() if news.at_ns is None else news.at_ns
        entry = self.news.add(news, clock.wall_offset_ns() + at_ns)
        self.event_log.add(entry)
        level = LOG_LEVEL_OF_NEWS.get(news.type.rpartition(".")[2], "info")
        watcher, slot = news.watcher or None, news.slot or None
        # What a process does again and again is counted there, what people ask for is written each time.
        is_asked = news.type.startswith("operator.") or watcher is None
        repeats = None if is_asked else (watcher, slot or "")
        self.log.write(
            level, news.type, repeats=repeats, watcher=watcher, slot=slot, text=news.message
        )
        self.server.streams.tell(entry)

    def broken_thread(self, where: str, error: BaseException) -> None:
        """Report what went wrong in a thread; may be called in any."""
        self.lanes.hand_over(lambda: self._report(where, error))

    def _report(self, where: str, error: BaseException) -> None:
        self.border.report(where, error)

    def tell_from_thread(self, message: str) -> None:
        """Tell that files are watched in another way than usual; may be called in any thread."""
        if message:
            self.lanes.hand_over(lambda: self.tell(News("files.watching", message)))

    def write_then(
        self,
        entry: Entry,
        then: Callable[[], None],
        guard: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        """Store something and go on once it lies on the disk, behind the border of who has asked.

        While nothing can be written (disk full) it goes on at once: an operator's word must count just
        then, and the store keeps the entry. Only runs of jobs wait, see `RunRecorded`.
        """
        self.store.write(entry)
        behind = guard or partial(
            self.border.guard, f"going on after storing {type(entry).__name__}"
        )
        if self.store_trouble:
            behind(then)
        else:
            self._written[id(entry)] = lambda: behind(then)

    def observed(self, name: str) -> WatcherObserved:
        """Return what is known of a watcher, with the operator's words that are still being stored."""
        observed = self.reconciler.observed(name)
        intent, generation = self.pending_intents.get(name), self.pending_generations.get(name)
        if intent is not None:
            observed = replace(observed, intent=intent)
        if generation is not None:
            observed = replace(observed, job=replace(observed.job, generation=generation))
        return observed

    def retiring(self) -> Mapping[str, WatcherSpec]:
        """Return the watchers of former specs that are still being stopped."""
        return self.reconciler.retiring()

    def shut_down(self, *, now: bool, code: int = 0) -> bool:
        """End everything, in order, or without grace; tells whether all that runs is left to the next one."""
        if not self.shutting_down:
            self.notifier.stopping()
        leaves = self.applied is not None and self.applied.spec.daemon.on_exit == "leave"
        if leaves and not now:
            if not self.shutting_down:
                self.tell(News("manager.left", "ends, and leaves all that runs to the next one"))
            self.shutting_down, self._quit = True, Quit(code, leaves=True)
            return True
        how = "kills everything at once" if now else "stops everything in order"
        if now or not self.shutting_down:
            self.tell(News("manager.stopping", how, details={"now": now}))
        self.shutting_down = True
        self._release()
        self.feed(ShutdownAsked(now, code))
        return False

    def follow_daemon(self, spec: Spec) -> None:
        """Take from the spec who may call, and level and format of the log.

        What else it says of the manager counts at the next start.
        """
        self.server.access.follow(spec.daemon)
        settings: DaemonLogSpec = spec.daemon.log
        self.log.level, self.log.format = settings.level, settings.format

    # ---- the loop ----

    def run(self) -> NoReturn:
        """Serve until the keeper is gone. Raises `LinkClosed`, and whatever is wrong with us."""
        self._begin()
        # What was imported and read stays: a collection need not look it through each time.
        gc.freeze()
        gc.enable()
        self.notifier.pulse()  # the keeper asked with its first words
        try:
            while True:
                self.reactor.wait(0 if self._inbox or self._quit else self._wake_at_ns)
                self._round()
        except LinkClosed:
            # There is nothing left to decide, but what was told shall be known later.
            self._write_last()
            raise

    def _begin(self) -> None:
        """Read the store, meet the keeper, and put everything known before the core."""
        stored = self.store.read()
        self.news = NewsRoom(stored.next_event)
        self.event_log = EventLog(self)
        introduced = self._meet_keeper()
        self.keeper = introduced
        self.notifier.listens = introduced.notifies
        self.reconciler = Reconciler(self._facts(introduced))
        self.ledger_lost = stored.ledger_lost
        self.store_damage = stored.notes
        for note in stored.notes:
            self.tell(News("store.damaged", note))
        for watcher, job in stored.jobs.items():
            self.feed(JobChanged(watcher, job))
        for watcher, intent in stored.intents.items():
            self._recall(watcher, intent, introduced.boot_id)
        self.server.remembered.recall(stored.answered)
        self.reactor.watch(self._link, READ, self._link_ready)
        self.reactor.watch(self.store, READ, lambda _: self._take_answers())
        self.applied = stored.applied
        new_keeper = self._is_new_keeper = stored.keeper_id != introduced.keeper_id
        self.revisions.begin(stored.revisions, new_keeper=new_keeper)
        if stored.applied is not None:
            self.follow_daemon(stored.applied.spec)
            self._retiring = stored.applied.retiring
            if not new_keeper:
                self.files.source = stored.applied.source or self.files.source
                self._resume(stored.applied)
                self._round()
            # A new manager reads the files that it was started with first, and what was applied before counts
            # only when they cannot be used. What it has taken over goes on meanwhile.
        self._has_fired = not new_keeper
        if new_keeper:
            self.store.write(ServedBy(introduced.keeper_id))
        handed = handed_over(os.getppid(), self.config.reading_fd)
        if not self.border.guard(
            "looking at the spec files for the first time",
            lambda: self.files.begin(
                stored.applied,
                handed,
                ignore=self._last_good,
                ordered_by=(self.config.started_by or SAVED) if new_keeper else "",
                ready=self._judged,
            ),
        ):
            self._judged()
        self.log.write(
            "info",
            "controller started",
            version=reconciler.__version__,
            revision=stored.applied.revision if stored.applied else 0,
            last_good=self._last_good,
        )

    def _recall(self, watcher: str, intent: Intent, boot_id: str) -> None:
        """Put an operator's stored word before the core, with its end on the clock of this boot."""
        recalled = intents.recalled(intent, boot_id, clock.now_ns(), clock.wall_ns())
        if recalled != intent:
            self.store.write(IntentWritten(watcher, recalled))
        self.feed(IntentChanged(watcher, recalled))

    def _meet_keeper(self) -> KeeperIntroduced:
        """Wait for the keeper's first word; what comes with it is held back."""
        assert self._held_back is not None
        while True:
            for index, event in enumerate(self._held_back):
                if isinstance(event, KeeperIntroduced):
                    return event
                self.log.write("warning", "the keeper speaks before it is introduced", place=index)
            self._held_back.clear()
            os.set_blocking(self._link.fileno(), True)
            self._held_back += self._link.receive()
            os.set_blocking(self._link.fileno(), False)

    def _facts(self, introduced: KeeperIntroduced) -> Facts:
        return Facts(
            instance=self.config.name,
            keeper_id=introduced.keeper_id,
            boot_id=introduced.boot_id,
            logs_dir=self.config.logs_dir,
            control_socket=self.config.control_socket,
            python=sys.executable,
            hook_runner=HOOK_RUNNER,
        )

    def _resume(self, applied: Applied) -> None:
        """Put what was applied before in front of the core."""
        current = self.revisions.current
        trial = current.trial if current is not None else None
        self.feed(SpecApplied(applied.spec, applied.revision, applied.retiring, trial))
        self._release()
        self.revisions.resume()

    def _judged(self) -> None:
        """The files were judged for the first time: whatever came of it, clients may now ask."""
        if self._held_back is not None and self.applied is not None and not self._written:
            self._resume(self.applied)
            self._round()
        if self.applied is None:
            self.log.write("error", "there is no spec to start from", cause=self.files.message)
            self.server.open()

    def _release(self) -> None:
        """Let the core have what the keeper said so far; from now on events go straight to it."""
        held, self._held_back = self._held_back, None
        for event in held or ():
            self._take(event)

    def _link_ready(self, events: int) -> None:
        if events & WRITE:
            self._link.flush()
            self._answer_signals()
        if events & READ:
            for event in self._heard():
                if isinstance(event, SignalReceived):
                    self.border.guard("acting on a signal", partial(self._signalled, event))
                elif isinstance(event, PulseAsked):
                    self.notifier.pulse()
                elif self._held_back is not None:
                    self._held_back.append(event)
                else:
                    self._take(event)
        self._watch_link()

    def _heard(self) -> list[KeeperEvent]:
        """Return what the keeper says. Raises `LinkClosed`, and `Contradiction` when it makes no sense."""
        try:
            return self._link.receive()
        except ProtocolError as error:
            raise Contradiction from error

    def _answer_signals(self) -> None:
        """Answer who waits for a signal, once it has left us: what lies here would be lost with us."""
        if self._signals_sent and not self._link.has_unsent:
            answered, self._signals_sent = self._signals_sent, []
            self.server.waiters.answered(answered)

    def _watch_link(self) -> None:
        self.reactor.watch(
            self._link, READ | WRITE if self._link.has_unsent else READ, self._link_ready
        )

    def _take(self, event: KeeperEvent) -> None:
        """Let the core have an event, and those who have a part of their own in it."""
        match event:
            case SignalReceived():
                self.border.guard("acting on a signal", lambda: self._signalled(event))
            case LogRotated(path):
                self.border.guard("compressing a log file", lambda: self.compressor.add(path))
            case SocketChanged(SocketRecord(phase=BindRefused(errno="EADDRINUSE"))):
                self.feed(event)
                ask = partial(self.port_holders.ask, event.record)
                self.border.guard("asking who holds a port", ask)
            case SocketChanged(SocketRecord(name=name)) | SocketClosed(name):
                self.port_holders.forget(name)
                self.feed(event)
            case UpgradeFailed(cause):
                self.border.guard("answering an upgrade", lambda: upgrading.failed(self, cause))
            case RecordChanged(record):
                self._taken_over += self._is_new_keeper and pid_of(record.phase) is not None
                is_dead = record.id.role == MAIN and isinstance(record.phase, Exited)
                if is_dead and self._dead is not None:
                    self._dead.add(record.id)
                if is_dead:
                    self.border.guard("looking at a log", partial(self.last_words.ended, record))
                self.feed(event)
            case SnapshotEnded():
                self.border.guard("telling what was taken over", self._tell_taken_over)
                self.border.guard("looking for ends that were told", self._feed_ends_told)
                self._dead = None
                self.feed(event)
                self.server.open()
            case _:
                self.feed(event)

    def _feed_ends_told(self) -> None:
        if self._dead:
            self.feed(self.event_log.ends_told(self._dead))

    def _tell_taken_over(self) -> None:
        if self._taken_over:
            count = format_count(self._taken_over, "process")
            details = {"processes": self._taken_over}
            message = f"took over {count} that a former manager left"
            self.tell(News("manager.adopted", message, details=details))
        self._is_new_keeper = False

    def _signalled(self, event: SignalReceived) -> None:
        match event.meaning:
            case "stop":
                self.shut_down(now=False)
            case "stop_now":
                self.shut_down(now=True, code=1)
            case "reload":
                self.tell(News("operator.reload", "reads its files again, asked by a signal"))
                self.notifier.reloading()
                self.log.reopen()
                self.files.read_again(self.notifier.reloaded)

    def _take_answers(self) -> None:
        for answer in self.store.answers():
            match answer:
                case Written(RunWritten(watcher, run, _)):
                    self.feed(RunRecorded(watcher, run))
                case Written(entry):
                    self._go_on_after(entry)
                case Unwritable(entry, message):
                    self.tell(News("store.failed", f"{message}; it is lost when the manager ends"))
                    self._go_on_after(entry)
                case WriterDied(message):
                    self.tell(News("store.failed", f"{message}; another one goes on"))
                    self.store.replace_writer()
                case Trouble(message):
                    self.store_trouble = message
                    self.tell(
                        News("store.failed", f"{message}; tried again until it works, jobs wait")
                    )
                    waiting, self._written = self._written, {}
                    for then in waiting.values():
                        then()
                case Recovered():
                    self.store_trouble = ""
                    self.tell(News("store.recovered", "state is written again"))
                case PutBack(message):
                    self.tell(News("store.damaged", message))
                case Damaged(message):
                    raise StoreDamaged(message)

    def _go_on_after(self, entry: Entry) -> None:
        if isinstance(entry, EventsTold):
            self.event_log.written(entry)
        then = self._written.pop(id(entry), None)
        if then is not None:
            then()

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
        if self._quit is not None:
            self._leave(self._quit)
            return
        if self._held_back is not None:
            if not any(isinstance(event, SpecApplied) for event in self._inbox):
                return
            self._release()
        due = self._wake_at_ns is not None and now_ns >= self._wake_at_ns
        if not self._inbox and not due:
            return
        events, self._inbox = self._inbox[:EVENTS_PER_ROUND], self._inbox[EVENTS_PER_ROUND:]
        step = self.reconciler.step(events, now_ns)
        for event in events:
            self._taken(event)
        self._wake_at_ns = step.wake_at_ns
        self._act(step.actions)
        for news in step.news:
            self.tell(news)
        if self._quit is not None:
            self._leave(self._quit)
        if step.touched:
            self.status.touched(step.touched)
            self.server.touched(step.touched)
        self._signals_sent += step.answered
        self._answer_signals()
        self.border.guard("notifying systemd", lambda: self.notifier.acted(step.touched))
        self._remember_retiring()
        self._end_when_done(step.touched)

    def _taken(self, event: Event) -> None:
        """Do what waits until the core has an event: forget an operator's word, follow a spec's secrets.

        Not before: what is started under the former spec until then gets the former spec's values.
        """
        match event:
            case SpecApplied(spec):
                self.border.guard("reading secrets", lambda: self.secrets.follow(spec))
            case IntentChanged(watcher, intent) if self.pending_intents.get(watcher) is intent:
                del self.pending_intents[watcher]
            case JobChanged(watcher, job) if (
                self.pending_generations.get(watcher) is job.generation
            ):
                self.pending_generations.pop(watcher, None)
            case _:
                pass

    def _act(self, actions: tuple[Action, ...]) -> None:
        to_keeper: list[KeeperAction] = []
        for action in actions:
            match action:
                case RecordRun(watcher, run):
                    self._has_fired = True
                    self.store.write(RunWritten(watcher, run, self._keep_runs(watcher)))
                case RecordGeneration(watcher, generation):
                    self.store.write(GenerationWritten(watcher, generation))
                case RecordVerdict():
                    self.revisions.judged(action)
                case RecordIntent(watcher, intent):
                    self._write_rest(watcher, intent)
                case ReadSecrets(watcher):
                    self.secrets.read(watcher)
                case Spawn():
                    self.border.guard("looking at a log", partial(self.last_words.begin, action))
                    to_keeper.append(self.secrets.filled(action))
                case Quit():
                    self._quit = action
                case Bind() | Unbind():
                    # Without one it is sent as soon as it is known who gets the file.
                    if (ready := self._socket_owners.ready(action)) is not None:
                        to_keeper.append(ready)
                case Forget(id):
                    self.last_words.forget(id)
                    to_keeper.append(action)
                case _:
                    to_keeper.append(action)
        if to_keeper:
            self._link.send(to_keeper)
            self._watch_link()

    def _notify(self, text: str) -> None:
        self.send_to_keeper(Notify(text))

    def send_to_keeper(self, action: KeeperAction) -> None:
        """Say something to the keeper that the core does not decide."""
        self._link.send((action,))
        self._watch_link()

    def _write_rest(self, watcher: str, intent: Intent) -> None:
        """Store what is left of an operator's word, unless a newer word is on its way to the disk.

        The core sees to what is over in the newer one as soon as it has it.
        """
        if watcher not in self.pending_intents:
            self.store.write(IntentWritten(watcher, intent))

    def _leave(self, quit: Quit) -> None:
        """Write what is left to be written, then let the keeper end the manager."""
        self._quit = None
        self.border.guard("showing the last output", self.server.streams.show_rest)
        if not quit.leaves:
            self.tell(News("manager.ended", "everything has stopped", details={"code": quit.code}))
        for what, close in (
            ("the control socket", self.server.close),
            ("the spec files", self.files.close),
            ("the secrets", self.secrets.close),
            ("the store", self._write_last),
        ):
            self.border.guard(f"closing {what}", close)
        self._link.send((quit,))
        self._watch_link()

    def _write_last(self) -> None:
        self.event_log.close()
        self.store.close_writer()

    def _keep_runs(self, watcher: str) -> int:
        """Return how many runs of each slot stay in the ledger, also of a job that is going."""
        spec = self.reconciler.watcher_spec(watcher)
        return KEEP_RUNS if spec is None else spec.keep_runs

    def _remember_retiring(self) -> None:
        retiring = self.reconciler.retiring()
        if retiring.keys() != self._retiring.keys():
            self._retiring = dict(retiring)
            self.store.write(RetiringChanged(self._retiring))

    def _end_when_done(self, touched: Collection[str] = ()) -> None:
        """End when there are only jobs and all are done; who has begun with us is waited for, to see it."""
        if not self.config.until_done or self.shutting_down or self.reconciler.revision == 0:
            return
        now_ns = clock.now_ns()
        code = self.reconciler.jobs_done(now_ns, touched)
        if code is None:
            return
        if not self.server.streams.has_viewer and now_ns < self._begun_ns + VIEWER_NS:
            self.reactor.at(self._end_when_done, now_ns + VIEWER_POLL_NS, self._end_when_done)
            return
        message = "all jobs are done" if self._has_fired else self._done_before()
        self.tell(News("manager.done", message, details={"code": code}))
        self.shut_down(now=False, code=code)

    def _done_before(self) -> str:
        """Return when all jobs were done, by an earlier manager, and how to fire them again."""
        names, now_ns = sorted(self.reconciler.spec.watchers), clock.wall_ns()
        since = {name: max(now_ns - self.status.of(name).since_ns, 0) for name in names[:MAX_DONE]}
        ages = (f"{name}: {format_duration(ns - ns % SECOND_NS)} ago" for name, ns in since.items())
        more = f" and {len(names) - MAX_DONE} more" if len(names) > MAX_DONE else ""
        return (
            f"all jobs were done before ({', '.join(ages)}{more}); to fire one again, keep a manager "
            "with reconcile up -d, then: reconcile rerun NAME"
        )
