"""Listening sockets: as bound, as given to processes, and what is said when they cannot be had."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from reconciler.model.action import Bind, Signal, Unbind
from reconciler.model.address import Address, InternetAddress, UnixAddress
from reconciler.model.observation import SocketRestored
from reconciler.model.process import CaptureSink, Exit, ProcessId
from reconciler.model.socket import (
    AS_MADE,
    BindRefused,
    Bound,
    FileOwner,
    Lost,
    SocketRecord,
    SocketTemplate,
)
from reconciler.model.value import replace
from reconciler.sockets import sockets
from reconciler.sockets.bound import BindFailed, Queue, Trace
from reconciler.sockets.sockets import Sockets
from reconciler.sockets.watching import Clients, FileWatch
from reconciler.system.descriptors import LIFELINE_FD
from tests.keeper.rig import ROOT, Link, Rig, until

WEB = ProcessId("web", 1)
LOCAL = InternetAddress("127.0.0.1", 0)


def ours(spares: str = "") -> Sockets:
    """Return what binds sockets without a keeper."""
    clients = Clients(lambda *_: None, lambda _: None)
    files = FileWatch(lambda *_: None, lambda: None)
    return Sockets(0o022, spares, clients, files, lambda *_, **__: None, {})


def bind(link: Link, template: SocketTemplate, name: str = "http") -> Bound:
    link.sockets.pop(name, None)
    link.send(Bind(name, template))
    phase = link.wait(lambda: link.sockets.get(name)).phase
    assert isinstance(phase, Bound), phase
    return phase


def _if_refused(record: SocketRecord | None) -> SocketRecord | None:
    """Return a record when it is of a refusal: before that may come what clients do to the socket that is open."""
    return record if record is not None and isinstance(record.phase, BindRefused) else None


def refusal(
    link: Link, template: SocketTemplate, name: str = "http", owner: FileOwner = AS_MADE
) -> BindRefused:
    link.sockets.pop(name, None)
    link.send(Bind(name, template, owner))
    phase = link.wait(lambda: _if_refused(link.sockets.get(name))).phase
    assert isinstance(phase, BindRefused)
    return phase


def connect(bound: Bound) -> socket.socket:
    if bound.listen.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(bound.listen.removeprefix("unix:"))
        return client
    host, _, port = bound.listen.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_an_address_is_listened_on(link: Link, host: str) -> None:
    bound = bind(link, SocketTemplate(InternetAddress(host, 0)))
    connect(bound).close()


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_every_kind_of_unix_socket_is_bound_and_removed(
    link: Link, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "app.sock"
    bind(link, SocketTemplate(UnixAddress(str(path)), kind, mode=0o660))  # type: ignore[arg-type]
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    link.send(Unbind("http"))
    link.wait(lambda: "http" not in link.sockets)
    assert not path.exists()


def test_datagrams_are_received_on_a_port(link: Link) -> None:
    assert bind(link, SocketTemplate(LOCAL, "dgram")).listen.startswith("127.0.0.1:")


def test_a_stale_file_is_replaced_and_a_live_one_is_not(link: Link, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    other.listen()
    template = SocketTemplate(UnixAddress(path))
    refused = refusal(link, template)
    assert refused.errno == "EADDRINUSE"
    assert refused.message.endswith("address already in use, something answers there")
    other.close()
    connect(bind(link, template)).close()


def test_a_plain_file_is_never_removed(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    assert refusal(link, SocketTemplate(UnixAddress(str(path)))).errno == "EADDRINUSE"
    assert path.read_text() == "x"


def test_a_file_that_is_no_longer_ours_is_left_alone(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    bind(link, SocketTemplate(UnixAddress(str(path))))
    beside = tmp_path / "beside"
    beside.write_text("somebody else's")
    beside.rename(path)  # in one act: a file that is gone is put back
    link.send(Unbind("http"))
    link.wait(lambda: "http" not in link.sockets)
    assert path.read_text() == "somebody else's"


def test_modes_change_in_place(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    address = UnixAddress(str(path))
    bind(link, SocketTemplate(address, mode=0o600))
    before = path.stat().st_ino
    bind(link, SocketTemplate(address, mode=0o666))
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (before, 0o666)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            InternetAddress("no-such-host", 80),
            "cannot bind no-such-host:80: no-such-host is neither an address nor a name of /etc/hosts",
        ),
        (
            InternetAddress("192.0.2.1", 80),
            "cannot bind 192.0.2.1:80: cannot assign requested address",
        ),
        (
            UnixAddress("/no/such/folder/a"),
            "cannot bind unix:/no/such/folder/a: no such file or directory",
        ),
    ],
)
def test_an_address_that_cannot_be_had_is_told_in_words(
    link: Link, address: Address, message: str
) -> None:
    assert refusal(link, SocketTemplate(address)).message == message


def test_an_unknown_owner_leaves_no_file_and_a_bound_one_as_it_was(
    link: Link, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    template = SocketTemplate(UnixAddress(str(path)), owner="no-such-user")
    unknown = FileOwner(problem="unknown user 'no-such-user'")
    refused = refusal(link, template, owner=unknown)
    assert refused.message == f"cannot bind unix:{path}: unknown user 'no-such-user'"
    assert not path.exists()
    connect(bind(link, replace(template, owner=None))).close()
    assert refusal(link, template, owner=unknown).serves == f"unix:{path}"


def test_a_file_goes_to_whom_the_controller_says_by_number(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    # What names mean is asked by the controller alone: here they mean whoever runs this.
    template = SocketTemplate(UnixAddress(str(path)), owner="no-such-user", group="no-such-group")
    others = [gid for gid in os.getgroups() if gid != os.getegid()]
    gid = 7 if os.geteuid() == 0 else (others or [os.getegid()])[0]
    link.send(Bind("http", template, FileOwner(os.geteuid(), gid)))
    assert isinstance(link.wait(lambda: link.sockets.get("http")).phase, Bound)
    assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), gid)


def test_both_families_may_share_a_port(link: Link) -> None:
    port = int(bind(link, SocketTemplate(InternetAddress("0.0.0.0", 0))).listen.rpartition(":")[2])
    bind(link, SocketTemplate(InternetAddress("::", port), ipv6_only=True), "v6")


def test_slots_share_a_port_by_reuseport(link: Link) -> None:
    first = bind(link, SocketTemplate(LOCAL, reuseport=True), "http.1")
    port = int(first.listen.rpartition(":")[2])
    same = SocketTemplate(InternetAddress("127.0.0.1", port), reuseport=True)
    bind(link, same, "http.2")


def test_a_process_gets_the_sockets_in_order_and_their_names(link: Link, rig: Rig) -> None:
    ports = [
        int(bind(link, SocketTemplate(LOCAL), n).listen.rpartition(":")[2]) for n in ("a", "b.1")
    ]
    text = (
        "import os, socket\n"
        "assert os.environ['LISTEN_PID'] == str(os.getpid())\n"
        "names = [os.environ['LISTEN_FDS'], os.environ['LISTEN_FDNAMES']]\n"
        "fds = [n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)]\n"
        "ports = [socket.socket(fileno=fd).getsockname()[1] for fd in (3, 4)]\n"
        "print(*names, *ports, *sorted(fds, key=int))\n"
    )
    out = rig.folder / "out"
    sink = CaptureSink(str(out))
    link.spawn(WEB, sys.executable, "-c", text, sockets=("b.1", "a"), stdout=sink)
    exited = link.exited(WEB)
    assert exited.exit == Exit(code=0), out.read_text()
    assert out.read_text() == f"2 b:a {ports[1]} {ports[0]} 0 1 2 3 4 {LIFELINE_FD}\n"


def test_a_socket_that_is_told_otherwise_is_passed_but_not_announced(link: Link, rig: Rig) -> None:
    for name in ("a", "b"):
        bind(link, SocketTemplate(LOCAL), name)
    text = "import os; print([os.environ.get('LISTEN_' + k) for k in ('FDS', 'FDNAMES')], os.fstat(4).st_mode >> 12)"
    for announced, said in ((1, "['1', 'a'] 12\n"), (0, "[None, None] 12\n")):
        out = CaptureSink(str(rig.folder / f"out{announced}"))
        id = ProcessId("web", announced + 1)
        sockets = ("a", "b")
        link.spawn(id, sys.executable, "-c", text, sockets=sockets, announced=announced, stdout=out)
        assert link.exited(id).output == said.encode()


def test_a_socket_may_be_standard_input(link: Link, rig: Rig) -> None:
    port = int(bind(link, SocketTemplate(LOCAL)).listen.rpartition(":")[2])
    text = "import socket; print(socket.socket(fileno=0).getsockname()[1])"
    sink = CaptureSink(str(rig.folder / "out"))
    link.spawn(WEB, sys.executable, "-c", text, stdin_socket="http", stdout=sink)
    assert link.exited(WEB).output == f"{port}\n".encode()


def test_clients_that_come_before_the_server_wait_in_the_backlog(link: Link, rig: Rig) -> None:
    client = connect(bind(link, SocketTemplate(LOCAL)))
    text = (
        "import select, socket; s = socket.socket(fileno=3); select.select([s], [], []);"
        "s.accept()[0].sendall(b'hello')"
    )
    link.spawn(WEB, sys.executable, "-c", text, sockets=("http",))
    assert client.recv(5) == b"hello"


# ---- blocking, as systemd hands them over --------------------------------------------------------

SAYS = "import os; print(os.get_blocking(3))"
SWITCHES = "import os, sys, time; os.set_blocking(3, sys.argv[1] == 'True'); print('done', flush=True); time.sleep(99)"


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", ["stream", "dgram"])
@pytest.mark.parametrize("place", ["tcp", "unix"])
def test_a_socket_is_handed_over_as_its_template_says(
    link: Link, tmp_path: Path, place: str, kind: Literal["stream", "dgram"], *, blocking: bool
) -> None:
    address = LOCAL if place == "tcp" else UnixAddress(str(tmp_path / "app.sock"))
    bind(link, SocketTemplate(address, kind, blocking=blocking))
    out = CaptureSink(str(tmp_path / "out"))
    link.spawn(WEB, sys.executable, "-c", SAYS, sockets=("http",), stdout=out)
    assert link.exited(WEB).output == f"{blocking}\n".encode()


def _switch(link: Link, id: ProcessId, out: Path, *, blocking: bool) -> None:
    sink = CaptureSink(str(out))
    link.spawn(id, sys.executable, "-c", SWITCHES, str(blocking), sockets=("http",), stdout=sink)
    link.running(id)
    until(lambda: out.exists() and out.read_text() == "done\n")


def test_what_a_user_did_to_the_flag_is_undone_before_the_next_start(
    link: Link, tmp_path: Path
) -> None:
    bind(link, SocketTemplate(LOCAL))
    _switch(link, WEB, tmp_path / "one", blocking=False)
    other, out = ProcessId("api", 1), CaptureSink(str(tmp_path / "two"))
    link.spawn(other, sys.executable, "-c", SAYS, sockets=("http",), stdout=out)
    assert link.exited(other).output == b"True\n"


def test_a_server_that_does_not_wait_is_not_made_to_by_the_start_of_its_sibling(
    link: Link, tmp_path: Path
) -> None:
    bind(link, SocketTemplate(LOCAL))
    _switch(link, WEB, tmp_path / "one", blocking=False)
    sibling, out = ProcessId("web", 2), CaptureSink(str(tmp_path / "two"))
    link.spawn(sibling, sys.executable, "-c", SAYS, sockets=("http",), stdout=out)
    assert link.exited(sibling).output == b"False\n"


# ---- the file of a Unix socket -------------------------------------------------------------------


def test_a_file_put_in_the_place_of_a_socket_keeps_its_mode(tmp_path: Path) -> None:
    path, precious = tmp_path / "app.sock", tmp_path / "precious"
    template = SocketTemplate(UnixAddress(str(path)), mode=0o600)
    listener = ours().bind(template)
    precious.write_text("x")
    precious.chmod(0o604)
    for put in (path.symlink_to, path.hardlink_to):
        path.unlink()
        put(precious)
        with pytest.raises(BindFailed):
            listener.tune(replace(template, mode=0o666))
        assert stat.S_IMODE(precious.stat().st_mode) == 0o604


REMOVES = (
    "import os, signal, sys\n"
    "def bye(*_): os.unlink(sys.argv[1]); sys.exit()\n"
    "signal.signal(signal.SIGTERM, bye)\n"
    "print('ready', flush=True)\n"
    "while True: signal.pause()"
)


def _removing(link: Link, id: ProcessId, path: Path) -> None:
    out = path.with_name(str(id))
    sink = CaptureSink(str(out))
    link.spawn(id, sys.executable, "-c", REMOVES, str(path), sockets=("http",), stdout=sink)
    link.running(id)
    until(lambda: out.exists() and out.read_text() == "ready\n")


def restored(link: Link, count: int = 1) -> list[SocketRestored]:
    def ask() -> list[SocketRestored] | None:
        found = [each for each in link.observations if isinstance(each, SocketRestored)]
        return found if len(found) >= count else None

    return link.wait(ask)


def test_a_file_that_a_user_removes_at_its_end_is_put_back_and_told_with_its_name(
    link: Link, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    bound = bind(link, SocketTemplate(UnixAddress(str(path)), mode=0o606))
    before = path.stat().st_ino
    ids = [ProcessId("web", slot) for slot in (1, 2, 3)]
    for id in ids:
        _removing(link, id, path)
    for id in ids[:2]:
        link.send(Signal(id, link.records[id].incarnation, "TERM"))
        link.exited(id)
        assert link.sockets["http"].phase == bound
        connect(bound).close()
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (before, 0o606)
    assert restored(link, 2) == [SocketRestored("http", "file", (id,)) for id in ids[:2]]


def test_a_file_that_somebody_removes_or_moves_away_is_put_back(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    bound = bind(link, SocketTemplate(UnixAddress(str(path))))
    for remove in (path.unlink, lambda: path.rename(tmp_path / "moved")):
        remove()
        until(path.exists)
        connect(bound).close()
    assert restored(link) == [SocketRestored("http", "file", ())]


def test_a_file_that_was_removed_while_no_keeper_lived_is_put_back(
    link: Link, rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    bound = bind(link, SocketTemplate(UnixAddress(str(path))))
    link.spawn(WEB, "sleep", "99", sockets=("http",))
    pid = link.running(WEB).pid
    rig.kill()
    path.unlink()
    link = rig.again()
    assert link.running(WEB).pid == pid
    until(path.exists)
    connect(bound).close()


def test_what_is_in_the_place_of_a_removed_file_is_left_alone(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    template = SocketTemplate(UnixAddress(str(path)))
    before = bind(link, template)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        (tmp_path / "other").rename(path)
        link.wait(lambda: isinstance(link.sockets["http"].phase, Lost))
        assert refusal(link, template).message.endswith("something answers there")
        path.unlink()
    # Our own comes back when the place is free, and is the same: nobody who uses it is outdated.
    assert bind(link, template) == before


def test_both_names_of_a_file_are_removed_in_the_end(link: Link, rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    bind(link, SocketTemplate(UnixAddress(str(path))))
    spares = rig.folder / "run/sockets"
    assert [each.stat().st_ino for each in spares.iterdir()] == [path.stat().st_ino]
    link.send(Unbind("http"))
    link.wait(lambda: "http" not in link.sockets)
    assert [*spares.iterdir(), *tmp_path.glob("*app*")] == []


def test_a_second_name_is_beside_the_file_where_ours_is_another_file_system(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    listener = ours("/proc/nowhere").bind(SocketTemplate(UnixAddress(str(path))))
    spare = tmp_path / ".app.sock.kept"
    path.unlink()
    assert listener.put_back()
    assert path.samefile(spare)
    listener.close()
    assert list(tmp_path.iterdir()) == []


# ---- what users do to a socket -------------------------------------------------------------------

SHUTS = "import socket, time; socket.socket(fileno=3).shutdown(2); time.sleep(99)"


def test_a_socket_that_a_user_shuts_down_listens_again_and_the_user_is_named(link: Link) -> None:
    port = ours().bind(SocketTemplate(LOCAL))
    address = InternetAddress("127.0.0.1", int(port.listen.rpartition(":")[2]))
    port.close()
    bound = bind(link, SocketTemplate(address))
    link.spawn(WEB, sys.executable, "-c", SHUTS, sockets=("http",))
    assert restored(link) == [SocketRestored("http", "listening", (WEB,))]
    connect(bound).close()
    assert link.sockets["http"].phase == bound


def test_a_unix_socket_that_is_shut_down_can_only_be_bound_anew(link: Link, tmp_path: Path) -> None:
    template = SocketTemplate(UnixAddress(str(tmp_path / "app.sock")))
    bind(link, template)
    link.spawn(WEB, sys.executable, "-c", SHUTS, sockets=("http",))
    phase = link.wait(
        lambda: isinstance(link.sockets["http"].phase, Lost) and link.sockets["http"].phase
    )
    assert phase.shut_down_by == (WEB,)
    connect(bind(link, template)).close()


@pytest.mark.parametrize("place", ["127.0.0.1", "::1", "0.0.0.0", "unix"])
def test_the_kernel_tells_who_waits_and_how_many_may(tmp_path: Path, place: str) -> None:
    path = str(tmp_path / "app.sock")
    address = UnixAddress(path) if place == "unix" else InternetAddress(place, 0)
    listener = ours().bind(SocketTemplate(address, backlog=7))
    assert (listener.queue(), listener.clients()) == (Queue(0, 7), frozenset())
    with connect(Bound(listener.listen, 0)), connect(Bound(listener.listen, 0)):
        assert listener.queue() == Queue(2, 7)
        both = listener.clients()
        assert len(both) == 2
        accepted, _ = listener._socket.accept()
        (other,) = listener.clients()
        assert other in both
        accepted.close()
        listener._socket.listen(3)
        assert listener.queue() == Queue(1, 3)
        listener._socket.shutdown(socket.SHUT_RDWR)
    assert not listener.queue().listens
    listener.close()


# ---- taken back ----------------------------------------------------------------------------------


def test_a_socket_is_taken_back_from_a_holder_that_closes_descriptors_all_the_time() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    inode = os.fstat(listener.fileno()).st_ino
    trace = Trace(inode, sockets._cookie(listener))
    busy = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 900); os.closerange(3, 900)\n"
        "os.write(1, b'x')\n"
        "while True:\n"
        "    opened = [os.open('/dev/null', 0) for _ in range(200)]\n"
        "    for each in opened: os.close(each)\n"
    )
    argv = [sys.executable, "-c", busy, str(listener.fileno())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=[listener.fileno()]) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.read(1)
            address = InternetAddress("127.0.0.1", listener.getsockname()[1])
            for _ in range(40):
                found = ours().take_back(SocketTemplate(address), trace, [holder.pid])
                assert found is not None
                found.close()
        finally:
            holder.kill()


MIGRATES = """
import socket, subprocess, sys
from tests.keeper.test_sockets import ours
from reconciler.model.address import InternetAddress
from reconciler.model.socket import SocketTemplate
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for wanted in "01":
    open("/proc/sys/net/ipv4/tcp_migrate_req", "w").write(wanted)
    template = SocketTemplate(InternetAddress("127.0.0.1", 8000 + int(wanted)), reuseport=True)
    stays, goes = (ours().bind(template) for _ in range(2))
    clients = [socket.create_connection(("127.0.0.1", template.address.port)) for _ in range(60)]
    goes.close()
    reset = 0
    for client in clients:
        client.setblocking(False)
        try:
            client.recv(1)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            reset += 1
    print(reset > 0, end=" ")
    stays.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
def test_with_the_sysctl_of_the_guide_nobody_is_reset_when_a_slot_goes() -> None:
    assert "net.ipv4.tcp_migrate_req=1" in (ROOT / "docs/guide/sockets.md").read_text()
    argv = ["unshare", "--net", sys.executable, "-c", MIGRATES]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    if "unshare failed" in ran.stderr or "tcp_migrate_req" in ran.stderr:
        pytest.skip("no network of its own can be had here, or the kernel is older than 5.14")
    assert ran.stdout == "True False ", ran.stderr


def test_a_watch_of_files_that_nobody_would_hear_is_none(tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "no memory")

    assert FileWatch(refuse, lambda: None).watch(str(tmp_path)) == "no inotify instance can be had"
