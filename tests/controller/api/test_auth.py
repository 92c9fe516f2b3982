"""Claims about who may ask for what: rules as a table, then callers with made-up faces on a real socket."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import service, until

from reconciler.controller.api import auth, server
from reconciler.controller.api.auth import (
    Peer,
    Permit,
    Strangers,
    peer_of,
    permit_of,
    set_doors,
    strangers,
)
from reconciler.controller.runtime.config import Config
from reconciler.model.observation import RecordChanged
from reconciler.model.process import ProcessId, Running
from reconciler.model.spec import (
    AccessSpec,
    ApplySpec,
    ControlSpec,
    DaemonSpec,
    PluginAccess,
    Spec,
)
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Client, Instance

# Between what systems give to people and what they give to packages: nobody who runs this has one of them.
OWNER, ALICE, BOB, STRANGER = 64_100, 64_101, 64_102, 64_103
OPS = 64_200
UNKNOWN = Strangers(65534, 65534)
SEARCH, SHOP = {"team": "search"}, {"team": "shop"}


# ---- the rules ------------------------------------------------------------------------------------


def peer(uid: int, *gids: int) -> Peer:
    return Peer(uid, 4321, frozenset({uid, *gids}))


def user(uid: int, role: Any, labels: dict[str, str] | None = None) -> AccessSpec:
    return AccessSpec(role, user=uid, labels=labels or {})


def group(gid: int, role: Any, labels: dict[str, str] | None = None) -> AccessSpec:
    return AccessSpec(role, group=gid, labels=labels or {})


@pytest.mark.parametrize(
    ("caller", "entries", "permit"),
    [
        (peer(0), [], Permit("admin", owns=True)),
        (peer(OWNER), [], Permit("admin", owns=True)),
        (peer(OWNER), [user(OWNER, "view")], Permit("admin", owns=True)),
        (peer(ALICE), [], None),
        (peer(ALICE), [user(BOB, "admin")], None),
        (peer(ALICE), [user(ALICE, "view")], Permit("view")),
        (peer(ALICE, OPS), [group(OPS, "operate")], Permit("operate")),
        # A user's number is no group's number.
        (Peer(ALICE, 1, frozenset({OPS})), [group(ALICE, "admin"), user(OPS, "admin")], None),
        # The most that any entry grants.
        (peer(ALICE, OPS), [user(ALICE, "view"), group(OPS, "admin")], Permit("admin")),
        # Labels of several entries add up, and an entry without any is for all watchers.
        (
            peer(ALICE, OPS),
            [user(ALICE, "operate", SEARCH), group(OPS, "operate", SHOP)],
            Permit("operate", (SEARCH, SHOP)),
        ),
        (
            peer(ALICE, OPS),
            [user(ALICE, "operate", SEARCH), group(OPS, "operate")],
            Permit("operate"),
        ),
        (
            peer(ALICE, OPS),
            [user(ALICE, "operate", SEARCH), group(OPS, "view")],
            Permit("operate", (SEARCH,)),
        ),
        # What a user namespace shows for everybody that it does not know.
        (peer(65534), [user(65534, "admin"), group(65534, "admin")], None),
        (peer(ALICE, 65534), [group(65534, "admin")], None),
    ],
)
def test_a_caller_may_what_the_entries_grant(
    caller: Peer, entries: list[AccessSpec], permit: Permit | None
) -> None:
    numbers = [entry.group if entry.user is None else entry.user for entry in entries]
    known = [(e, n) for e, n in zip(entries, numbers, strict=True) if not isinstance(n, str)]
    assert permit_of(caller, OWNER, known, UNKNOWN) == permit


def test_an_owner_that_nobody_knows_is_not_the_owner() -> None:
    assert permit_of(peer(65534), 65534, [], UNKNOWN) is None
    assert permit_of(peer(0), 65534, [], UNKNOWN) == Permit("admin", owns=True)


@pytest.mark.parametrize("number", [65534, 99])
def test_where_all_users_are_known_nobody_is_an_ordinary_user(number: int) -> None:
    caller, known = peer(number, number), Strangers(None, None)
    assert permit_of(caller, number, [], known) == Permit("admin", owns=True)
    assert permit_of(caller, OWNER, [], known) is None
    for entry in (user(number, "view"), group(number, "view")):
        assert permit_of(caller, OWNER, [(entry, number)], known) == Permit("view")


@pytest.mark.parametrize(
    ("maps", "overflow", "found"),
    [
        ("         0          0 4294967295\n", 65534, None),
        ("0 0 1000\n1000 5000 4294966295\n", 65534, None),
        ("0 1000 1\n1 100000 65536\n", 65534, 65534),
        ("0 1000 1\n", 99, 99),
        ("garbage\n", 99, 65534),
    ],
)
def test_the_kernel_says_which_users_a_namespace_knows(
    tmp_path: Path, maps: str, overflow: int, found: int | None
) -> None:
    for kind in ("uid", "gid"):
        (tmp_path / "self").mkdir(exist_ok=True)
        (tmp_path / "sys" / "kernel").mkdir(parents=True, exist_ok=True)
        (tmp_path / "self" / f"{kind}_map").write_text(maps)
        (tmp_path / "sys" / "kernel" / f"overflow{kind}").write_text(f"{overflow}\n")
    assert strangers(str(tmp_path)) == Strangers(found, found)
    assert strangers(str(tmp_path / "no")) == Strangers(65534, 65534)


def test_an_entry_whose_name_is_not_known_grants_nothing() -> None:
    assert (
        permit_of(peer(ALICE), OWNER, [(AccessSpec("admin", user="alice"), None)], UNKNOWN) is None
    )


def test_labels_must_all_be_there() -> None:
    permit = Permit("operate", ({"team": "shop", "tier": "front"}, SEARCH))
    assert permit.covers({"team": "shop", "tier": "front", "more": "x"})
    assert permit.covers({"team": "search"})
    assert not permit.covers({"team": "shop"})
    assert not permit.covers({})
    assert not Permit("view").covers({})


def test_the_kernel_says_who_has_connected() -> None:
    one, other = socket.socketpair()
    with one, other:
        found = peer_of(one)
    assert (found.uid, found.pid) == (os.getuid(), os.getpid())
    assert found.gids == {os.getegid(), *os.getgroups()}


# ---- callers --------------------------------------------------------------------------------------


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> list[Peer]:
    """Give the face of all callers from now on, as a list of one; empty: as the kernel says."""
    found: list[Peer] = []
    monkeypatch.setattr(
        server, "peer_of", lambda connection: found[0] if found else peer_of(connection)
    )
    return found


def spec(*entries: AccessSpec, **daemon: Any) -> Spec:
    watchers = {"web": service(labels=SHOP), "db": service(labels=SEARCH)}
    return Spec(DaemonSpec(access=entries, **daemon), ApplySpec(auto=False), watchers=watchers)


def caller(instance: Instance, faces: list[Peer], one: Peer) -> Client:
    def admitted() -> int:
        return sum(each.peer == one for each in tuple(instance.controller.api.server._connections))

    before = admitted()
    faces[:] = [one]
    client = instance.client()
    until(lambda: admitted() > before)  # the server looks at the face when it accepts
    faces.clear()
    return client


def drain(client: Client) -> None:
    while True:
        client.receive()


def told(instance: Instance, type: str) -> list[dict[str, Any]]:
    events = instance.client().call("events")["events"]
    return [each for each in events if each["type"] == type]


def test_strangers_are_denied_and_told(instance: Instance, faces: list[Peer]) -> None:
    instance.store(spec())
    instance.start()
    stranger = caller(instance, faces, peer(STRANGER))
    code, message, details = stranger.error("status")
    assert (code, message) == ("denied", "uid 64103 may not use this manager: it has no role here")
    assert "daemon.access" in details["hint"]
    with pytest.raises(EOFError):
        stranger.receive()
    (event,) = told(instance, "access.denied")
    assert event["message"] == message
    assert event["details"] == {
        "who": "uid 64103", "uid": STRANGER, "pid": 4321, "method": "status"
    }  # fmt: skip


def test_hello_tells_the_true_role(instance: Instance, faces: list[Peer]) -> None:
    entries = user(ALICE, "view"), user(BOB, "operate", SEARCH), group(OPS, "admin")
    instance.store(spec(*entries))
    instance.start()
    for one, role, labels in (
        (peer(ALICE), "view", []),
        (peer(BOB), "operate", [SEARCH]),
        (peer(BOB, OPS), "admin", []),
    ):
        hello = caller(instance, faces, one).call("hello")
        assert (hello["role"], hello["labels"]) == (role, labels)


def test_an_operator_limited_by_labels_touches_nothing_else(
    instance: Instance, faces: list[Peer]
) -> None:
    instance.store(spec(user(BOB, "operate", SEARCH)))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    bob = caller(instance, faces, peer(BOB))
    limited = "its role is operate of team=search"
    for method, params in {
        "stop": {"names": ["web"]},
        "start": {"names": ["db", "web"]},
        "restart": {},
        "reload": {"names": ["*"]},
        "signal": {"names": ["web.1"], "signal": "USR1"},
        "scale": {"scale": {"db": 2, "web": 2}},
        "rerun": {"names": ["web"]},
        "resume": {"names": ["web"]},
    }.items():
        code, message, _ = bob.error(method, **params)
        assert (code, message) == ("denied", f"uid 64102 may not {method} web: {limited}")
    assert instance.controller.saving.observed("db").intent.scale is None
    (done,) = bob.call("stop", labels=SEARCH)["results"]
    assert done["name"] == "db"
    # Who may look sees all of it.
    assert {w["name"] for w in bob.call("status")["watchers"]} == {"web", "db"}
    assert "entries" in bob.call("logs", names=["web"])


def test_only_admins_have_other_files_read(instance: Instance, faces: list[Peer]) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(
        "daemon: {access: [{user: 64101, role: view}, {user: 64102, role: admin}]}\n"
        "watchers: {web: {cmd: sleep 1000}}\napply: {auto: false}\n"
    )
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    alice, bob = caller(instance, faces, peer(ALICE)), caller(instance, faces, peer(BOB))
    code, message, _ = alice.error("plan", source=["/etc/shadow"])
    assert (code, message) == ("denied", "uid 64101 may not read /etc/shadow: its role is view")
    assert alice.call("plan", source=[str(instance.spec_file)])["changes"] == []
    assert bob.error("plan", source=["/no/such/file"])[0] == "invalid_spec"


def test_an_edit_of_access_counts_at_once_for_connections_that_stand(
    instance: Instance, faces: list[Peer]
) -> None:
    instance.spec_file.parent.mkdir()
    instance.store(spec(user(ALICE, "operate"), user(BOB, "view")))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    alice, bob = caller(instance, faces, peer(ALICE)), caller(instance, faces, peer(BOB))
    stream = bob.call("events.follow", since=0)["stream"]
    assert bob.next(stream)["seq"]
    assert alice.call("stop", names=["web"])
    instance.spec_file.write_text(
        "daemon: {access: [{user: 64101, role: view}]}\n"
        "watchers:\n  web: {cmd: sleep 1000}\n  db: {cmd: sleep 1000}\n"
    )
    changes = client.call("apply", reason="bob has left")["changes"]
    (change,) = [each for each in changes if each["kind"] == "daemon"]
    (event,) = told(instance, "operator.apply")
    assert event["details"]["reason"] == "bob has left"
    assert (event["details"]["uid"], event["details"]["pid"]) == (os.getuid(), os.getpid())
    assert change["message"] == "access changed: in place"
    assert alice.error("start", names=["web"])[1].endswith("its role is view")
    assert alice.call("hello")["role"] == "view"
    with pytest.raises(EOFError):  # its stream ends with its role
        drain(bob)


def test_a_name_service_that_hangs_keeps_nobody_else_waiting(
    instance: Instance, faces: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(spec(AccessSpec("view", user="alice"), user(BOB, "view")))
    client = instance.start().client()
    assert client.call("hello")
    answer = threading.Event()
    monkeypatch.setattr(auth, "PATIENCE_NS", 300 * MILLISECOND_NS)
    found = (None, {("user", "alice"): ALICE})
    monkeypatch.setattr(auth, "_look_up", lambda uid, names: answer.wait(20) and found)
    monkeypatch.setattr(instance.controller.api.access, "_fresh_until_ns", 0)
    alice, bob = caller(instance, faces, peer(ALICE)), caller(instance, faces, peer(BOB))
    number = alice.send("hello")
    assert client.call("hello")
    assert bob.call("hello")["role"] == "view"  # after its patience, by its number
    assert alice.answer(number).error[0] == "denied"
    answer.set()
    late = caller(instance, faces, peer(ALICE))
    assert late.call("hello")["role"] == "view"


def test_a_name_that_nobody_has_is_told_once(instance: Instance) -> None:
    instance.store(spec(AccessSpec("view", user="no-such-user"), AccessSpec("view", group="root")))
    instance.start()
    until(lambda: [e for e in told(instance, "access.failed") if "no-such-user" in e["message"]])
    messages = [e["message"] for e in told(instance, "access.failed")]
    assert [m for m in messages if "there is no" in m] == [
        "daemon.access: there is no user 'no-such-user' on this machine; the entry has no effect"
    ]


def test_names_are_looked_up(instance: Instance, faces: list[Peer]) -> None:
    instance.store(spec(AccessSpec("view", user="daemon")))
    instance.start()
    uid = pwd.getpwnam("daemon").pw_uid
    one = caller(instance, faces, peer(uid))
    assert one.call("hello")["role"] == "view"
    assert one.error("stop", names=["web"])[0] == "denied"
    assert told(instance, "access.denied")[0]["details"]["who"] == "daemon"


def test_a_flood_of_refusals_is_counted_not_told(
    instance: Instance, faces: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "WINDOW_NS", SECOND_NS)
    instance.store(spec(user(ALICE, "view"), user(BOB, "view")))
    instance.start()
    alice, bob = caller(instance, faces, peer(ALICE)), caller(instance, faces, peer(BOB))
    numbers = [alice.send("shutdown") for _ in range(200)]
    assert {alice.answer(number).error[0] for number in numbers} == {"denied"}
    assert bob.error("apply")[0] == "denied"
    until(lambda: any("count" in e["details"] for e in told(instance, "access.denied")))
    events = told(instance, "access.denied")
    counted = sum(e["details"].get("count", 1) for e in events)
    assert counted == 201
    assert len(events) <= 6  # the window may turn over while they come


# ---- plugins --------------------------------------------------------------------------------------


def with_plugin(rights: PluginAccess, **fields: Any) -> Spec:
    watchers = {"web": service(labels=SHOP), "db": service(labels=SEARCH)}
    watchers["mender"] = service(access=rights, **fields)
    return Spec(apply=ApplySpec(auto=False), watchers=watchers)


class Process:
    """A process that a plugin's record names, and one below it; they connect when they are told to."""

    def __init__(self, uid: int | None = None) -> None:
        connects = "s = socket.socket(socket.AF_UNIX); s.connect(line.strip()); print(s.recv(1))"
        script = f"import socket, sys\nfor line in sys.stdin: {connects}"
        child = [sys.executable, "-c", script]
        shell = ["sh", "-c", '"$@"; true', "sh", *child]
        self.popen = subprocess.Popen(
            shell, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, user=uid, text=True
        )

    def connect(self, instance: Instance) -> Peer:
        """Connect, and return how the server sees that."""
        server = instance.controller.api.server
        before = {*server._connections}
        assert self.popen.stdin is not None
        print(instance.folder / "control.sock", file=self.popen.stdin, flush=True)
        (new,) = until(lambda: {*server._connections} - before)
        return new.peer


@pytest.fixture
def process() -> Iterator[Process]:
    found = Process()
    yield found
    found.popen.kill()
    found.popen.wait()


def as_plugin(instance: Instance, pid: int) -> None:
    """Let a record of the plugin name a process."""
    id = ProcessId("mender", 1)
    until(lambda: id in instance.keeper.records)
    record = instance.keeper.records[id]
    record = replace(record, phase=Running(pid, time.monotonic_ns()))
    instance.keeper.records[id] = record
    instance.keeper.tell(RecordChanged(record))
    until(lambda: instance.controller.core.record(id).phase == record.phase)


def test_a_plugin_is_known_by_its_process_and_has_its_own_rights(
    instance: Instance, process: Process
) -> None:
    instance.store(with_plugin(PluginAccess("operate", SEARCH)))
    instance.start()
    as_plugin(instance, process.popen.pid)
    seen = process.connect(instance)
    assert (seen.plugin, seen.uid) == ("mender", os.geteuid())
    assert seen.pid != process.popen.pid  # the shell that was started has started it
    access = instance.controller.api.access
    assert access.permit(seen) == Permit("operate", (SEARCH,))
    assert (access.who(seen), access.named(seen)) == ("plugin mender", "plugin mender")


def test_a_plugin_of_the_managers_own_user_is_limited_too(
    instance: Instance, faces: list[Peer]
) -> None:
    instance.store(with_plugin(PluginAccess("operate", SEARCH)))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    mender = caller(instance, faces, Peer(os.geteuid(), 4321, frozenset(), "mender"))
    assert mender.call("hello")["role"] == "operate"
    code, message, _ = mender.error("stop", names=["web"])
    limit = "its role is operate of team=search"
    assert (code, message) == ("denied", f"plugin mender may not stop web: {limit}")
    assert mender.call("stop", names=["db"], reason="a test")["results"][0]["name"] == "db"
    (event,) = told(instance, "operator.stop")
    assert event["message"].startswith('stop by plugin mender ("a test"): ')


def test_another_user_with_the_number_of_a_plugins_process_is_a_stranger(
    instance: Instance, process: Process, faces: list[Peer]
) -> None:
    """Who has connected may be dead, and its number that of a plugin started since."""
    instance.store(with_plugin(PluginAccess("admin")))
    instance.start()
    as_plugin(instance, process.popen.pid)
    access = instance.controller.api.access
    forged = Peer(STRANGER, process.popen.pid, frozenset())
    assert access.recognised(forged) == forged
    assert access.permit(forged) is None


def test_a_process_that_is_no_plugins_is_known_by_its_user(
    instance: Instance, process: Process
) -> None:
    instance.store(with_plugin(PluginAccess()))
    instance.start()
    as_plugin(instance, 4_000_000)
    seen = process.connect(instance)
    permit = instance.controller.api.access.permit(seen)
    assert (seen.plugin, permit) == ("", Permit("admin", owns=True))


def test_a_plugin_that_is_one_no_more_may_nothing(instance: Instance, faces: list[Peer]) -> None:
    instance.store(with_plugin(PluginAccess()))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    mender = caller(instance, faces, Peer(os.geteuid(), 4321, frozenset(), "mender"))
    assert mender.call("hello")["role"] == "view"
    instance.controller.api.access.follow(spec())
    assert (
        mender.error("status")[1] == "plugin mender may not use this manager: it has no role here"
    )


@pytest.mark.parametrize(("user", "modes"), [(None, (0o600, 0o700)), ("daemon", (0o666, 0o711))])
def test_a_plugin_that_runs_as_another_user_is_let_in(
    instance: Instance, user: str | None, modes: tuple[int, int]
) -> None:
    instance.folder.chmod(0o700)
    instance.store(with_plugin(PluginAccess(), user=user))
    instance.start()
    assert instance.client().call("hello")
    assert (mode(instance.folder / "control.sock"), mode(instance.folder)) == modes


# ---- doors ----------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("daemon", "folder", "modes"),
    [
        (DaemonSpec(), 0o700, (0o600, 0o700)),
        (DaemonSpec(access=(user(ALICE, "view"),)), 0o700, (0o666, 0o711)),
        # Closed again, but not the folder that others had opened.
        (DaemonSpec(), 0o711, (0o600, 0o700)),
        (DaemonSpec(), 0o755, (0o600, 0o755)),
        (DaemonSpec(access=(user(ALICE, "view"),)), 0o755, (0o666, 0o755)),
        # What is written counts.
        (DaemonSpec(control=ControlSpec(mode=0o660)), 0o700, (0o660, 0o711)),
    ],
)
def test_the_door_is_as_open_as_the_entries_need(
    tmp_path: Path, daemon: DaemonSpec, folder: int, modes: tuple[int, int]
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "control.sock").touch()
    place.chmod(folder)
    set_doors(
        Config("test", str(place), str(place)), daemon.control.mode, is_open=bool(daemon.access)
    )
    assert (mode(place / "control.sock"), mode(place)) == modes


def test_a_door_behind_a_shut_one_is_told(tmp_path: Path) -> None:
    house = tmp_path / "house"
    place = house / "run"
    place.mkdir(parents=True)
    (place / "control.sock").touch()
    house.chmod(0o700)
    (trouble,) = set_doors(Config("test", str(place), str(place)), None, is_open=True)
    assert f"{house} is closed to them" in trouble
    (place / "control.sock").unlink()
    (trouble,) = set_doors(Config("test", str(place), str(place)), None, is_open=False)
    assert trouble == f"cannot set the mode of {place}/control.sock: No such file or directory"
