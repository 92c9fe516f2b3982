"""What runs on demand: it rests until a client comes, and again when nobody was there for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core import orders
from reconciler.model.action import CountClients
from reconciler.model.observation import ClientsCounted, SocketChanged
from reconciler.model.spec import DependencySpec, OnDemandSpec, ReadySpec
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.value import replace
from tests.core.stage import S, Stage, listener, process, spec, watcher

if TYPE_CHECKING:
    from reconciler.model.spec import Spec, WatcherSpec

SOCKETS = {"http": listener(8000)}


def lazy(idle: int | None = None, **fields: object) -> WatcherSpec:
    """Return a watcher that a client starts, and that stops after so many seconds without one."""
    timeout = None if idle is None else idle * S
    return watcher(on_demand=OnDemandSpec(timeout), use_sockets=("http",), **fields)


def on_stage(web: WatcherSpec, **others: WatcherSpec) -> Stage:
    return Stage().apply(spec(SOCKETS, web=web, **others))


def client(stage: Stage) -> Stage:
    """Let a client come to the socket that nobody serves."""
    record = replace(stage.sockets["http"], client_since_ns=stage.now)
    stage.sockets["http"] = record
    return stage.tell(SocketChanged(record))


def served(stage: Stage) -> Stage:
    """Let the keeper see that somebody serves the socket again."""
    record = replace(stage.sockets["http"], client_since_ns=None)
    stage.sockets["http"] = record
    return stage.tell(SocketChanged(record))


def asked(stage: Stage) -> list[float]:
    return [at for at, action in stage.history if isinstance(action, CountClients)]


def test_it_rests_as_desired_until_a_client_comes() -> None:
    stage = on_stage(lazy(numprocesses=2)).wait(600)
    status = stage.status("web")
    assert (status.state, status.as_desired, stage.spawned()) == ("Idle", True, [])
    assert status.note == "slot 1: starts with the first connection to http"
    client(stage)
    assert stage.alive() == ["web.1", "web.2"]
    served(stage).wait(600)
    assert stage.alive() == ["web.1", "web.2"]
    assert asked(stage) == []


def test_it_stops_at_the_end_of_an_idle_time_without_clients_and_starts_again() -> None:
    stage = client(on_stage(lazy(60)).wait(5))
    served(stage).wait(59)
    assert asked(stage) == []
    assert stage.slot("web.1").next_ns == stage.wall_ns + 65 * S
    stage.wait(1)
    assert asked(stage) == [65]
    stage.tell(ClientsCounted("web", 3)).wait(60)
    assert (asked(stage), stage.alive()) == ([65, 125], ["web.1"])
    stage.tell(ClientsCounted("web", 0))
    assert stage.alive() == []
    assert stage.status("web").state == "Idle"
    assert stage.status("web").restarts == 0
    client(stage.wait(1000))
    assert stage.alive() == ["web.1"]
    served(stage).wait(59)
    assert asked(stage) == [65, 125]


def test_what_is_asked_whether_it_is_ready_is_so_once_and_its_start_took_until_then() -> None:
    stage = client(on_stage(lazy(ready=ReadySpec(delay=2 * S)))).wait(10)
    told = [each for each in stage.events if each.type in {"process.ready", "demand.started"}]
    assert [each.message for each in told] == [
        "web.1 is ready after 2s",
        "web.1 was started by a connection, and was there after 2s",
    ]
    assert stage.records[process("web.1")].memory.cold_start_ns == 2 * S


def test_a_count_that_the_kernel_does_not_tell_stops_nobody() -> None:
    stage = served(client(on_stage(lazy(60)))).wait(60).tell(ClientsCounted("web", None)).wait(30)
    assert stage.alive() == ["web.1"]


def test_a_client_that_came_since_the_count_keeps_it_awake() -> None:
    stage = served(client(on_stage(lazy(60, numprocesses=2)).wait(1))).wait(60)
    stage.drains = frozenset({"web.1", "web.2"})
    stage.tell(ClientsCounted("web", 0))
    assert {name for _, name, _ in stage.signals()} == {"web.1", "web.2"}
    stage.exit("web.1").exit("web.2")
    assert stage.alive() == []
    client(stage)
    assert stage.alive() == ["web.1", "web.2"]


def test_a_crash_is_mended_while_it_is_in_use() -> None:
    stage = served(client(on_stage(lazy(60, numprocesses=2)))).wait(5).exit("web.1", 1)
    assert stage.alive() == ["web.1", "web.2"]


def test_a_crash_of_the_only_process_is_mended_when_somebody_comes() -> None:
    stage = served(client(on_stage(lazy()))).wait(5).exit("web.1", 1).wait(60)
    assert (stage.alive(), stage.status("web").state) == ([], "Idle")
    assert client(stage).alive() == ["web.1"]


def test_the_cold_start_is_measured_from_the_client_to_the_process() -> None:
    stage = on_stage(lazy(60)).wait(10)
    record = replace(stage.sockets["http"], client_since_ns=stage.now - 120 * MS)
    stage.sockets["http"] = record
    served(stage.tell(SocketChanged(record))).wait(2)
    (event,) = [each for each in stage.events if each.type == "demand.started"]
    assert event.message == "web.1 was started by a connection, and was there after 120ms"
    stage.wait(60).tell(ClientsCounted("web", 0))
    assert stage.status("web").note.endswith("; the last cold start took 120ms")


def test_a_new_controller_gives_what_runs_a_whole_idle_time() -> None:
    wanted: Spec = spec(SOCKETS, web=lazy(60))
    stage = served(client(Stage().apply(wanted))).wait(50)
    stage.new_controller(wanted).wait(10)
    stage.tell(ClientsCounted("web", 0)).wait(59)
    assert stage.alive() == ["web.1"]
    stage.wait(1).tell(ClientsCounted("web", 0))
    assert stage.alive() == []


def test_who_depends_on_what_runs_on_demand_need_not_wait() -> None:
    api = watcher(depends_on={"web": DependencySpec("ready")})
    assert on_stage(lazy(), api=api).alive() == ["api.1"]


def test_who_depends_on_it_is_not_replaced_because_it_wakes_up_again() -> None:
    needs_http = {"web": DependencySpec("ready", on_restart="restart")}
    stage = on_stage(lazy(60), other=watcher(depends_on=needs_http)).wait(5)
    served(client(stage)).wait(60)
    stage.tell(ClientsCounted("web", 0))
    served(client(stage.wait(10))).wait(10)
    assert stage.spawned() == ["other.1", "web.1", "web.1"]
    stage.exit("web.1", 1)
    served(client(stage)).wait(10)
    assert stage.spawned() == ["other.1", "web.1", "web.1", "web.1", "other.1"]


def test_a_start_says_that_it_rests() -> None:
    stage = on_stage(lazy())
    decision = orders.start(stage.reconciler.subject("web", stage.now, 0))
    assert decision.message == "rests until a client connects"


def test_a_revision_is_good_though_nobody_came() -> None:
    stage = Stage().apply(spec(SOCKETS)).try_out(spec(SOCKETS, web=lazy(), other=watcher()))
    assert stage.wait(11).outcome == "good"


def test_an_edit_replaces_what_runs_and_starts_nothing_else() -> None:
    stage = on_stage(lazy())
    stage.apply(spec(SOCKETS, web=lazy(env={"V": "2"}))).wait(5)
    assert stage.spawned() == []
    served(client(stage)).wait(5)
    pid = stage.pid("web.1")
    stage.apply(spec(SOCKETS, web=lazy(env={"V": "3"}))).wait(5)
    assert stage.alive() == ["web.1"]
    assert stage.pid("web.1") != pid


def test_a_service_that_gets_the_field_while_it_runs_goes_on_until_it_is_idle() -> None:
    stage = on_stage(watcher(use_sockets=("http",))).wait(100)
    stage.apply(spec(SOCKETS, web=lazy(60)))
    assert stage.alive() == ["web.1"]
    stage.tell(ClientsCounted("web", 0)).wait(60).tell(ClientsCounted("web", 0))
    assert stage.alive() == []


def test_a_count_that_was_on_its_way_when_a_client_woke_it_says_nothing() -> None:
    stage = served(client(on_stage(lazy(60)).wait(1))).wait(60)
    stage.exit("web.1", 1)
    served(client(stage.wait(5))).tell(ClientsCounted("web", 0)).wait(30)
    assert stage.alive() == ["web.1"]


def test_what_ran_all_the_time_meanwhile_gets_a_whole_idle_time() -> None:
    stage = served(client(on_stage(lazy(60)).wait(1))).wait(60).tell(ClientsCounted("web", 0))
    assert stage.alive() == []
    stage.apply(spec(SOCKETS, web=watcher(use_sockets=("http",)))).wait(5)
    stage.apply(spec(SOCKETS, web=lazy(60))).wait(30)
    assert stage.alive() == ["web.1"]
