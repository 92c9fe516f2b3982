"""Rows S of docs/reliability.md: what clients of the control socket do, on purpose or not, concerns nobody else.

One instance serves most rows. After each of them the same processes run, and all descriptors are back.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.e2e.stage import Stage, ask, descriptors, on_terminal, resident_bytes, stage, until
from tests.fuzz import frames
from tests.fuzz.__main__ import MAX_GROWTH_BYTES, MAX_WAIT_S

pytestmark = pytest.mark.e2e

VALUE = "Xq7hunter2pL"
TRICKS = (
    r"\\033[2J\\033]0;owned\\007\\n\\033[31mred\\033[0m\\rweb.1 | forged\\n\\342\\200\\256turned\\n"
)
SPEC = f"""\
watchers:
  web:
    cmd: sleep 1000
    numprocesses: 2
    env: {{DB_PASSWORD: {VALUE}, API_URL: "http://me:{VALUE}@host/"}}
  noisy:
    cmd: [sh, -c, 'printf "{TRICKS}"; exec sleep 1000']
"""
STATUS = msgpack.packb([0, 7, "status", []])
MIB = 2**20


@pytest.fixture(scope="module")
def instance() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.run("up", "-d", str(it.specs))
        for _ in range(5):
            answered_within_s(it)  # what is kept after a first use
        yield it


@pytest.fixture
def it(instance: Stage) -> Iterator[Stage]:
    """The instance; whatever a row does to it, nothing is seen of it afterwards."""
    before = ask(instance, "status")
    controller = before["controller_pid"]
    until(lambda: open_connections(instance) == 0, "the connections of the row before are closed")
    kept = descriptors(controller)
    yield instance
    assert answered_within_s(instance) < 1
    until(lambda: descriptors(controller) <= kept, "descriptors are given back")
    after = ask(instance, "status")
    assert after["controller_pid"] == controller
    assert processes(after) == processes(before)


def processes(status: dict[str, Any]) -> list[Any]:
    return [(w["name"], [slot["pid"] for slot in w["slots"]]) for w in status["watchers"]]


def connected(it: Stage) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    # Without a timeout, with which it would not wait for its turn in a full backlog (connect(2), EAGAIN).
    one.connect(str(it.runtime_dir / "control.sock"))
    one.settimeout(20)
    return one


def answered_within_s(it: Stage) -> float:
    """Ask for the status on a connection of its own, and return how long the answer took."""
    begun = time.monotonic()
    with connected(it) as one:
        one.sendall(STATUS)
        unpacker = msgpack.Unpacker()
        while True:
            data = one.recv(2**18)
            assert data, "cut off"
            unpacker.feed(data)
            for answer in unpacker:
                assert answer[1:3] == [7, None]
                return time.monotonic() - begun


def open_connections(it: Stage) -> int:
    """Return how many connections of the control socket the kernel knows (proc(5), /proc/net/unix): not listening."""
    path = str(it.runtime_dir / "control.sock").encode()
    with open("/proc/net/unix", "rb") as table:
        return sum(line.split()[3] != b"00010000" for line in table if line.rstrip().endswith(path))


def grown_bytes(it: Stage, before: int) -> int:
    return resident_bytes(ask(it, "status")["controller_pid"]) - before


def memory(it: Stage) -> int:
    return resident_bytes(ask(it, "status")["controller_pid"])


def test_s01_random_bytes_on_300_connections(it: Stage) -> None:
    before, chance = memory(it), random.Random(1)
    for _ in range(300):
        with connected(it) as one, contextlib.suppress(OSError):
            one.sendall(chance.randbytes(chance.randint(1, 2000)))
    assert answered_within_s(it) < 1
    assert grown_bytes(it, before) < 16 * MIB


def test_s02_200_clients_die_in_the_middle_of_a_frame(it: Stage) -> None:
    for number in range(200):
        with connected(it) as one, contextlib.suppress(OSError):
            one.sendall(STATUS[: 1 + number % (len(STATUS) - 1)])


def test_s03_a_header_that_claims_4_gib_is_refused_by_the_header(it: Stage) -> None:
    before, piece = memory(it), b"x" * MIB
    for _ in range(4):
        with connected(it) as one:
            taken = 0
            with contextlib.suppress(OSError):
                one.sendall(b"\x94\x00\x01\xdb\xff\xff\xff\xff")
                for _ in range(64):
                    one.sendall(piece)
                    taken += MIB
            answer = b""
            with contextlib.suppress(OSError):
                while data := one.recv(4096):
                    answer += data
            assert b"4294967295" in answer or taken < 64 * MIB
    assert grown_bytes(it, before) < 16 * MIB


def test_s04_a_request_that_is_nested_100_000_deep(it: Stage) -> None:
    with connected(it) as one:
        one.sendall(b"\x94\x00\x01\xa6status" + b"\x91" * 100_000)
        assert b"nested deeper than 32 levels" in one.recv(4096)
        assert one.recv(4096) == b""


def test_s05_clients_that_send_byte_by_byte_are_cut_off(it: Stage) -> None:
    # All but the newest are pushed out by the others; those are cut off by the deadline.
    sloths = [connected(it) for _ in range(100)]
    frame = msgpack.packb([0, 1, "status", [{"names": ["x" * 4000]}]])
    begun, sent, slowest = time.monotonic(), 0, 0.0
    selector = selectors.DefaultSelector()
    for one in sloths:
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ)
    while selector.get_map():
        assert time.monotonic() - begun < 30
        for key in list(selector.get_map().values()):
            try:
                key.fileobj.send(frame[sent : sent + 1])  # type: ignore[union-attr]
            except OSError:
                selector.unregister(key.fileobj)
        sent += 1
        slowest = max(slowest, answered_within_s(it))
        for key, _ in selector.select(0.3):
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                if key.fileobj.recv(4096):  # type: ignore[union-attr]
                    continue
            selector.unregister(key.fileobj)
    for one in sloths:
        one.close()
    assert slowest < 1


def test_s06_1000_idle_connections(it: Stage) -> None:
    crowd = []
    for _ in range(1000):
        crowd.append(connected(it))
        if len(crowd) % 100 == 0:
            assert answered_within_s(it) < 1
    alive = 0
    for one in crowd:
        one.setblocking(False)
        try:
            alive += one.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            alive += 1
        except ConnectionResetError:
            continue
    assert alive <= 64
    for one in crowd:
        one.close()


def test_s07_300_clients_vanish_before_they_read_their_answer(it: Stage) -> None:
    before = memory(it)
    for _ in range(300):
        with connected(it) as one:
            one.sendall(STATUS * 20)
    assert grown_bytes(it, before) < 16 * MIB


def test_s12_what_looks_secret_in_an_environment_is_shown_nowhere(it: Stage) -> None:
    it.spec.with_name("other").write_text(SPEC.replace(VALUE, f"{VALUE}2").replace("1000", "1001"))
    other = str(it.spec.with_name("other"))
    commands = (
        ["status"], ["status", "-o", "json"], ["status", "-o", "wide"], ["events", "-o", "json"], ["logs"],
        ["plan", "-o", "json"], ["plan", other], ["plan", other, "-o", "json"],
        ["validate", "-o", "json"], ["ls", "-o", "json"],
    )  # fmt: skip
    for command in commands:
        done = it.run(*command, code=None)
        assert VALUE not in done.stdout + done.stderr, command
    assert "env.DB_PASSWORD: (hidden) -> (hidden)" in it.run("plan", other, code=2).stdout
    for path in [*it.state_dir.rglob("*.log"), *it.runtime_dir.rglob("*.log")]:
        assert VALUE not in path.read_text(errors="replace"), path


def test_s13_mutated_frames_disturb_nobody() -> None:
    found = frames.run(frames=8_000, seed=20)
    assert found.answers > 200
    assert found.growth_bytes < MAX_GROWTH_BYTES
    assert found.longest_stall_s < MAX_WAIT_S, found


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_s14_the_output_of_a_worker_cannot_play_tricks_on_a_terminal(it: Stage, term: str) -> None:
    until(lambda: "turned" in it.log("noisy"))
    shown = on_terminal(it, "logs", "noisy", TERM=term)
    assert "\\x1b[2J\\x1b]0;owned\\x07" in shown
    assert "\\rweb.1 | forged" in shown
    assert "\\u202eturned" in shown
    # What is left are colours of our own, and the ends of lines.
    left = {c for c in shown if not c.isprintable()} - {"\x1b", "\r", "\n"}
    assert left == set()
    assert "\x1b[2J" not in shown and "\x1b]" not in shown
    # Through a pipe the bytes come as they were: other programs read them.
    assert b"\x1b[2J\x1b]0;owned\x07\n" in it.run_bytes("logs", "noisy")


# ---- rows with an instance of their own -----------------------------------------------------------


def test_s10_a_socket_path_that_is_too_long_is_refused_before_anything_starts() -> None:
    mark = f"{random.randrange(10**9)}"
    with stage(f"watchers: {{web: {{cmd: sleep 1{mark}}}}}") as it:
        folder = str(it.folder / ("x" * (130 - len(str(it.folder)) - len("/control.sock") - 1)))
        done = it.run("up", "-d", "--runtime-dir", folder, str(it.specs), code=None)
        assert done.returncode not in {0, None}
        assert "at most 107 bytes, this one has 130" in done.stderr, done.stderr
        commands = [_command(int(pid)) for pid in os.listdir("/proc") if pid.isdecimal()]
        assert f"sleep 1{mark}" not in commands


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def test_s11_a_control_socket_that_is_deleted_comes_back() -> None:
    with stage("watchers: {web: {cmd: sleep 1000, numprocesses: 2}}") as it:
        it.run("up", "-d", str(it.specs))
        before, path = it.status(), it.runtime_dir / "control.sock"
        mode = path.stat().st_mode
        path.unlink()
        until(path.exists, "the file is back", within_s=10)
        after = it.status()
        assert path.stat().st_mode == mode
        assert after["keeper_pid"] == before["keeper_pid"]
        assert processes(after) == processes(before)
