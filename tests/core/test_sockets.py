from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from reconciler.core.intents import restarted
from reconciler.model.action import Bind, Signal, Spawn, Unbind
from reconciler.model.address import may_overlap, parse_address
from reconciler.model.intent import NO_INTENT
from reconciler.model.observation import IntentChanged, SocketChanged, SocketRestored
from reconciler.model.process import LaunchError
from reconciler.model.socket import BindRefused, Bound, Lost, Unaccepted
from reconciler.model.spec import HooksSpec, MaxRestartsSpec, SecretSpec
from reconciler.model.value import replace
from tests.core.stage import HOOK, S, Stage, job, listener, process, spec, watcher

if TYPE_CHECKING:
    from collections.abc import Callable

WEB = watcher(use_sockets=("http",))


def sockets(stage: Stage) -> list[str]:
    words = {Bind: "bind", Unbind: "unbind", Spawn: "spawn", Signal: "stop"}
    return [
        f"{words[type(a)]} {getattr(a, 'name', '') or getattr(a, 'id', '')}"
        for _, a in stage.history
        if type(a) in words
    ]


def test_sockets_are_bound_before_their_users_start() -> None:
    assert sockets(Stage().apply(spec({"http": listener()}, web=WEB))) == [
        "bind http",
        "spawn web.1",
    ]


def test_a_taken_port_is_told_tried_again_and_heals() -> None:
    stage = Stage()
    stage.refused_ports = {8000}
    stage.apply(spec({"http": listener()}, web=WEB, other=watcher())).wait(6)
    assert stage.alive() == ["other.1"]
    assert stage.status("web").state == "Waiting"
    assert "address in use" in stage.status("web").note
    stage.refused_ports = set()
    stage.wait(5)
    assert stage.alive() == ["other.1", "web.1"]


def test_retries_are_never_further_apart_than_five_seconds() -> None:
    stage = Stage()
    stage.refused_ports = {8000}
    stage.apply(spec({"http": listener()}, web=WEB)).wait(60)
    times = [at for at, a in stage.history if isinstance(a, Bind)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gaps) == 5.0
    assert gaps == sorted(gaps)


def test_another_port_is_bound_first_then_its_users_roll() -> None:
    stage = Stage().apply(spec({"http": listener(8000)}, web=replace(WEB, numprocesses=2))).wait(5)
    stage.history.clear()
    stage.apply(spec({"http": listener(9000)}, web=replace(WEB, numprocesses=2))).wait(5)
    assert sockets(stage) == ["bind http", "stop web.1", "spawn web.1", "stop web.2", "spawn web.2"]


def test_users_stay_while_the_new_port_is_taken() -> None:
    stage = Stage().apply(spec({"http": listener(8000)}, web=WEB)).wait(5)
    stage.refused_ports = {9000}
    stage.apply(spec({"http": listener(9000)}, web=WEB)).wait(30)
    assert stage.alive() == ["web.1"]
    assert stage.signals() == []
    stage.refused_ports = set()
    stage.wait(6)
    assert len(stage.signals()) == 1


def test_users_of_a_socket_that_somebody_else_is_in_the_place_of_are_not_restarted_at_once() -> (
    None
):
    stage = Stage().apply(spec({"http": listener(8000)}, web=WEB)).wait(5)
    lost, stage.refused_ports = stage.sockets["http"], {8000}
    refused = BindRefused("EADDRINUSE", "address in use", stage.now)
    stage.tell(SocketChanged(replace(lost, phase=refused, held=lost.template)))
    stage.tell(IntentChanged("web", restarted(NO_INTENT, None, at_once=True))).wait(30)
    assert stage.signals() == []
    stage.refused_ports = set()
    assert len(stage.wait(6).signals()) == 1


def test_a_tuning_change_touches_nobody() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=WEB)).wait(5)
    stage.history.clear()
    stage.apply(spec({"http": listener(backlog=16)}, web=WEB)).wait(5)
    assert sockets(stage) == ["bind http"]


def test_a_refusal_is_told_once_however_often_it_is_tried() -> None:
    stage = Stage()
    stage.refused_ports = {8000}
    stage.apply(spec({"http": listener()}, web=WEB)).wait(60)
    stage.refused_ports = set()
    stage.wait(6)
    told = [each.type for each in stage.events if each.type.startswith("socket.")]
    assert told == ["socket.refused", "socket.bound"]


def test_a_socket_whose_file_is_lost_is_bound_anew_and_its_users_roll() -> None:
    web = replace(WEB, numprocesses=2)
    stage = Stage().apply(spec({"http": listener()}, web=web, other=watcher())).wait(5)
    stage.history.clear()
    lost = stage.sockets["http"] = replace(stage.sockets["http"], phase=Lost(stage.now))
    stage.tell(SocketChanged(lost)).wait(10)
    assert sockets(stage) == ["bind http", "stop web.1", "spawn web.1", "stop web.2", "spawn web.2"]
    assert stage.alive() == ["other.1", "web.1", "web.2"]
    stage.history.clear()
    assert stage.wait(3600).history == []


def test_after_a_restart_at_once_a_lost_socket_still_replaces_its_users_one_by_one() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=TWO)).wait(5)
    stage.tell(IntentChanged("web", restarted(NO_INTENT, None, at_once=True))).wait(5)
    stage.history.clear()
    _lose(stage).wait(5)
    assert [at for at, *_ in stage.signals()] == [10.0, 11.0]


def test_an_unused_socket_is_bound_and_a_removed_one_is_closed() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=watcher()))
    assert "http" in stage.sockets
    stage.apply(spec(web=watcher()))
    assert stage.sockets == {}


def test_reuseport_gives_each_slot_a_socket_that_lives_as_long_as_it() -> None:
    shared = {"http": listener(reuseport=True)}
    stage = Stage().apply(spec(shared, web=replace(WEB, numprocesses=2)))
    assert sorted(stage.sockets) == ["http.1", "http.2"]
    assert stage.alive() == ["web.1", "web.2"]
    stage.wait(20).apply(spec(shared, web=replace(WEB, numprocesses=1))).wait(1)
    assert sorted(stage.sockets) == ["http.1"]
    for _ in range(5):
        stage.exit("web.1", 1)
    assert stage.alive() == []
    assert stage.sockets == {}
    stage.wait(60)
    assert stage.alive() == ["web.1"]


def test_the_same_address_in_another_way_is_handed_over() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=replace(WEB, numprocesses=2))).wait(5)
    stage.refused_ports = {8000}  # its own users hold it
    stage.history.clear()
    stage.apply(spec({"http": listener(interface="lo")}, web=replace(WEB, numprocesses=2)))
    assert stage.alive() == []
    stage.refused_ports = set()
    stage.wait(5)
    assert stage.alive() == ["web.1", "web.2"]
    assert "unbind http" in sockets(stage)


def test_what_waits_to_be_replaced_tells_that_its_socket_cannot_be_had() -> None:
    stage = Stage().apply(spec({"http": listener(8000)}, web=TWO)).wait(5)
    stage.refused_ports = {9000}
    stage.apply(spec({"http": listener(9000)}, web=TWO)).wait(60)
    why = "slot 1: not replaced yet: socket http: "
    assert stage.status("web").note.startswith(f"0 of 2 replaced, {why}")
    stage.refused_ports = set()
    assert stage.wait(20).status("web").as_desired


def test_a_paused_revision_stops_nobody_for_a_socket_that_is_to_be_handed_over() -> None:
    web = replace(TWO, hooks=HooksSpec(before_spawn=HOOK))
    old = spec({"http": listener()}, web=web, db=watcher())
    stage = Stage().apply(old)
    for hook in ("web.1:before_spawn", "web.2:before_spawn"):
        stage.exit(hook, 0)
    new = {"http": listener(interface="lo")}
    stage.wait(100).try_out(spec(new, web=web, db=watcher(cmd=("new",))))
    stage.exit("db.1", 3)  # while those of web wait for their hooks
    assert stage.outcome == "paused"
    for hook in ("web.1:before_spawn", "web.2:before_spawn"):
        stage.exit(hook, 0)
    stage.wait(60)
    assert [name for _, name, _ in stage.signals()] == ["db.1"]


def test_an_address_at_which_our_own_processes_still_listen_is_free_once_they_have_ended() -> None:
    web = replace(WEB, numprocesses=2)
    stage = Stage().apply(spec({"http": listener(8000)}, web=web)).wait(5)
    stage.apply(spec({"http": listener(9000)}, web=web))
    stage.history.clear()
    stage.apply(spec({"http": listener(8000)}, web=web))  # amid the roll: web.2 listens there still
    assert sockets(stage) == ["bind http", "stop web.2", "bind http", "spawn web.2"]
    stage.wait(5)
    assert sockets(stage)[4:] == ["stop web.1", "spawn web.1"]


def test_a_process_that_takes_its_time_to_end_is_waited_for_before_its_address_is_bound() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=WEB)).wait(5)
    stage.stubborn = frozenset({"web.1"})
    stage.history.clear()
    stage.apply(spec({"www": listener()}, web=replace(WEB, use_sockets=("www",)))).wait(9)
    assert sockets(stage) == ["bind www", "unbind http", "bind www", "stop web.1"]
    stage.wait(2)
    assert sockets(stage)[4:] == ["stop web.1", "bind www", "spawn web.1"]


def test_nobody_is_stopped_for_an_address_that_another_of_our_sockets_has() -> None:
    held = {"http": listener(8000), "admin": listener(9000)}
    web = watcher(use_sockets=("http", "admin"))
    stage = Stage().apply(spec(held, web=web)).wait(5)
    stage.apply(spec({"http": listener(9000), "admin": listener(8000)}, web=web)).wait(60)
    assert stage.signals() == []


def test_all_interfaces_are_bound_in_place_of_one() -> None:
    stage = Stage().apply(spec({"http": listener(host="127.0.0.1")}, web=WEB)).wait(5)
    stage.history.clear()
    stage.apply(spec({"http": listener(host="0.0.0.0")}, web=WEB)).wait(5)
    assert sockets(stage) == ["bind http", "stop web.1", "unbind http", "bind http", "spawn web.1"]


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "80", True),
        ("[::1]:80", "[::]:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("[::1]:80", "127.0.0.1:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:/a", "unix:/a", False),
        ("unix:/a", "127.0.0.1:80", False),
    ],
)
def test_addresses_overlap(one: str, other: str, *, overlaps: bool) -> None:
    addresses = parse_address(one), parse_address(other)
    assert may_overlap(*addresses) == may_overlap(*addresses[::-1]) == overlaps


def test_status_names_the_users_and_the_trouble() -> None:
    stage = Stage()
    stage.refused_ports = {8000}
    stage.apply(spec({"http": listener()}, web=WEB))
    (status,) = stage.reconciler.socket_statuses()
    assert (status.state, status.used_by, status.note) == ("Failed", ("web",), "address in use")


def test_sockets_that_the_process_is_told_of_are_not_announced_as_well() -> None:
    told = watcher(cmd=("x", "fd://${sockets.http}"), use_sockets=("app", "http"))
    stage = Stage().apply(spec({"http": listener(8000), "app": listener(9000)}, web=told))
    (spawn,) = (a for _, a in stage.history if isinstance(a, Spawn))
    assert (spawn.launch.sockets, spawn.launch.announced) == (("app", "http"), 1)
    assert spawn.launch.argv == ("x", "fd://4")


def test_another_order_of_the_sockets_replaces_their_users() -> None:
    held = {"http": listener(8000), "app": listener(9000)}
    stage = Stage().apply(spec(held, web=watcher(use_sockets=("app", "http")))).wait(5)
    stage.history.clear()
    stage.apply(spec(held, web=watcher(use_sockets=("http", "app")))).wait(5)
    assert sockets(stage) == ["stop web.1", "spawn web.1"]


# ---- reuseport: who listens gets a share of the clients ------------------------------------------

SHARED = {"http": listener(reuseport=True)}
TWO = replace(WEB, numprocesses=2)


def deaf(stage: Stage) -> list[str]:
    """Return the sockets that listen for a slot that does not live."""
    return [
        name
        for name, record in stage.sockets.items()
        if isinstance(record.phase, Bound) and f"web.{name.partition('.')[2]}" not in stage.alive()
    ]


def _hook_says_no(stage: Stage) -> None:
    hooked = replace(TWO, hooks=HooksSpec(before_spawn=HOOK))
    stage.apply(spec(SHARED, web=hooked)).exit("web.1:before_spawn").exit("web.2:before_spawn", 1)


def _secret_is_missing(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=replace(TWO, secrets={"KEY": SecretSpec(file="/key")})))


def _pause_between_starts(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=replace(TWO, spawn_interval=10 * S)))


def _crashes(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=TWO))
    for _ in range(5):
        stage.exit("web.2", 1)


def _shortage(stage: Stage) -> None:
    stage.unstartable["web.2"] = LaunchError("fork", "EAGAIN")
    stage.apply(spec(SHARED, web=TWO))


def _given_up(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=replace(TWO, max_restarts=MaxRestartsSpec(1))))
    stage.exit("web.2", 1).exit("web.2", 1)


def _another_port_is_taken(stage: Stage) -> None:
    stage.refused_ports = {9000}
    both = {**SHARED, "admin": listener(9000, reuseport=True)}
    stage.apply(spec(both, web=replace(TWO, use_sockets=("http", "admin"))))


def _used_no_more(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=TWO)).wait(5)
    stage.apply(spec(SHARED, web=watcher(numprocesses=2)))


def _scaled_down(stage: Stage) -> None:
    stage.apply(spec(SHARED, web=TWO)).wait(5)
    stage.apply(spec(SHARED, web=replace(TWO, numprocesses=1)))


@pytest.mark.parametrize(
    "obstacle",
    [
        _hook_says_no,
        _secret_is_missing,
        _pause_between_starts,
        _crashes,
        _shortage,
        _given_up,
        _another_port_is_taken,
        _used_no_more,
        _scaled_down,
    ],
)
def test_no_socket_listens_for_a_slot_that_is_not_about_to_start(
    obstacle: Callable[[Stage], None],
) -> None:
    stage = Stage()
    obstacle(stage)
    for _ in range(8):
        assert deaf(stage) == []
        stage.wait(0.4)
    if obstacle is not _used_no_more:  # their processes have ended: nobody listens at all
        assert len(stage.sockets) >= len(stage.alive())


def test_a_slot_with_two_sockets_of_its_own_starts_when_both_can_be_had() -> None:
    stage = Stage()
    _another_port_is_taken(stage)
    stage.refused_ports = set()
    stage.wait(6)
    assert stage.alive() == ["web.1", "web.2"]
    assert sorted(stage.sockets) == ["admin.1", "admin.2", "http.1", "http.2"]


def test_a_process_that_is_started_again_at_once_keeps_its_socket() -> None:
    stage = Stage().apply(spec(SHARED, web=TWO)).wait(20)
    stage.history.clear()
    stage.exit("web.2", 1)
    assert sockets(stage) == ["spawn web.2"]


def test_the_tuning_of_a_slots_own_socket_is_brought_to_it_while_it_runs() -> None:
    stage = Stage().apply(spec(SHARED, web=TWO)).wait(5)
    stage.history.clear()
    stage.apply(spec({"http": listener(reuseport=True, backlog=16)}, web=TWO)).wait(5)
    assert sockets(stage) == ["bind http.1", "bind http.2"]


def test_a_run_of_a_job_gets_its_own_socket_just_before_its_process() -> None:
    once = job(use_sockets=("http",), hooks=HooksSpec(before_spawn=HOOK))
    stage = Stage().apply(spec(SHARED, web=once))
    assert stage.sockets == {}
    stage.exit("web.1:before_spawn")
    assert sockets(stage)[-2:] == ["bind http.1", "spawn web.1"]
    stage.exit("web.1")
    assert stage.sockets == {}
    assert process("web.1") not in stage.records


def test_status_does_not_say_that_a_slot_waits_for_a_socket_of_its_own() -> None:
    stage = Stage()
    _crashes(stage)
    assert (stage.slot("web.2").state, stage.slot("web.2").note[:6]) == ("BackOff", "exit 1")


# ---- what users do to sockets --------------------------------------------------------------------


def _waiting(stage: Stage, count: int) -> Stage:
    unaccepted = Unaccepted(count, stage.now) if count else None
    record = stage.sockets["http"] = replace(stage.sockets["http"], unaccepted=unaccepted)
    return stage.tell(SocketChanged(record))


def test_status_says_that_nobody_accepts_and_why_that_may_be() -> None:
    rests = replace(WEB, autostart=False)
    stage = Stage().apply(spec({"http": listener()}, web=WEB, api=rests)).wait(20)
    (status,) = _waiting(stage, 1).reconciler.socket_statuses()
    assert (status.state, status.waiting) == ("Unserved", 1)
    assert status.note.startswith(
        "1 client waits and no process accepts: does web take the socket?"
    )
    assert "exec" in status.note
    assert "${sockets.http}" in status.note
    (status,) = _waiting(stage, 0).reconciler.socket_statuses()
    assert (status.state, status.waiting, status.note) == ("Bound", 0, "")
    assert stage.signals() == []


def test_who_was_told_the_number_of_a_socket_needs_no_advice_about_listen_fds() -> None:
    web = replace(WEB, cmd=("serve", "${sockets.http}"))
    stage = Stage().apply(spec({"http": listener()}, web=web)).wait(20)
    (status,) = _waiting(stage, 3).reconciler.socket_statuses()
    assert status.note == "3 clients wait and no process accepts"


@pytest.mark.parametrize(
    ("what", "by", "found", "said"),
    [
        (
            "file",
            ("web.2",),
            None,
            "web.2 removed the file of socket http when it ended; it was put back, no process is replaced",
        ),
        (
            "file",
            (),
            None,
            "the file of socket http was removed; it was put back, no process is replaced",
        ),
        (
            "listening",
            ("web.1",),
            None,
            "web.1 shut down socket http: its clients were refused; it listens again",
        ),
        (
            "backlog",
            ("web.1", "web.2"),
            511,
            "web.1 or web.2 set the backlog of socket http to 511; it is 2048 again",
        ),
    ],
)
def test_what_was_undone_is_told_in_words(
    what: str, by: tuple[str, ...], found: int | None, said: str
) -> None:
    stage = Stage().apply(spec({"http": listener()}, web=TWO)).wait(20)
    stage.history.clear()
    stage.tell(SocketRestored("http", what, tuple(map(process, by)), found)).wait(100)  # type: ignore[arg-type]
    assert (stage.events[-1].type, stage.events[-1].message) == ("socket.restored", said)
    assert stage.history == []


def test_a_socket_that_cannot_move_says_where_it_still_serves() -> None:
    stage = Stage().apply(spec({"http": listener(8000)}, web=WEB)).wait(5)
    stage.refused_ports = {9000}
    stage.apply(spec({"http": listener(9000)}, web=WEB))
    record = stage.sockets["http"]
    assert isinstance(record.phase, BindRefused)
    phase = replace(record.phase, serves="127.0.0.1:8000")
    stage.tell(SocketChanged(replace(record, phase=phase)))
    (status,) = stage.reconciler.socket_statuses()
    assert (status.state, status.listen) == ("Failed", "127.0.0.1:8000")
    assert status.note == "serves 127.0.0.1:8000; address in use"


# ---- replaced again and again for what is in no spec ---------------------------------------------


def _lose(stage: Stage) -> Stage:
    lost = stage.sockets["http"] = replace(stage.sockets["http"], phase=Lost(stage.now))
    return stage.tell(SocketChanged(lost))


def test_a_slot_that_is_replaced_three_times_in_a_row_for_its_socket_is_held_back_and_told() -> (
    None
):
    stage = Stage().apply(spec({"http": listener()}, web=TWO)).wait(100)
    began = stage.now
    while stage.now < began + 300 * S:
        _lose(stage).wait(5)
    times = [at for at, a in stage.history if isinstance(a, Signal) and a.id == process("web.1")]
    assert 6 <= len(times) <= 9
    assert all(after - before >= 60 for before, after in itertools.pairwise(times[3:]))
    status = stage.status("web")
    assert (status.state, status.as_desired) == ("Failing", False)
    assert "held back: replaced" in status.note
    assert "because socket http was bound again each time" in status.note
    stage.wait(200)  # it is over: the last ones are replaced once more, and that is that
    assert stage.status("web").as_desired
    stage.history.clear()
    assert stage.wait(3600).signals() == []


def test_an_edit_and_a_restart_do_not_wait_for_what_was_held_back() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=WEB)).wait(100)
    for _ in range(5):
        _lose(stage).wait(3)
    assert stage.status("web").state == "Failing"
    stage.history.clear()
    stage.apply(spec({"http": listener()}, web=replace(WEB, cmd=("serve", "2")))).wait(3)
    assert stage.spawned() == ["web.1"]
    assert stage.status("web").as_desired


def test_sockets_that_are_lost_now_and_then_hold_nobody_back() -> None:
    stage = Stage().apply(spec({"http": listener()}, web=WEB)).wait(300)
    for _ in range(6):
        stage.history.clear()
        _lose(stage).wait(3)
        assert len(stage.signals()) == 1
        stage.wait(300)
