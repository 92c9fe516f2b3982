"""Claims about the loop: order, the keeper's words, its own end, and the disk that is full."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import by_hand, job, raised, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.__main__ import takes_last_good
from reconciler.controller.output import port_holders
from reconciler.controller.runtime.borders import Contradiction
from reconciler.controller.runtime.keeper_link import Link, LinkClosed
from reconciler.controller.runtime.reactor import Reactor
from reconciler.core.template import run_hash
from reconciler.model.action import Quit, ShutDown, Spawn
from reconciler.model.observation import LogRotated, SignalReceived
from reconciler.model.process import Memory, ProcessId, ProcessRecord, Running
from reconciler.model.spec import ApplySpec, DaemonSpec, SocketSpec, Spec
from reconciler.model.value import replace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Instance


def test_the_stored_spec_is_brought_about_before_anybody_asks(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)), revision=7)
    instance.start()
    until(lambda: len(instance.keeper.spawned()) == 2)
    assert instance.client().call("status")["revision"] == 7


def test_a_new_controller_takes_over_what_runs(instance: Instance) -> None:
    instance.store(by_hand(web=service(numprocesses=2)))
    instance.start()
    until(lambda: len(instance.keeper.spawned()) == 2)
    records = tuple(instance.keeper.records.values())
    instance.stop()
    client = instance.start(PaperKeeper(records)).client()
    assert client.call("status")["watchers"][0]["want"] == 2
    assert instance.keeper.spawned() == []


def test_signals_of_the_keeper_end_everything(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    instance.start()
    until(lambda: instance.keeper.spawned())
    instance.keeper.tell(SignalReceived("stop"))
    instance.join()
    assert instance.keeper.quit is not None
    assert instance.keeper.quit.code == 0


@pytest.mark.parametrize("begun_by", ["this controller", "a former one"])
def test_when_one_ends_all_end_with_its_code_also_where_the_rest_would_be_left(
    instance: Instance, begun_by: str
) -> None:
    wanted = by_hand(web=service(), app=service(on_exit="shutdown"))
    instance.store(replace(wanted, daemon=DaemonSpec(on_exit="leave")))
    instance.start()
    until(lambda: len(instance.keeper.spawned()) == 2)
    if begun_by == "this controller":
        instance.keeper.exit(ProcessId("app", 1), 7)
    else:
        instance.keeper.tell(SignalReceived("stop", 7))
    instance.join()
    assert instance.keeper.quit == Quit(7)
    assert instance.keeper.records == {}
    assert ShutDown(7) in instance.keeper.actions


def test_a_signal_among_the_keepers_first_words_counts_like_any_other(instance: Instance) -> None:
    """A manager was asked to stop while it had no controller."""
    wanted = replace(by_hand(web=service()), daemon=DaemonSpec(on_exit="leave"))
    instance.store(wanted)
    running = Running(4711, 1)
    web = ProcessRecord(ProcessId("web", 1), 1, run_hash(service(), {}), Memory(), running)
    keeper = PaperKeeper((web,))
    keeper.tell(SignalReceived("stop"))
    instance.start(keeper)
    instance.join()
    assert keeper.quit == Quit(0, leaves=True)
    assert keeper.records == {web.id: web}


def test_a_second_signal_kills(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    instance.keeper.stubborn.add("web")
    instance.start()
    until(lambda: instance.keeper.spawned())
    instance.keeper.tell(SignalReceived("stop"), SignalReceived("stop_now"))
    instance.join()
    assert instance.keeper.quit is not None
    assert instance.keeper.quit.code == 1


def test_orders_are_refused_while_everything_stops(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    instance.keeper.stubborn.add("web")
    client = instance.start().client()
    until(lambda: instance.keeper.spawned())
    client.call("shutdown")
    assert client.error("start", names=["web"])[0] == "shutting_down"
    assert client.call("status")["watchers"][0]["state"] == "Stopping"


def test_a_job_is_fired_only_when_its_row_lies_on_the_disk(instance: Instance) -> None:
    instance.store(by_hand(mig=job(), web=service()))
    other = sqlite3.connect(instance.folder / "state.db", isolation_level=None)
    other.execute("begin immediate")
    client = instance.start().client()
    until(lambda: client.call("status")["store_state"] == "failing")
    assert "cannot write" in client.call("status")["store_message"]
    assert {str(id) for id in instance.keeper.spawned()} == {"web.1"}
    # An operator's word counts all the same.
    client.call("stop", names=["web"], wait=True, timeout_ns=10 * 10**9)
    other.execute("rollback")
    other.close()
    until(lambda: ProcessId("mig", 1) in instance.keeper.spawned())
    until(lambda: client.call("status")["store_state"] == "good")


def test_a_full_link_keeps_order_and_loses_nothing() -> None:
    near, far = socket.socketpair()
    link = Link(near, Reactor(raised))
    from reconciler.model.process import Launch
    from reconciler.wire.link import LinkDecoder

    actions = [Spawn(ProcessId("w", slot), Launch(("x" * 500,))) for slot in range(1, 5000)]
    link.send(*actions)
    assert link.has_unsent
    decoder, found = LinkDecoder(), []
    while len(found) < len(actions):
        found += decoder.actions(far.recv(2**20))
        link.flush()
    assert found == actions
    far.close()
    with pytest.raises(LinkClosed):
        link.receive()
    near.close()


def test_a_port_in_use_names_its_holder(instance: Instance) -> None:
    from reconciler.model.address import InternetAddress

    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = InternetAddress("127.0.0.1", holder.getsockname()[1])
        spec = Spec(sockets={"http": SocketSpec(address)}, apply=ApplySpec(auto=False))
        instance.store(spec)
        instance.keeper.refused.add("http")
        client = instance.start().client()
        until(lambda: f"pid {os.getpid()}" in client.call("status")["sockets"][0]["note"])


def test_a_rotated_log_is_compressed(instance: Instance) -> None:
    log = instance.folder / "web-1.log"
    path = log.with_name("web-1.log.1")
    path.write_bytes(b"line\n" * 100)
    instance.store(by_hand(web=service()))
    instance.start()
    instance.keeper.tell(LogRotated(str(log)))
    until(lambda: path.with_name("web-1.log.1.gz").exists() and not path.exists())


def test_a_mistake_in_the_core_ends_the_controller(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(by_hand(web=service()))
    instance.start()
    until(lambda: instance.keeper.spawned())

    def broken(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(instance.controller.core, "step", broken)
    instance.keeper.exit(ProcessId("web", 1))
    instance.join()
    assert isinstance(instance.failure, Contradiction)
    assert isinstance(instance.failure.__cause__, AssertionError)
    instance.failure = None


# ---- the program ----------------------------------------------------------------------------------


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    link, control = socket.socketpair()
    with link, control:
        environment = {
            **os.environ,
            "RECONCILE_LINK_FD": str(link.fileno()),
            "RECONCILE_CONTROL_FD": str(control.fileno()),
        }
        return subprocess.run(
            [sys.executable, "-m", "reconciler.controller", *arguments],
            pass_fds=(link.fileno(), control.fileno()),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


def config(folder: Path) -> str:
    return json.dumps({"name": "x", "state_dir": str(folder), "runtime_dir": str(folder)})


def test_a_newer_state_is_told_in_one_sentence(tmp_path: Path) -> None:
    from reconciler.controller.state.store import Store

    store = Store(str(tmp_path))
    store.read(lambda _: None)
    store.close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("update meta set value = '99' where key = 'schema'")
        connection.execute("pragma user_version = 99")
    done = run(tmp_path, config(tmp_path))
    assert done.returncode == 78
    assert "written by a newer version of reconcile (state version 99" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "taken"),
    [([], False), (["--quick-deaths=4"], False), (["--quick-deaths=5"], True)],
)
def test_after_quick_deaths_the_last_good_spec_is_taken(options: list[str], taken: bool) -> None:
    assert takes_last_good(options) is taken


def test_a_state_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, config(tmp_path / "absent"))
    assert done.returncode == 78
    assert "cannot use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_controller_is_not_started_by_hand(tmp_path: Path) -> None:
    done = run(tmp_path, "{}")
    assert done.returncode == 2
    assert "cannot start the controller" in done.stderr


def test_an_idle_controller_never_wakes(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    controller = instance.controller
    assert isinstance(instance.keeper.records[ProcessId("web", 1)].phase, Running)
    client.close()
    until(lambda: not controller.api.server._connections)
    assert controller._wake_at_ns is None
    assert not controller.runtime.reactor._deadlines
    assert not controller.runtime.reactor._soon


def test_a_new_manager_starts_what_it_was_given_and_a_new_controller_what_was_applied(
    instance: Instance,
) -> None:
    """The store's spec is of another source: a respawned controller goes on with it, a new manager does not."""
    instance.spec_file.parent.mkdir(exist_ok=True)
    instance.spec_file.write_text("watchers: {given: {cmd: sleep 1000}}\n")
    instance.store(by_hand(stored=service()), source=("/elsewhere/reconcile.yaml",))
    instance.start()
    until(lambda: {str(id) for id in instance.keeper.spawned()} == {"given.1"})


def test_a_damaged_ledger_is_shown_and_its_job_waits_for_a_rerun(instance: Instance) -> None:
    instance.store(by_hand(mig=job(), web=service()))
    instance.start()
    until(lambda: ProcessId("mig", 1) in instance.keeper.spawned())
    instance.stop()
    with sqlite3.connect(instance.folder / "state.db") as connection:
        connection.execute("update runs set run = replace(run, '1', '2')")
    client = instance.start(PaperKeeper()).client()
    until(lambda: instance.keeper.spawned())
    status = client.call("status")
    assert status["store_state"] == "damaged"
    assert "runs for mig" in status["store_message"]
    states = {watcher["name"]: watcher["state"] for watcher in status["watchers"]}
    assert states["mig"] == "Unknown"
    assert {str(id) for id in instance.keeper.spawned()} == {"web.1"}
    client.call("rerun", names=["mig"])
    until(lambda: ProcessId("mig", 1) in instance.keeper.spawned())


def test_a_watcher_that_was_removed_while_it_settled_is_no_longer_asked_for(
    instance: Instance,
) -> None:
    instance.spec_file.parent.mkdir()
    keep = "apply: {auto: false}\nwatchers:\n  keep: {cmd: sleep 1000}\n"
    instance.spec_file.write_text(keep + "  gone: {cmd: sleep 1000}\n")
    client = instance.start().client()
    until(lambda: len(instance.keeper.spawned()) == 2)
    assert len(client.call("status")["watchers"]) == 2  # both have just been started
    instance.spec_file.write_text(keep)
    client.call("apply")
    until(lambda: [id.owner for id in instance.keeper.records] == ["keep"])
    until(lambda: [each["name"] for each in client.call("status")["watchers"]] == ["keep"])


def test_addresses_that_nobody_asks_for_are_forgotten(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.model.address import InternetAddress
    from reconciler.model.observation import SocketChanged
    from reconciler.model.socket import BindRefused, SocketRecord, SocketTemplate

    instance.store(by_hand(web=service()))
    client = instance.start().client()
    holders = instance.controller.output.port_holders
    refused = BindRefused("EADDRINUSE", "the address is in use", 1)

    def refuse(port: int) -> None:
        template = SocketTemplate(InternetAddress("127.0.0.1", port))
        instance.keeper.tell(SocketChanged(SocketRecord(f"s{port}", template, refused)))

    for port in range(1, 50):
        refuse(port)
    until(lambda: len(holders._known) == 49)
    monkeypatch.setattr(port_holders, "ASK_AGAIN_NS", 0)
    refuse(99)
    until(lambda: list(holders._known) == ["stream 127.0.0.1:99"])
    assert client.call("hello")
