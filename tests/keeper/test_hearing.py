"""What only the real kernel shows of processes that say how they are: who they are by then, and who waits."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from reconciler.model.action import Follow, Spawn
from reconciler.model.observation import RecordChanged
from reconciler.model.process import Exited, Launch, Notified, ProcessId, pid_of
from tests.contract.worlds import WIPE
from tests.keeper.rig import Link, Rig

WEB = ProcessId("web", 1)
OTHER = ProcessId("other", 1)
SAY = """
import array, os, select, socket, sys, time
def say(text, *fds):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        address = "\\0" + os.environ["NOTIFY_SOCKET"][1:]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([text.encode()], rights, 0, address)
"""


def hears(link: Link, program: str, id: ProcessId = WEB, **launch: object) -> None:
    argv = (sys.executable, "-I", "-S", "-c", SAY + program)
    link.send(Spawn(id, Launch(argv, notify=True, **launch)))  # type: ignore[arg-type]  # fields of Launch


def status(link: Link, text: str, id: ProcessId = WEB) -> Notified:
    def ask() -> Notified | None:
        record = link.records.get(id)
        said = record.notified if record is not None else None
        return said if said is not None and said.status == text else None

    return link.wait(ask)


def test_a_barrier_is_answered_once_what_came_before_is_on_record(link: Link) -> None:
    hears(
        link,
        """
r, w = os.pipe()
say("READY=1")
say("BARRIER=1", w)
os.close(w)
ended = select.select([r], [], [], 20)[0] and os.read(r, 1) == b""
say("STATUS=" + ("answered" if ended else "left alone"))
time.sleep(1000)
""",
    )
    assert status(link, "answered").ready_at_ns is not None


def test_a_sender_that_is_gone_counts_for_its_own_process_only(link: Link) -> None:
    child = "import os\nif os.fork() == 0: say('READY=1'); os._exit(0)\nos.wait(); "
    hears(link, child + "say('STATUS=done'); time.sleep(1000)")
    assert status(link, "done").ready_at_ns is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
def test_any_user_reaches_its_socket_and_none_speaks_for_that_of_others(
    link: Link, rig: Rig
) -> None:
    hears(
        link,
        "os.chroot('/proc'); os.chdir('/'); os.setuid(65534); say('STATUS=here')\ntime.sleep(1000)",
    )
    status(link, "here")
    token = (rig.folder / "state/instance").read_text().split()[0]
    address = f"\0reconcile/{token}/{link.records[WEB].incarnation}"
    os.kill(rig.pid, signal.SIGSTOP)
    forged = os.fork()
    if forged == 0:  # gone by the time that it is read, but neither root nor the process's user
        os.setuid(65533)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1", address)
        os._exit(0)
    os.waitpid(forged, 0)
    os.kill(rig.pid, signal.SIGCONT)
    hears(link, "say('STATUS=later'); time.sleep(1000)", OTHER)
    status(link, "later", OTHER)
    notified = link.records[WEB].notified
    assert notified is not None
    assert notified.ready_at_ns is None


def test_a_daemon_names_its_main_process_as_the_one_that_was_started_ends(link: Link) -> None:
    # As php-fpm does: a session of its own, no marker any more, and whoever started it may be dead already.
    hears(
        link,
        f"""
address = os.environ["NOTIFY_SOCKET"]
if os.fork(): os._exit(0)
os.setsid()
{WIPE}
os.environ["NOTIFY_SOCKET"] = address
say(f"READY=1\\nMAINPID={{os.getpid()}}")
say("STATUS=goes on")
time.sleep(1000)
""",
    )
    status(link, "goes on")
    ended = link.wait(
        lambda: (
            phase
            if isinstance(phase := link.records[WEB].phase, Exited) and phase.successor
            else None
        )
    )
    link.send(Follow(WEB, 1, ended.successor))
    link.wait(lambda: pid_of(link.records[WEB].phase) == ended.successor)
    notified = link.records[WEB].notified
    assert notified is not None
    assert notified.ready_at_ns is not None


def test_who_chats_without_end_costs_few_reports_and_keeps_nobody_waiting(link: Link) -> None:
    hears(link, "say('READY=1')\nfor n in range(10**9): say(f'STATUS={n}')")
    link.wait(lambda: WEB in link.records and (said := link.records[WEB].notified) and said.status)
    before = len(link.observations)
    for number in range(5):
        other = ProcessId("other", number + 1)
        link.spawn(other, "sleep", "1000")
        link.running(other)
    reports = [
        each
        for each in link.observations[before:]
        if isinstance(each, RecordChanged) and each.record.id == WEB
    ]
    assert len(reports) <= 20
