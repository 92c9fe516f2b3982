"""Whatever the world raises costs what was just done: each call of the keeper to its kernel, made to fail for each n.

In virtual time, on the kernel in memory. What the real kernel layer itself calls is the subject of test_failures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator
from typing import Any, Final, TypeVar

import msgspec
import pytest

from reconciler.keeper import borders
from reconciler.keeper.borders import Border, Faults
from reconciler.keeper.keeper import Keeper
from reconciler.keeper.kernel import Kernel, Output
from reconciler.keeper.succession.notes import STRANGERS
from reconciler.model.action import (
    Adjust,
    Bind,
    Forget,
    KeeperAction,
    Notify,
    Quit,
    Remember,
    Spawn,
    Unbind,
    Upgrade,
)
from reconciler.model.action import Signal as SignalAction
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import (
    FaultCaught,
    HeartbeatAsked,
    KeeperIntroduced,
    KeeperObservation,
    LogChanged,
    RecordChanged,
    RecordForgotten,
    SocketChanged,
    SocketClosed,
    UpgradeFailed,
)
from reconciler.model.process import (
    CaptureSink,
    Exit,
    Exited,
    Launch,
    Memory,
    ProcessId,
    ProcessRecord,
    Requested,
    Running,
    Settings,
    pid_of,
)
from reconciler.model.socket import Bound, SocketRecord, SocketTemplate
from reconciler.sockets.bound import BoundSocket
from reconciler.system.facts import Identity
from reconciler.wire.link import LinkDecoder, encode
from tests.contract import fake_kernel
from tests.contract.fake_kernel import FakeKernel, Program

T = TypeVar("T")
S: Final = 1_000_000_000
MOST_TURNS: Final = 2000
WEB: Final = ProcessId("web", 1)
HOOK: Final = ProcessId("web", 1, "before_start")
BYSTANDER: Final = ProcessId("bystander", 1)
SPEAKER: Final = ProcessId("speaker", 1)
BEFORE: Final = frozenset({"recall", "adopt", "reopen", "take_back", "search"})
"""Called only when a keeper takes over: below, and where something is short in test_failures."""
SURE: Final = {
    "now_ns": "a clock does not fail",
    "happenings": "gives away a list",
    "marker": "puts a text together",
    "border": "is the border",
    "log": "never fails by itself: test_own_log",
    "replace_code": "in test_an_upgrade_that_fails_in_an_unexpected_way_changes_nothing",
}


class Trouble(Exception):
    """What nobody expects."""


class Failing:
    """Lets the n-th call of one method raise."""

    def __init__(self, method: str, successes: int) -> None:
        self.method, self.left, self.raised = method, successes, False

    def __call__(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.raised = True
            raise Trouble(self.method)


class Bench:
    """A keeper whose controller is played by the test."""

    def __init__(self, failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = FakeKernel(script=_program, has_borders=True)
        introduction = KeeperIntroduced("keeper", "boot", 1, 0, "session")
        self.keeper = Keeper(self.kernel, introduction, watchdog_ns=None)
        for cls in (FakeKernel, fake_kernel.Output, fake_kernel.Socket):
            if failing.method in vars(cls):
                real = getattr(cls, failing.method)
                monkeypatch.setattr(cls, failing.method, _wrapped(failing, real))
        self.records: dict[ProcessId, ProcessRecord] = {}
        self.sockets: dict[str, SocketRecord] = {}
        self.faults: list[FaultCaught] = []
        self.upgrade_failed: UpgradeFailed | None = None
        self._turns = 0
        self._link = -1
        self._decoder = LinkDecoder()

    def send(self, *actions: KeeperAction) -> None:
        for action in actions:
            self.until(lambda: self.kernel.link == "open", "a controller is there")
            self.kernel.feed(encode(action))

    def until(self, claim: Callable[[], T], what: str) -> T:
        """Let time pass until the claim holds."""
        give_up_ns = self.kernel.now + 100 * S
        while not (answer := claim()):
            assert self.kernel.now < give_up_ns, f"not within 100 s: {what}"
            self.turn()
        return answer

    def turn(self) -> None:
        self._turns += 1
        assert self._turns < MOST_TURNS, "it never rests"
        due = self.keeper.step()
        if self.keeper.exit_code is not None:
            return
        if self.kernel.controller_pid != self._link:
            self._link, self._decoder = self.kernel.controller_pid or -1, LinkDecoder()
        for observation in (
            self._decoder.observations(self.kernel.hear()) if self.kernel.link == "open" else ()
        ):
            self._take(observation)
        dues = [each for each in (due, self.kernel.next_due_ns()) if each is not None]
        later = self.kernel.now + S  # something may have to be claimed again
        self.kernel.advance(max(min([*dues, later]), self.kernel.now))

    def _take(self, observation: KeeperObservation) -> None:
        match observation:
            case RecordChanged(record):
                self.records[record.id] = record
            case RecordForgotten(id):
                self.records.pop(id, None)
            case SocketChanged(record):
                self.sockets[record.name] = record
            case SocketClosed(name):
                self.sockets.pop(name, None)
            case FaultCaught():
                self.faults.append(observation)
            case UpgradeFailed():
                self.upgrade_failed = observation
            case HeartbeatAsked() if self.kernel.link == "open":
                self.kernel.feed(encode(Notify("WATCHDOG=1")))
            case _:
                pass

    def persist(self, action: Callable[[], KeeperAction], claim: Callable[[], T], what: str) -> T:
        """Say something again and again until it has come true, as a controller does."""
        for _ in range(5):
            self.send(action())
            end_ns = self.kernel.now + 10 * S
            while self.kernel.now < end_ns:
                if answer := claim():
                    return answer
                self.turn()
        raise AssertionError(what)

    def phase(self, id: ProcessId) -> object:
        return self.records[id].phase if id in self.records else None


def _program(id: ProcessId, incarnation: int, launch: Launch) -> Program:
    nameless = Program(lives_ns=3 * S, escapes=True, wipes=True)
    if id == HOOK:
        return Program(lives_ns=S, code=1, output=b"said\n", children=(nameless,))
    return Program(children=(Program(escapes=True),), forks=id == WEB)


def _wrapped(failing: Failing, real: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        failing()
        return real(*arguments, **options)

    return call


def live(it: Bench, *, leaves: bool) -> None:
    """Go through all that a keeper does. Each claim must come true, whatever has failed."""
    template = SocketTemplate(InternetAddress("127.0.0.1", 0))

    def started(id: ProcessId) -> Spawn:
        former = it.records.get(id)
        sockets = ("http",) if id == WEB else ()
        launch = Launch((id.owner,), sockets=sockets, stdout=CaptureSink("/hook"))
        return Spawn(id, launch, replaces=former.incarnation if former else 0)

    def runs(id: ProcessId) -> bool:
        return isinstance(it.phase(id), Running)

    it.persist(lambda: started(BYSTANDER), lambda: runs(BYSTANDER), "the bystander runs")
    pid = it.kernel.alive(BYSTANDER)[0].pid
    it.persist(
        lambda: Bind("http", template),
        lambda: "http" in it.sockets and isinstance(it.sockets["http"].phase, Bound),
        "it is bound",
    )
    tuned = SocketTemplate(template.address, backlog=7)
    it.persist(lambda: Bind("http", tuned), lambda: it.sockets["http"].template == tuned, "tuned")
    it.persist(lambda: started(WEB), lambda: runs(WEB), "it runs")
    it.persist(lambda: started(HOOK), lambda: isinstance(it.phase(HOOK), Exited), "a hook ends")
    it.kernel.log_changes.append(LogChanged(WEB, "/log", "full"))
    number = it.records[WEB].incarnation
    it.persist(
        lambda: Remember(WEB, number, Memory(restarts=3)),
        lambda: _journalled(it).get("restarts") == 3,
        "it is remembered",
    )
    it.persist(
        lambda: Adjust(WEB, number, Settings(stdout=CaptureSink("/other"), group_limits=LIMITS)),
        lambda: it.records[WEB].settings.stdout == CaptureSink("/other"),
        "its output goes elsewhere",
    )
    _live_with_sockets(it)
    _live_with_words(it)
    it.send(Notify("READY=1"))
    for reach in ("group", "children"):
        it.send(SignalAction(BYSTANDER, it.records[BYSTANDER].incarnation, "CONT", reach))  # type: ignore[arg-type]  # a Reach
    it.kernel.end_controller()
    it.until(lambda: it.kernel.controller_pid, "the next controller comes")
    it.kernel.calling = 1
    later = it.kernel.now + 15 * S
    it.until(lambda: it.kernel.now > later, "the client is seen")
    it.kernel.calling = 0
    it.persist(
        lambda: SignalAction(WEB, number, "TERM", "process"),
        lambda: isinstance(it.phase(WEB), Exited),
        "its main process has ended",
    )
    it.persist(
        lambda: SignalAction(WEB, number, "KILL", "tree"),
        lambda: isinstance(it.phase(WEB), Exited) and not it.records[WEB].phase.survivors,
        "it has ended",
    )
    it.until(lambda: not it.kernel.alive(WEB), "nothing of it is left")
    it.persist(lambda: Forget(WEB, number), lambda: WEB not in it.records, "it is forgotten")
    assert runs(BYSTANDER)
    assert it.kernel.alive(BYSTANDER)[0].pid == pid
    it.persist(lambda: Unbind("http"), lambda: "http" not in it.sockets, "it is closed")
    if leaves:
        it.persist(
            lambda: Quit(0, leaves=True), lambda: it.keeper.exit_code is not None, "it leaves"
        )
        assert runs(BYSTANDER)
    else:
        it.kernel.tell("stop_now")
        it.until(lambda: it.keeper.exit_code is not None, "the keeper ends")
        assert it.kernel.alive() == []


def _live_with_sockets(it: Bench) -> None:
    """Let a file of a socket be removed, and clients wait for somebody who does not accept."""
    file = SocketTemplate(UnixAddress("/run/app.sock"))
    it.persist(
        lambda: Bind("app", file),
        lambda: "app" in it.sockets and isinstance(it.sockets["app"].phase, Bound),
        "it is bound",
    )
    it.kernel.remove_file(file.address)
    it.until(lambda: it.kernel.bound.get(("unix:/run/app.sock", "")), "its file is put back")
    assert isinstance(it.sockets["app"].phase, Bound)
    (used,) = it.kernel.alive(WEB)[0].sockets
    used.waiting = frozenset({1})
    it.until(lambda: it.sockets["http"].unaccepted, "nobody accepts")
    used.waiting = frozenset()
    it.until(lambda: it.sockets["http"].unaccepted is None, "somebody does")
    it.persist(lambda: Unbind("app"), lambda: "app" not in it.sockets, "it is closed")


def _live_with_words(it: Bench) -> None:
    """Let a child of a process that is heard say who goes on, and the process end; its file names somebody, too."""
    launch = Launch(("speaker",), notify=True, pid_file="/fake/pid")

    def started() -> Spawn:
        former = it.records.get(SPEAKER)
        return Spawn(SPEAKER, launch, replaces=former.incarnation if former else 0)

    it.persist(started, lambda: isinstance(it.phase(SPEAKER), Running), "it runs")
    main, *others = it.kernel.alive(SPEAKER)
    it.kernel.say(main, f"READY=1\nMAINPID={main.pid}", others[0].pid, uid=65534)
    it.turn()
    it.kernel.end(main.pid, Exit(code=0))
    it.until(lambda: isinstance(it.phase(SPEAKER), Exited), "it has ended")
    number = it.records[SPEAKER].incarnation
    it.persist(
        lambda: SignalAction(SPEAKER, number, "KILL", "tree"),
        lambda: not it.kernel.alive(SPEAKER),
        "nothing of it is left",
    )
    it.persist(lambda: Forget(SPEAKER, number), lambda: SPEAKER not in it.records, "it is gone")


def _journalled(it: Bench) -> dict[str, Any]:
    entry: Any = it.kernel.journal.get(f"process {WEB}")
    return entry["record"]["memory"] if entry else {}


def methods(protocol: type) -> Iterator[str]:
    """Yield what a keeper may ask of its kernel, whatever somebody adds to it."""
    yield from (name for name in vars(protocol) if not name.startswith("_"))


LIMITS: Final = {"pids.max": "9"}
CALLS: Final = [
    name
    for protocol in (Kernel, Output, BoundSocket)
    for name in methods(protocol)
    if name not in {*SURE, *BEFORE} and not isinstance(vars(protocol)[name], property)
]


@pytest.mark.parametrize("method", CALLS)
def test_an_unexpected_exception_costs_what_was_just_done(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for successes in itertools.count():
        with monkeypatch.context() as patch:
            failing = Failing(method, successes)
            it = Bench(failing, patch)
            live(it, leaves=method == "leave")
        if not failing.raised:
            break
        assert it.kernel.caught, f"call {successes} of {method} is told to nobody"
    assert successes > 0, f"{method} is called nowhere in this life"


def left_behind(script: Callable[..., Program] = lambda *_: Program()) -> FakeKernel:
    """Return a kernel on which a keeper was killed that held a socket, its user and somebody else."""
    kernel = FakeKernel(script=script, has_borders=True)
    it = Keeper(kernel, KeeperIntroduced("keeper", "boot", 1, 0, "session"))
    it.step()
    template = SocketTemplate(InternetAddress("127.0.0.1", 0))
    for action in (
        Bind("http", template),
        Spawn(WEB, Launch(("web",), sockets=("http",))),
        Spawn(BYSTANDER, Launch(("bystander",))),
    ):
        kernel.feed(encode(action))
        it.step()
    kernel.end_keeper()
    return kernel


def take_over(kernel: FakeKernel) -> dict[ProcessId, int]:
    """Begin another keeper; return the pids that it holds once it has a controller. Nobody else runs then."""
    keeper = Keeper(kernel, KeeperIntroduced("next", "boot", 1, 0, "session"))
    give_up_ns = kernel.now + 100 * S
    while kernel.controller_pid is None:
        assert kernel.now < give_up_ns
        due = keeper.step()
        kernel.advance(due or kernel.now + S)
    held = {id: pid_of(process.record.phase) for id, process in keeper.processes.by_id.items()}
    lives = {id: pid for id, pid in held.items() if pid is not None}
    controller = {kernel.controller_pid}
    assert {each.pid for each in kernel.alive()} - controller == {*lives.values()}
    return lives


def test_everything_is_taken_over_that_can_be_read() -> None:
    assert take_over(left_behind()).keys() == {WEB, BYSTANDER}


@pytest.mark.parametrize("method", ["adopt", "reopen", "take_back"])
def test_what_is_unexpected_at_a_takeover_costs_one_record(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for successes in itertools.count():
        with monkeypatch.context() as patch:
            kernel, failing = left_behind(), Failing(method, successes)
            patch.setattr(FakeKernel, method, _wrapped(failing, getattr(FakeKernel, method)))
            lives = take_over(kernel)
        if not failing.raised:
            break
        assert kernel.caught
        assert len(lives) >= 1, f"call {successes} of {method} cost both"
    assert lives.keys() == {WEB, BYSTANDER}


@pytest.mark.parametrize("method", ["search", "adopt"])
def test_who_was_left_behind_is_found_though_the_first_search_fails(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that failed is no search: the dead one is not announced as if it had left nobody."""
    kernel = left_behind(lambda *_: Program(children=(Program(escapes=True),)))
    keeper = Keeper(kernel, KeeperIntroduced("next", "boot", 1, 0, "session"))
    failing, told, all_of = Failing(method, 0), set[int](), FakeKernel.search

    def search(self: FakeKernel, sessions: Container[int]) -> dict[int, Identity]:
        """Tell of each once, as the real one does."""
        found = {pid: each for pid, each in all_of(self, sessions).items() if pid not in told}
        told.update(found)
        return found

    monkeypatch.setattr(FakeKernel, "search", search)
    monkeypatch.setattr(FakeKernel, method, _wrapped(failing, getattr(FakeKernel, method)))
    (child,) = (each for each in kernel.alive(WEB) if each.session != kernel.alive(WEB)[0].pid)
    kernel.end(kernel.alive(WEB)[0].pid, Exit(0))
    for _ in range(5):
        kernel.advance(keeper.step() or kernel.now + S)
    phase = keeper.processes.by_id[WEB].record.phase
    assert failing.raised
    assert isinstance(phase, Exited)
    assert [each.pid for each in phase.survivors] == [child.pid]


@pytest.mark.parametrize(
    "nonsense",
    ["a text", -1, [1], {}, {"record": {}}, {"record": {"phase": {"type": "Requested"}}}],
)
@pytest.mark.parametrize("entry", ["process web.1", "socket http", "incarnations", STRANGERS])
def test_an_entry_that_cannot_be_read_costs_what_it_was_about(entry: str, nonsense: object) -> None:
    kernel = left_behind()
    assert entry in kernel.journal or entry == STRANGERS
    kernel.journal[entry] = nonsense
    assert BYSTANDER in take_over(kernel)


def test_a_process_that_was_written_down_as_only_requested_is_not_believed() -> None:
    kernel = left_behind()
    entry: Any = kernel.journal[f"process {WEB}"]
    entry["record"]["phase"] = msgspec.to_builtins(Requested(0))
    assert take_over(kernel).keys() == {BYSTANDER}


def test_a_fault_is_an_event_for_the_next_controller_too(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing("start_controller", 0)
    it = Bench(failing, monkeypatch)
    it.until(lambda: it.faults, "the fault is told")
    assert it.faults == [FaultCaught("starting the controller", "start_controller")]


def test_an_upgrade_that_fails_in_an_unexpected_way_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Bench(Failing("replace_code", 0), monkeypatch)
    it.send(Upgrade("/new/python"))
    failed = it.until(lambda: it.upgrade_failed, "it is told")
    assert failed == UpgradeFailed("cannot execute /new/python: replace_code")
    assert it.kernel.caught == ["upgrading"]


def test_what_shows_that_the_tables_contradict_each_other_passes() -> None:
    faults = Faults(lambda *_, **__: None)
    with pytest.raises(AssertionError), faults.border("counting"):
        raise AssertionError
    with pytest.raises(KeyboardInterrupt), faults.border("counting"):
        raise KeyboardInterrupt
    assert faults.take() == []


def test_the_same_fault_is_told_once_in_a_while_with_its_traceback() -> None:
    lines: list[tuple[str, str, dict[str, str]]] = []
    now = [0]
    faults = Faults(lambda *words, **pairs: lines.append((*words, pairs)), lambda: now[0])

    def fail(text: str) -> Border:
        with faults.border("reading") as border:
            raise Trouble(text)
        return border

    assert isinstance(fail("a \udcff").fault, Trouble)
    for _ in range(5):
        fail("a \udcff")
    assert faults.take() == [FaultCaught("reading", "Trouble: a \\udcff")]
    ((level, message, pairs),) = lines
    assert (level, message, pairs["cause"]) == (
        "error",
        "unexpected error while reading",
        "Trouble: a \\udcff",
    )
    assert "in fail" in pairs["traceback"]
    now[0] = borders.AGAIN_NS
    fail("a \udcff")
    assert len(lines) == 2
    for number in range(2 * borders.MAX_KNOWN):
        fail(str(number))
    assert len(faults._known) == borders.MAX_KNOWN
