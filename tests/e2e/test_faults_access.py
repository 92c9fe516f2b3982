"""Who may do what at the control socket: rows S08, S09 and X52 of the faults, on the real program."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.e2e.stage import PATIENCE_S, stage, until

pytestmark = pytest.mark.e2e

STRANGER, ALICE, OPS = 54321, 54322, 54400
"""Numbers that no account of a machine has."""
SPEC = """\
watchers:
  web:
    cmd: sleep 1001
    labels: {team: shop}
  db:
    cmd: sleep 1002
    labels: {team: data}
"""
ACCESS = f"""\
daemon:
  access:
    - {{user: {ALICE}, role: view}}
    - {{group: {OPS}, role: operate, labels: {{team: shop}}}}
"""


def as_somebody(uid: int, gids: tuple[int, ...], work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a process of another user, or the name of the error that it raises.

    A fork, since another user need not be able to reach our interpreter and start it.
    """
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(gids)
            os.setgid(gids[0] if gids else uid)
            os.setuid(uid)
            said = work()
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(there, json.dumps(said).encode())
            os._exit(0)
    os.close(there)
    with open(here, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


def ask(path: Path, method: str, **params: Any) -> Any:
    """Return error and result of one request, with nothing but a socket and msgpack."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(PATIENCE_S)
        one.connect(str(path))
        one.sendall(msgpack.packb([0, 1, method, [params]]))
        unpacker = msgpack.Unpacker()
        while True:
            data = one.recv(65536)
            assert data, "closed without an answer"
            unpacker.feed(data)
            for _, _, error, result in unpacker:
                return [error, result]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_s08_a_stranger_stops_nothing_and_is_told_of() -> None:
    with stage(SPEC) as it:
        it.up()
        path, before = it.runtime_dir / "control.sock", it.pids("web")
        stop = lambda: ask(path, "stop", names=["web"])  # noqa: E731  (said by several people)

        assert as_somebody(STRANGER, (), stop) == "PermissionError"
        # Somebody opens the door by hand: then the kernel says who comes in.
        it.runtime_dir.chmod(0o711)
        path.chmod(0o666)
        (code, message, _), _ = as_somebody(STRANGER, (), stop)
        assert (code, message) == (
            "denied",
            f"uid {STRANGER} may not use this manager: it has no role here",
        )
        # And what a user namespace shows for everybody that it does not know is nobody.
        assert as_somebody(65534, (), stop)[0][0] == "denied"

        # With entries the socket is open to all, and roles decide (X52: read-only asks for more).
        it.write(ACCESS + SPEC)
        until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o666 and it.status()["revision"] == 2)
        assert as_somebody(ALICE, (), lambda: ask(path, "hello"))[1]["role"] == "view"
        (code, message, _), _ = as_somebody(ALICE, (), lambda: ask(path, "apply"))
        assert (code, message) == ("denied", f"uid {ALICE} may not apply: its role is view")
        assert as_somebody(STRANGER, (), stop)[0][0] == "denied"
        assert as_somebody(STRANGER, (), lambda: ask(path, "status"))[0][0] == "denied"
        others = lambda: ask(path, "stop", names=["web", "db"])  # noqa: E731
        assert as_somebody(STRANGER, (OPS,), others)[0][0] == "denied"
        assert it.pids("web") == before

        error, _ = as_somebody(STRANGER, (1234, OPS), stop)  # the second of its groups
        assert error is None
        until(lambda: it.pids("web") == {}, "an operator may")

        events = [json.loads(line) for line in it.run("events", "-o", "json").stdout.splitlines()]
        refused = {e["details"]["uid"] for e in events if "uid" in e["details"]}
        assert {STRANGER, ALICE, 65534} <= refused
        (stopped,) = [e for e in events if e["type"] == "operator.stop"]
        assert stopped["details"]["uid"] == STRANGER

        it.write(SPEC)
        until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o600, "closed again")
        assert as_somebody(STRANGER, (OPS,), stop) == "PermissionError"


def test_s09_nothing_is_opened_by_a_umask_of_zero() -> None:
    """That it is not more open for a moment either is watched from within: tests/keeper/startup/test_instance.py."""
    with stage(SPEC) as it:
        before = os.umask(0)
        try:
            it.up()
        finally:
            os.umask(before)
        socket = it.runtime_dir / "control.sock"
        for each in (socket, it.runtime_dir, it.state_dir, it.state_dir / "state.db"):
            assert not stat.S_IMODE(each.stat().st_mode) & 0o077, each
