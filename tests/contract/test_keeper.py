"""What the keeper promises, held against the real kernel and the fake one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.action import (
    Adjust,
    Bind,
    EndOrphans,
    Follow,
    Forget,
    Quit,
    Remember,
    Signal,
    Spawn,
    Unbind,
)
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import OrphansChanged, RecordChanged, SocketRestored
from reconciler.model.process import (
    Exit,
    Exited,
    Launch,
    Memory,
    Notified,
    Orphan,
    ProcessId,
    ProcessRecord,
    Running,
    Scope,
    Settings,
    pid_of,
)
from reconciler.model.socket import BindRefused, Bound, Lost, SocketTemplate
from reconciler.model.value import replace
from tests.contract.fake_kernel import Program
from tests.contract.worlds import MILLISECOND, PROGRAMS, Fake, Real, World, told
from tests.keeper.rig import OWN_NICE, keeper, until

WEB = ProcessId("web", 1)
DB = ProcessId("db", 1)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        yield Fake()
        return
    with keeper(tmp_path) as rig:
        real = Real(rig)
        yield real
        real.close()


def spawn(
    what: str, id_: ProcessId = WEB, *, scope: Scope = "tree", nice: int | None = None
) -> Spawn:
    return Spawn(
        id_, Launch(PROGRAMS[what].argv, scope=scope, nice=nice), "hash", Memory(attempt=2)
    )


def running(world: World, id_: ProcessId = WEB) -> Running:
    def ask() -> Running | None:
        phase = world.records[id_].phase if id_ in world.records else None
        assert not isinstance(phase, Exited), phase
        return phase if isinstance(phase, Running) else None

    return world.wait(ask)


def exited(world: World, id_: ProcessId = WEB, incarnation: int = 1) -> Exited:
    def ask() -> Exited | None:
        record = world.records.get(id_)
        if record is None or record.incarnation != incarnation:
            return None
        return record.phase if isinstance(record.phase, Exited) else None

    return world.wait(ask)


def changes(world: World) -> list[ProcessRecord]:
    return [
        observation.record
        for observation in world.observations
        if isinstance(observation, RecordChanged)
    ]


# ---- processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nice", [None, OWN_NICE])
def test_an_exit_code_is_told_with_the_pid_and_the_start(world: World, nice: int | None) -> None:
    world.send(spawn("exits with 3", nice=nice))
    phase = exited(world)
    assert phase.exit == Exit(code=3)
    assert phase.pid
    assert phase.started_at_ns is not None
    assert phase.started_at_ns <= phase.at_ns
    assert world.records[WEB].memory == Memory(attempt=2)
    assert world.records[WEB].template_hash == "hash"


@pytest.mark.parametrize("nice", [None, OWN_NICE])
def test_a_missing_program_never_ran_and_says_why(world: World, nice: int | None) -> None:
    world.send(spawn("is missing", nice=nice))
    phase = exited(world)
    assert phase.exit.error is not None
    assert (phase.exit.error.step, phase.exit.error.errno) == ("exec", "ENOENT")
    assert phase.exit.error.path == "/nosuch/program"
    assert (phase.pid, phase.started_at_ns) == (None, None)


def test_limits_of_a_group_that_nobody_has_are_not_in_force_and_the_process_runs(
    world: World,
) -> None:
    limits = {"pids.max": "100"}
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, group_limits=limits)))
    running(world)
    assert world.records[WEB].settings.group_limits == {}
    world.send(Adjust(WEB, 1, Settings(ask="all", group_limits=limits)))
    world.wait(lambda: world.records[WEB].settings.ask == "all")
    assert world.records[WEB].settings == Settings(ask="all")


def test_of_the_limits_of_a_group_those_are_in_force_that_the_kernel_takes() -> None:
    world = Fake()
    world.kernel.limits_taken = {"pids.max"}
    limits = {"pids.max": "100", "io.weight": "default 20"}
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, group_limits=limits)))
    running(world)
    assert world.records[WEB].settings.group_limits == {"pids.max": "100"}
    world.send(Adjust(WEB, 1, Settings(ask="all", group_limits={"pids.max": "50"})))
    world.wait(lambda: world.records[WEB].settings.ask == "all")
    assert world.records[WEB].settings.group_limits == {"pids.max": "50"}


def test_a_killed_process_tells_the_signal(world: World) -> None:
    world.send(spawn("sleeps"))
    pid = running(world).pid
    world.send(Signal(WEB, 1, "USR1"))
    assert exited(world).exit == Exit(signal="USR1")
    assert not world.lives(pid)


def test_a_spawn_over_a_record_is_answered_with_that_record(world: World) -> None:
    world.send(spawn("sleeps"))
    pid = running(world).pid
    before = len(changes(world))
    world.send(spawn("exits with 3"))
    world.wait(lambda: len(changes(world)) > before)
    assert changes(world)[-1].phase == running(world)
    assert running(world).pid == pid


def test_forget_and_spawn_in_one_batch_make_the_next_incarnation(world: World) -> None:
    world.send(spawn("exits with 3"))
    exited(world)
    world.send(Forget(WEB, 1), spawn("sleeps"))
    world.wait(lambda: world.records[WEB].incarnation == 2)
    assert running(world).pid


def test_a_live_record_is_not_forgotten(world: World) -> None:
    world.send(spawn("sleeps"))
    phase = running(world)
    before = len(changes(world))
    world.send(Forget(WEB, 1))
    world.wait(lambda: len(changes(world)) > before)
    assert running(world) == phase


def test_a_forgotten_record_is_gone(world: World) -> None:
    world.send(spawn("exits with 3"))
    exited(world)
    world.send(Forget(WEB, 1))
    world.wait(lambda: WEB not in world.records)


def test_a_signal_for_another_incarnation_reaches_nobody(world: World) -> None:
    world.send(spawn("sleeps"))
    phase = running(world)
    before = len(changes(world))
    world.send(Signal(WEB, 7, "KILL"))
    world.wait(lambda: len(changes(world)) > before)
    assert running(world) == phase
    assert world.lives(phase.pid)


def test_kill_ends_what_ignores_term(world: World) -> None:
    world.send(spawn("is stubborn"))
    pid = running(world).pid
    world.settle(WEB, "is stubborn")
    world.send(Signal(WEB, 1, "TERM", "tree"), Signal(WEB, 1, "KILL", "tree"))
    assert exited(world).exit == Exit(signal="KILL")
    assert not world.lives(pid)


def test_a_stopped_process_heeds_term(world: World) -> None:
    world.send(spawn("sleeps"))
    running(world)
    world.send(Signal(WEB, 1, "STOP"), Signal(WEB, 1, "TERM", "group"))
    assert exited(world).exit == Exit(signal="TERM")


@pytest.mark.parametrize("what", ["leaves a child", "leaves an escaped child"])
def test_survivors_are_told_and_gone_after_a_kill(world: World, what: str) -> None:
    world.send(spawn(what))
    phase = exited(world)
    assert (phase.exit, len(phase.survivors), phase.left) == (Exit(code=4), 1, ())
    world.send(Signal(WEB, 1, "KILL", "tree"))
    assert world.wait(lambda: not exited(world).survivors)


@pytest.mark.parametrize(
    ("what", "scope"), [("leaves a child", "process"), ("leaves a child", "group")]
)
def test_what_survives_is_a_question_of_scope(world: World, what: str, scope: Scope) -> None:
    world.send(spawn(what, scope=scope))
    assert bool(exited(world).survivors) == (scope == "group")
    assert bool(exited(world).left) == (scope == "process")


def test_a_signal_to_the_tree_reaches_what_left_the_session(world: World) -> None:
    world.send(spawn("has an escaped child"))
    running(world)
    world.settle(WEB, "has an escaped child")
    world.send(Signal(WEB, 1, "KILL", "tree"))
    exited(world)
    assert world.wait(lambda: not exited(world).survivors)


def test_what_a_forgotten_record_left_behind_concerns_nobody(world: World) -> None:
    world.send(spawn("leaves a child"), spawn("sleeps", DB))
    assert exited(world).survivors
    running(world, DB)
    world.send(Forget(WEB, 1), Signal(DB, 2, "KILL", "tree"))
    assert not exited(world, DB, 2).survivors
    assert WEB not in world.records


def test_memory_is_kept_for_the_next_controller(world: World) -> None:
    world.send(spawn("sleeps"))
    pid = running(world).pid
    memory = Memory(attempt=5, stop_reason="replaced", stopping_since_ns=7)
    world.send(Remember(WEB, 1, memory))
    world.die()
    world.rise()
    assert world.records[WEB].memory == memory
    assert pid_of(world.records[WEB].phase) == pid


# ---- the controller comes and goes ---------------------------------------------------------------


def test_what_was_said_in_full_is_carried_out_and_a_torn_tail_is_not(world: World) -> None:
    ids = [ProcessId("web", slot) for slot in (1, 2, 3)]
    world.send_torn(*(spawn("sleeps", each) for each in ids))
    world.rise()
    assert set(world.records) == set(ids[:2])
    assert {record.incarnation for record in world.records.values()} == {1, 2}


def test_an_exit_while_nobody_controls_is_told_to_the_next(world: World) -> None:
    world.send(spawn("exits with 3"), spawn("sleeps", ProcessId("db", 1)))
    world.die()
    world.rise()
    assert exited(world).exit == Exit(code=3)
    assert running(world, ProcessId("db", 1)).pid


# ---- sockets -------------------------------------------------------------------------------------

ANY = SocketTemplate(InternetAddress("127.0.0.1", 0))


def bound(world: World, name: str, template: SocketTemplate) -> Bound:
    def ask() -> Bound | None:
        record = world.sockets.get(name)
        if record is None or record.template != template:
            return None
        return record.phase if isinstance(record.phase, Bound) else None

    return world.wait(ask)


def refused(world: World, name: str) -> BindRefused:
    def ask() -> BindRefused | None:
        phase = world.sockets[name].phase if name in world.sockets else None
        return phase if isinstance(phase, BindRefused) else None

    return world.wait(ask)


def test_port_zero_becomes_a_real_port(world: World) -> None:
    world.send(Bind("http", ANY))
    assert int(bound(world, "http", ANY).listen.rpartition(":")[2]) > 0


def test_tuning_keeps_the_socket(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    tuned = SocketTemplate(ANY.address, backlog=7)
    world.send(Bind("http", tuned))
    assert bound(world, "http", tuned) == before


def test_a_refused_change_keeps_the_old_socket_and_counts(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    taken = SocketTemplate(world.take_port())
    for attempts in (1, 2):
        world.send(Bind("http", taken))
        world.wait(lambda n=attempts: getattr(world.sockets["http"].phase, "attempts", 0) == n)  # type: ignore[misc]
    record = world.sockets["http"]
    assert (record.template, record.held) == (taken, ANY)
    assert isinstance(record.phase, BindRefused)
    assert record.phase.errno == "EADDRINUSE"
    assert record.phase.serves == before.listen
    assert record.phase.message.startswith(f"cannot bind {taken.address}: address already in use")
    world.send(Bind("http", ANY))
    assert bound(world, "http", ANY) == before  # its users do not look as if they held a former one
    assert world.sockets["http"].held is None


def test_a_socket_file_that_is_removed_is_put_back(world: World) -> None:
    template = SocketTemplate(UnixAddress(world.path("app.sock")))
    world.send(Bind("app", template))
    before = bound(world, "app", template)
    world.remove_file(template.address)
    assert restored(world) == SocketRestored("app", "file", ())
    world.send(Bind("app", replace(template, backlog=9)))
    assert bound(world, "app", replace(template, backlog=9)).at_ns == before.at_ns


def restored(world: World) -> SocketRestored:
    def ask() -> SocketRestored | None:
        return next((each for each in world.observations if isinstance(each, SocketRestored)), None)

    return world.wait(ask)


def test_a_socket_file_that_cannot_be_put_back_is_told_and_bound_anew(world: World) -> None:
    template = SocketTemplate(UnixAddress(world.path("app.sock")))
    world.send(Bind("app", template))
    before = bound(world, "app", template)
    world.remove_file(template.address, for_good=True)
    world.wait(lambda: isinstance(world.sockets["app"].phase, Lost))
    world.send(Bind("app", template))
    assert bound(world, "app", template).at_ns > before.at_ns


def test_an_unbound_socket_is_closed(world: World) -> None:
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)
    world.send(Unbind("http"))
    world.wait(lambda: "http" not in world.sockets)


def free_port(world: World) -> SocketTemplate:
    world.send(Bind("any", ANY))
    host, _, port = bound(world, "any", ANY).listen.rpartition(":")
    world.send(Unbind("any"))
    return SocketTemplate(InternetAddress(host, int(port)))


def test_an_address_stays_taken_while_a_process_listens_there(world: World) -> None:
    template = free_port(world)
    world.send(Bind("http", template))
    bound(world, "http", template)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))), spawn("sleeps", DB))
    running(world)
    running(world, DB)
    world.send(Bind("again", template))
    assert refused(world, "again").held_by == ()  # it would be of no use to end it
    world.send(Unbind("http"), Bind("again", template))
    world.wait(lambda: refused(world, "again").held_by == (WEB,))
    world.send(Signal(WEB, 1, "KILL"))
    exited(world)
    world.send(Bind("again", template))
    bound(world, "again", template)


def test_the_next_keeper_knows_who_listens_at_an_address(world: World) -> None:
    template, taken = free_port(world), SocketTemplate(world.take_port())
    world.send(Bind("http", template))
    bound(world, "http", template)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    running(world)
    world.lose_keeper()
    world.next_keeper()
    bound(world, "http", template)
    world.send(Unbind("http"), Bind("again", template), Bind("other", taken))
    assert refused(world, "again").held_by == (WEB,)
    assert refused(world, "other").held_by == ()


def test_a_launch_without_its_socket_is_refused(world: World) -> None:
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    error = exited(world).exit.error
    assert error is not None
    assert (error.step, error.path) == ("sockets", "http")


def named(world: World, incarnation: int = 1) -> Exited | None:
    """Return how the process ended, once what it left has its name: between fork and exec it has another's."""
    phase = exited(world, WEB, incarnation)
    return phase if phase.survivors[0].name in {"sleep", "child"} else None


# ---- the next keeper -----------------------------------------------------------------------------


def test_the_next_keeper_holds_what_lives_as_it_was(world: World) -> None:
    world.send(spawn("sleeps"), spawn("is stubborn", DB, nice=OWN_NICE))
    running(world)
    running(world, DB)
    memory = Memory(attempt=5, stop_reason="replaced", stopping_since_ns=7)
    world.send(Remember(WEB, 1, memory))
    world.send(Spawn(ProcessId("last", 1), Launch(("/nosuch/program",))))
    exited(world, ProcessId("last", 1), 3)
    before = {**world.records, WEB: replace(world.records[WEB], memory=memory)}
    for _ in range(2):
        world.lose_keeper()
        world.next_keeper()
        assert world.records == before
    world.send(spawn("sleeps", ProcessId("new", 1)))
    running(world, ProcessId("new", 1))
    assert world.records[ProcessId("new", 1)].incarnation == 4


def test_what_died_meanwhile_ended_in_an_unknown_way(world: World) -> None:
    world.send(spawn("sleeps"), spawn("sleeps", DB))
    before, other = running(world), running(world, DB)
    world.lose_keeper()
    world.end_by_itself(before.pid)
    world.next_keeper()
    phase = exited(world)
    # Its parent by now may have been too slow to reap it.
    assert phase.exit in {Exit(), Exit(signal="KILL")}
    assert (phase.pid, phase.started_at_ns) == (before.pid, before.started_at_ns)
    assert running(world, DB) == other
    world.send(Forget(WEB, 1), spawn("sleeps"))
    world.wait(lambda: world.records[WEB].incarnation == 3)
    assert running(world).pid


def test_the_exit_of_an_adopted_process_is_told(world: World) -> None:
    world.send(spawn("sleeps"))
    before = running(world)
    world.lose_keeper()
    world.next_keeper()
    world.send(Signal(WEB, 1, "USR1"))
    phase = exited(world)
    assert (phase.exit, phase.pid) == (Exit(signal="USR1"), before.pid)
    assert not world.lives(before.pid)


@pytest.mark.parametrize("scope", ["process", "group", "tree"])
def test_an_adopted_process_is_signalled_in_every_scope(world: World, scope: Scope) -> None:
    world.send(spawn("sleeps"))
    running(world)
    world.lose_keeper()
    world.next_keeper()
    world.send(Signal(WEB, 1, "STOP", scope), Signal(WEB, 1, "TERM", scope))
    assert exited(world).exit == Exit(signal="TERM")


def test_the_tree_of_an_adopted_process_is_found_wherever_it_went(world: World) -> None:
    world.send(spawn("has an escaped child"))
    running(world)
    world.settle(WEB, "has an escaped child")
    world.lose_keeper()
    world.next_keeper()
    world.send(Signal(WEB, 1, "KILL"))
    assert exited(world).survivors
    world.send(Signal(WEB, 1, "KILL", "tree"))
    assert world.wait(lambda: not exited(world).survivors)


@pytest.mark.parametrize("what", ["leaves a child", "leaves an escaped child"])
def test_survivors_are_known_to_the_next_keeper(world: World, what: str) -> None:
    world.send(spawn(what))
    (survivor,) = exited(world).survivors
    before = world.wait(lambda: named(world))
    assert before.survivors[0].pid == survivor.pid
    world.lose_keeper()
    world.next_keeper()
    assert exited(world) == before
    world.send(Signal(WEB, 1, "KILL", "tree"))
    assert world.wait(lambda: not exited(world).survivors)


def test_what_a_forgotten_record_left_on_purpose_is_left_alone(world: World) -> None:
    world.send(spawn("leaves a child", scope="process"), spawn("sleeps", DB))
    exited(world)
    pid = running(world, DB).pid
    world.send(Forget(WEB, 1))
    world.wait(lambda: WEB not in world.records)
    left = world.wait(lambda: world.marked_pids() - {pid})  # it may be between two programs
    assert len(left) == 1
    world.lose_keeper()
    world.next_keeper()
    assert set(world.records) == {DB}
    assert world.marked_pids() == {pid} | left


def test_what_was_never_written_down_is_stopped_first(world: World) -> None:
    world.send(spawn("sleeps"))
    running(world)
    world.lose_journal()
    world.send(spawn("sleeps", DB))
    stray = running(world, DB).pid
    world.lose_keeper()
    world.next_keeper()
    assert not world.lives(stray)
    assert DB not in world.records
    world.send(spawn("sleeps", DB))
    running(world, DB)
    assert world.records[DB].incarnation > 2


def test_a_socket_in_use_outlives_the_keeper(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    running(world)
    world.lose_keeper()
    world.next_keeper()
    assert bound(world, "http", ANY) == before
    world.send(Bind("http", SocketTemplate(ANY.address, backlog=7)))
    assert bound(world, "http", SocketTemplate(ANY.address, backlog=7)) == before
    world.send(Unbind("http"))
    world.wait(lambda: "http" not in world.sockets)


def test_a_socket_that_only_what_was_left_on_purpose_has_outlives_the_keeper(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    leaves = PROGRAMS["leaves a child"].argv
    world.send(Spawn(WEB, Launch(leaves, sockets=("http",), scope="process")))
    (left,) = exited(world).left
    world.send(Forget(WEB, 1))
    world.wait(lambda: reported(world))
    world.lose_keeper()
    world.next_keeper()
    assert bound(world, "http", ANY) == before
    assert world.lives(left.pid)


def test_a_socket_whose_change_was_taken_back_outlives_the_keeper(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    running(world)
    taken = SocketTemplate(world.take_port())
    world.send(Bind("http", taken))
    world.wait(lambda: isinstance(world.sockets["http"].phase, BindRefused))
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)
    world.lose_keeper()
    world.next_keeper()
    assert bound(world, "http", ANY) == before


def test_who_holds_the_predecessor_of_a_lost_and_refused_socket_is_left_alone(world: World) -> None:
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    before = running(world)
    other = SocketTemplate(InternetAddress("127.0.0.2", 0))
    world.send(Bind("http", other))
    bound(world, "http", other)
    world.send(Bind("http", SocketTemplate(world.take_port())))
    world.wait(lambda: isinstance(world.sockets["http"].phase, BindRefused))
    world.lose_keeper()
    world.next_keeper()
    assert running(world) == before
    assert world.sockets == {}


def test_a_socket_that_nobody_used_is_bound_anew(world: World) -> None:
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)
    world.lose_keeper()
    world.next_keeper()
    assert world.sockets == {}
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)


def test_a_keeper_that_leaves_is_followed_as_one_that_was_killed(world: World) -> None:
    world.send(Bind("http", ANY))
    before = bound(world, "http", ANY)
    launch = Launch(PROGRAMS["sleeps"].argv, sockets=("http",))
    world.send(Spawn(WEB, launch), spawn("exits with 3", DB))
    running(world)
    exited(world, DB, 2)
    records = dict(world.records)
    world.send(Quit(0, leaves=True))
    assert world.ended() == 0
    world.next_keeper()
    assert world.records == records
    assert bound(world, "http", ANY) == before


def test_who_holds_the_predecessor_of_a_lost_socket_is_left_alone(world: World) -> None:
    world.send(Bind("http", ANY))
    bound(world, "http", ANY)
    world.send(Spawn(WEB, Launch(PROGRAMS["sleeps"].argv, sockets=("http",))))
    before = running(world)
    other = SocketTemplate(InternetAddress("127.0.0.2", 0))
    world.send(Bind("http", other))
    bound(world, "http", other)
    world.lose_keeper()
    world.next_keeper()
    assert running(world) == before
    assert world.sockets == {}
    world.send(Bind("http", other))
    bound(world, "http", other)


def test_after_a_clean_end_there_is_nothing_to_take_over(world: World) -> None:
    world.send(spawn("exits with 3"), Bind("http", ANY))
    exited(world)
    world.send(Quit(0))
    assert world.ended() == 0
    world.next_keeper()
    assert (world.records, world.sockets) == ({}, {})


# ---- new code ----------------------------------------------------------------------------------------


def test_an_upgrade_keeps_everything(world: World) -> None:
    world.send(Bind("http", ANY), spawn("is stubborn", DB, nice=OWN_NICE), spawn("leaves a child"))
    before = bound(world, "http", ANY)
    stubborn, dead = running(world, DB), world.wait(lambda: named(world, 2))
    world.send(spawn("sleeps", ProcessId("api", 1)))
    running(world, ProcessId("api", 1))
    records = dict(world.records)
    for _ in range(2):
        world.upgrade()
        assert world.records == records
        assert bound(world, "http", ANY) == before
    assert (running(world, DB), exited(world, WEB, 2)) == (stubborn, dead)
    world.send(Signal(ProcessId("api", 1), 3, "USR1"), Signal(WEB, 2, "KILL", "tree"))
    assert exited(world, ProcessId("api", 1), 3).exit == Exit(signal="USR1")
    assert world.wait(lambda: not exited(world, WEB, 2).survivors)
    world.send(spawn("sleeps", ProcessId("new", 1)))
    running(world, ProcessId("new", 1))
    assert world.records[ProcessId("new", 1)].incarnation == 4


def test_a_keeper_that_adopted_may_be_upgraded_and_killed_again(world: World) -> None:
    world.send(spawn("sleeps"), spawn("sleeps", DB))
    running(world)
    running(world, DB)
    before = dict(world.records)
    world.lose_keeper()
    world.next_keeper()
    world.upgrade()
    assert world.records == before
    world.send(Signal(WEB, 1, "USR1"))
    assert exited(world).exit == Exit(signal="USR1")
    world.lose_keeper()
    world.next_keeper()
    assert running(world, DB) == before[DB].phase


def test_an_adopted_process_that_dies_amid_an_upgrade_is_told_as_it_ended(world: World) -> None:
    world.send(spawn("sleeps"))
    running(world)
    world.lose_keeper()
    world.next_keeper()
    world.send(Signal(WEB, 1, "USR1"))
    world.upgrade()
    assert exited(world).exit == Exit(signal="USR1")


def test_who_gets_the_number_of_the_former_controller_after_an_upgrade_is_known(
    world: World,
) -> None:
    api = ProcessId("api", 1)
    world.send(spawn("sleeps"), spawn("sleeps", DB), spawn("sleeps", api))
    world.die()  # on the fake kernel the next controller gets a number above theirs
    world.rise()
    world.send(Signal(WEB, 1, "KILL"), Signal(DB, 2, "KILL"))
    exited(world)
    exited(world, DB, 2)
    world.upgrade()  # and the one after it a number below, as does the parent of what is left
    world.send(spawn("leaves a child", ProcessId("new", 1)))
    assert exited(world, ProcessId("new", 1), 4).survivors


def test_what_went_into_the_background_just_before_an_upgrade_is_looked_for(world: World) -> None:
    has_waited(world)
    world.send(spawn("has a child that goes into the background"))
    running(world)
    world.upgrade()
    (orphan,) = world.wait(lambda: reported(world))
    assert ({*orphan.owners}, orphan.is_certain) == ({WEB, DB}, False)


def test_who_loses_its_parent_amid_an_upgrade_is_found(world: World) -> None:
    world.send(spawn(STUBBORN))
    running(world)
    world.settle(WEB, STUBBORN)
    world.send(Signal(WEB, 1, "KILL", "process"))
    world.upgrade()
    (survivor,) = world.wait(lambda: exited(world).survivors)
    world.send(Signal(WEB, 1, "KILL", "tree"))
    world.wait(lambda: not exited(world).survivors)
    assert not world.lives(survivor.pid)


# ---- the end -------------------------------------------------------------------------------------


def test_stop_is_told_and_quit_ends_with_its_code(world: World) -> None:
    world.tell("stop")
    world.wait(lambda: told(world) == ["stop"])
    world.send(Quit(3))
    assert world.ended() == 3


def test_a_new_controller_is_told_that_the_end_was_asked_for(world: World) -> None:
    world.tell("stop")
    world.wait(lambda: told(world) == ["stop"])
    world.die()
    world.rise()
    world.wait(lambda: told(world) == ["stop"])


def test_the_second_stop_kills_everything(world: World) -> None:
    world.send(spawn("is stubborn"))
    pid = running(world).pid
    world.tell("stop")
    world.wait(lambda: told(world) == ["stop"])
    world.tell("stop")
    assert world.ended() == 1
    assert not world.lives(pid)


def test_quit_leaves_nothing_behind(world: World) -> None:
    world.send(spawn("sleeps"))
    pid = running(world).pid
    world.send(Quit(0))
    assert world.ended() == 1
    assert not world.lives(pid)


# ---- what gets away ------------------------------------------------------------------------------


def reported(world: World) -> tuple[Orphan, ...]:
    """Return the processes that belong to no record, as told last."""
    return next(
        (e.orphans for e in reversed(world.observations) if isinstance(e, OrphansChanged)), ()
    )


def has_waited(world: World) -> None:
    world.send(spawn("has waited for another", DB))
    running(world, DB)
    world.settle(DB, "has waited for another")


BACKGROUND = "goes into the background"
STUBBORN = "has a stubborn child without a sign"
SIGNLESS = "fails and leaves one without a sign"


def test_who_goes_into_the_background_without_a_sign_is_found_by_parentage(world: World) -> None:
    world.send(spawn("sleeps", DB), spawn(BACKGROUND))
    (survivor,) = exited(world, WEB, 2).survivors
    running(world, DB)
    for _ in range(2):  # and so it is by the next keeper
        assert exited(world, WEB, 2).survivors[0].pid == survivor.pid
        world.lose_keeper()
        world.next_keeper()
    world.send(Signal(WEB, 2, "TERM", "tree"))
    world.wait(lambda: not exited(world, WEB, 2).survivors)
    assert not world.lives(survivor.pid)
    assert reported(world) == ()


def test_who_ends_well_and_leaves_one_is_known_beside_others_that_could_have(world: World) -> None:
    has_waited(world)
    world.send(spawn(BACKGROUND))
    (survivor,) = world.wait(lambda: exited(world, WEB, 2).survivors)
    assert reported(world) == ()
    world.send(Signal(WEB, 2, "TERM", "tree"))
    world.wait(lambda: not exited(world, WEB, 2).survivors)
    assert not world.lives(survivor.pid)


def test_what_several_that_live_may_have_left_is_reported_and_is_the_last_ones(
    world: World,
) -> None:
    has_waited(world)
    world.send(spawn(SIGNLESS))
    assert exited(world, WEB, 2).survivors == ()
    (orphan,) = world.wait(lambda: reported(world))
    assert ({*orphan.owners}, orphan.is_certain) == ({WEB, DB}, False)
    world.send(Signal(DB, 1, "KILL"))
    world.wait(lambda: not reported(world))
    assert orphan.pid in {
        each.pid
        for record in world.records.values()
        if isinstance(record.phase, Exited)
        for each in record.phase.survivors
    }


def test_what_is_nobodys_for_certain_does_not_outlive_the_keeper(world: World) -> None:
    has_waited(world)
    world.send(spawn(SIGNLESS))
    (orphan,) = world.wait(lambda: reported(world))
    world.lose_keeper()
    world.next_keeper()
    assert [each.pid for each in reported(world)] == [orphan.pid]
    world.send(EndOrphans("TERM"))
    world.wait(lambda: not reported(world))
    assert not world.lives(orphan.pid)


@pytest.mark.parametrize("adopted", [False, True])
def test_what_was_below_a_process_that_is_stopped_is_its_own(world: World, adopted: bool) -> None:
    has_waited(world)
    world.send(spawn(STUBBORN))
    running(world)
    world.settle(WEB, STUBBORN)
    if adopted:
        world.lose_keeper()
        world.next_keeper()
    world.send(Signal(WEB, 2, "TERM", "process"))
    (survivor,) = world.wait(lambda: exited(world, WEB, 2).survivors)
    world.send(Signal(WEB, 2, "KILL", "tree"))
    world.wait(lambda: not exited(world, WEB, 2).survivors)
    assert not world.lives(survivor.pid)
    assert reported(world) == ()


def test_what_is_below_the_next_process_of_a_number_is_left_alone(world: World) -> None:
    world.send(spawn("leaves an escaped child"))
    assert exited(world).survivors
    world.send(spawn(STUBBORN, DB))  # on the fake kernel it gets the number of the dead one
    running(world, DB)
    world.settle(DB, STUBBORN)
    world.send(Signal(WEB, 1, "KILL", "tree"))
    world.wait(lambda: not exited(world).survivors)
    world.send(Signal(DB, 2, "TERM", "process"))
    (child,) = world.wait(lambda: exited(world, DB, 2).survivors)
    assert world.lives(child.pid)


def test_what_somebody_who_lives_has_left_is_looked_for_after_a_start(world: World) -> None:
    has_waited(world)
    world.send(spawn("has a child that goes into the background"))
    (orphan,) = world.wait(lambda: reported(world))
    assert ({*orphan.owners}, orphan.is_certain) == ({WEB, DB}, False)


def test_what_is_left_on_purpose_is_named_after_its_record_is_gone(world: World) -> None:
    world.send(spawn("leaves a child", scope="process"))
    (left,) = exited(world).left
    world.send(Forget(WEB, 1))
    (orphan,) = world.wait(lambda: reported(world))
    assert (orphan.pid, orphan.owners, orphan.is_certain) == (left.pid, (WEB,), True)


def test_another_scope_counts_for_what_is_left_already(world: World) -> None:
    world.send(spawn("leaves a child", scope="process"))
    (left,) = exited(world).left
    world.send(Adjust(WEB, 1, Settings(scope="tree")))
    world.wait(lambda: exited(world).survivors)
    world.send(Signal(WEB, 1, "KILL", "tree"))
    world.wait(lambda: not exited(world).survivors)
    assert not world.lives(left.pid)


def test_children_of_an_adopted_process_that_wiped_their_marker_are_found(world: World) -> None:
    world.send(spawn("keeps a worker and wipes its environment"))
    running(world)
    world.settle(WEB, "keeps a worker and wipes its environment")
    world.lose_keeper()
    world.next_keeper()
    world.send(Signal(WEB, 1, "KILL"))
    (survivor,) = exited(world).survivors
    world.lose_keeper()
    world.next_keeper()
    assert [each.pid for each in exited(world).survivors] == [survivor.pid]
    world.send(Signal(WEB, 1, "KILL", "tree"))
    world.wait(lambda: not exited(world).survivors)
    assert not world.lives(survivor.pid)


# ---- whom signals reach ----------------------------------------------------------------------------


@pytest.mark.parametrize("adopted", [False, True])
def test_a_signal_to_the_children_reaches_them_alone(world: World, adopted: bool) -> None:
    world.send(spawn("has an escaped child"))
    pid = running(world).pid
    world.settle(WEB, "has an escaped child")
    (child,) = until(lambda: world.marked_pids() - {pid})  # not while it is between two programs
    if adopted:
        world.lose_keeper()
        world.next_keeper()
    world.send(Signal(WEB, 1, "KILL", "children"), spawn("sleeps", DB))
    others = {pid, running(world, DB).pid}
    until(lambda: child not in world.marked_pids() - others)
    assert world.lives(pid)


def test_a_stopped_process_is_woken_by_whatever_signal_asks_it_to_end(world: World) -> None:
    launch = Launch(PROGRAMS["sleeps"].argv, stop_signal="USR1")
    world.send(Spawn(WEB, launch))
    running(world)
    world.send(Signal(WEB, 1, "STOP"), Signal(WEB, 1, "USR1"))
    assert exited(world).exit == Exit(signal="USR1")


# ---- what processes say of themselves --------------------------------------------------------------


def speaking(
    world: World,
    what: str = "speaks",
    id_: ProcessId = WEB,
    *,
    watchdog_ns: int | None = None,
    pid_file: str | None = None,
) -> int:
    """Start a process that says what it is told to, and return its pid."""
    env = {"RELAY": world.path(f"relay-{id_}")}
    launch = Launch(
        PROGRAMS[what].argv, env, notify=True, watchdog_ns=watchdog_ns, pid_file=pid_file
    )
    world.send(Spawn(id_, launch))
    pid = running(world, id_).pid
    world.settle(id_, "speaks")
    return pid


def said(world: World, claim: Callable[[Notified], object], id_: ProcessId = WEB) -> Notified:
    """Return what a process has said once that is so."""

    def ask() -> Notified | None:
        found = world.records[id_].notified
        return found if found is not None and claim(found) else None

    return world.wait(ask)


def test_what_a_process_says_stands_on_its_record_and_repeats_are_no_news(world: World) -> None:
    speaking(world)
    assert world.records[WEB].notified == Notified()
    world.say(WEB, "STATUS=loads")
    assert said(world, lambda it: it.status == "loads").ready_at_ns is None
    world.say(WEB, "READY=1")
    ready = said(world, lambda it: it.ready_at_ns)
    before = len(changes(world))
    for _ in range(5):
        world.say(WEB, "READY=1\nSTATUS=loads\nMAINPID=0")
    world.say(WEB, "STOPPING=1")
    stopping = said(world, lambda it: it.stopping_at_ns)
    assert stopping == replace(ready, stopping_at_ns=stopping.stopping_at_ns)
    assert len(changes(world)) == before + 1


def test_who_has_no_socket_is_not_heard(world: World) -> None:
    world.send(spawn("sleeps"))
    running(world)
    assert world.records[WEB].notified is None


def test_nobody_speaks_for_a_process_that_is_not_of_it(world: World) -> None:
    speaking(world)
    world.forge(WEB, "READY=1")
    world.say(WEB, "STATUS=starts")
    said(world, lambda it: it.status == "starts")
    assert world.records[WEB].notified == Notified(is_heard=True, status="starts")


def test_what_was_said_and_who_is_heard_outlives_keepers(world: World) -> None:
    speaking(world)
    world.say(WEB, "READY=1\nSTATUS=one")
    ready = said(world, lambda it: it.ready_at_ns)
    world.lose_keeper()
    world.next_keeper()
    assert world.records[WEB].notified == ready
    world.say(WEB, "STATUS=two")
    said(world, lambda it: it.status == "two")
    world.upgrade()
    assert world.records[WEB].notified == replace(ready, status="two")
    world.say(WEB, "STATUS=three")
    said(world, lambda it: it.status == "three")


def test_the_last_words_of_a_process_are_those_of_its_own_record(world: World) -> None:
    speaking(world)
    world.say(WEB, "READY=1")
    said(world, lambda it: it.ready_at_ns)
    world.say(WEB, "STOPPING=1\nSTATUS=bye")
    world.end(WEB)
    assert exited(world).exit == Exit(0)
    last = world.records[WEB].notified
    assert last is not None
    assert (last.status, last.stopping_at_ns is None) == ("bye", False)
    world.send(replace(spawn("sleeps"), replaces=1))
    world.wait(lambda: world.records[WEB].incarnation == 2)
    assert world.records[WEB].notified is None


def test_who_is_not_heard_of_in_time_is_late(world: World) -> None:
    speaking(world, watchdog_ns=50 * MILLISECOND)
    late = said(world, lambda it: it.late_at_ns)
    world.say(WEB, "WATCHDOG=1")
    assert said(world, lambda it: it.is_heard) == replace(late, is_heard=True)


def test_a_process_may_say_itself_that_it_fails(world: World) -> None:
    speaking(world)
    world.say(WEB, "WATCHDOG=trigger")
    said(world, lambda it: it.late_at_ns)


# ---- main processes that hand over -------------------------------------------------------------------


def test_a_record_goes_on_with_the_descendant_that_was_named(world: World) -> None:
    old = speaking(world, "speaks and has an heir")
    heir = world.heir(WEB)
    world.say(WEB, f"READY=1\nMAINPID={heir}")
    ready = said(world, lambda it: it.main_pid == heir)
    world.end(WEB)
    ended = exited(world)
    assert (ended.pid, ended.successor, [each.pid for each in ended.survivors]) == (
        old,
        heir,
        [heir],
    )
    world.send(Follow(WEB, 1, heir))
    phase = Running(heir, ended.started_at_ns or 0)
    world.wait(lambda: world.records[WEB].phase == phase)
    assert world.records[WEB].notified == ready
    # It is held like the one before, by the next keeper too, and its end is its own.
    world.lose_keeper()
    world.next_keeper()
    assert running(world) == phase
    world.send(Signal(WEB, 1, "TERM"))
    last = exited(world)
    assert (last.pid, last.exit, last.survivors, last.successor) == (
        heir,
        Exit(signal="TERM"),
        (),
        0,
    )


def test_a_file_names_the_descendant_that_goes_on_also_after_the_end(world: World) -> None:
    path = world.write_pid_file(1)
    speaking(world, "speaks and has an heir", pid_file=path)
    heir = world.heir(WEB)
    world.end(WEB)
    assert exited(world).successor == 0  # nobody follows a stranger
    world.write_pid_file(heir)
    world.wait(lambda: exited(world).successor == heir)
    world.send(Follow(WEB, 1, heir))
    world.wait(lambda: pid_of(world.records[WEB].phase) == heir)
    world.send(Signal(WEB, 1, "KILL"))
    assert exited(world).exit == Exit(signal="KILL")


def test_nobody_goes_on_who_is_not_left_behind(world: World) -> None:
    speaking(world, "speaks and has an heir")
    stranger = speaking(world, id_=DB)
    heir = world.heir(WEB)
    world.say(WEB, f"MAINPID={stranger}")
    said(world, lambda it: it.main_pid == stranger)
    world.end(WEB)
    assert exited(world).successor == 0
    world.send(Follow(WEB, 1, stranger), Signal(WEB, 1, "KILL", "tree"))
    world.wait(lambda: not exited(world).survivors)
    world.send(Follow(WEB, 1, heir), Forget(WEB, 1))
    world.wait(lambda: WEB not in world.records)
    assert running(world, DB).pid == stranger


def test_a_descendant_without_a_sign_is_heard_before_anybody_knows_that_its_parent_is_dead() -> (
    None
):
    world = Fake()
    orphan = Program(escapes=True, wipes=True)
    world.kernel.script = lambda *_: Program(children=(orphan,))
    main = speaking(world)
    child = world.heir(WEB)
    world.end(WEB)
    process = world.kernel.processes[child]
    assert world.kernel.processes[main].ended is not None  # and not reaped
    world.kernel.say(process, f"READY=1\nMAINPID={child}", child, uid=65534)
    ended = exited(world)
    assert ended.successor == child
    assert said(world, lambda it: it.ready_at_ns).main_pid == child
