"""Claims about the thread in which children are started."""

from __future__ import annotations

import _thread
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.spawn.nursery import Nursery
from reconciler.system.procfs import stat
from tests.keeper.rig import Rig, children_of, is_alive, pid_in, until
from tests.keeper.scenarios import WEB

if TYPE_CHECKING:
    from tests.keeper.rig import Link


def sleeper() -> int:
    return os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setsigmask=[])


def listed(pid: int, thread: int) -> list[int]:
    """Return the children that one thread has started or inherited."""
    return [*map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())]


def test_what_was_started_in_there_is_ours_and_not_in_our_list() -> None:
    nursery, me = Nursery(), os.getpid()
    pids = [nursery.make(sleeper) for _ in range(3)]
    try:
        assert not {*pids} & {*listed(me, me)}
        assert {*pids} <= {*children_of(me)}
        assert {stat(pid)[1] for pid in pids} == {b"%d" % me}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL  # whichever thread waits


def test_what_is_raised_in_there_is_raised_here() -> None:
    nursery = Nursery()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            nursery.make(lambda: os.posix_spawn("/nowhere", ["nowhere"], {}))
    assert nursery.make(lambda: 7) == 7


def test_no_signal_goes_to_it() -> None:
    nursery = Nursery()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    blocked = nursery.make(lambda: len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    # The C library keeps two for itself, the kernel does not let two be blocked.
    assert blocked >= len(signal.valid_signals()) - 4
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_without_room_for_a_thread_a_child_is_started_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    nursery = Nursery()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", fails)
        assert nursery.make(_thread.get_ident) == _thread.get_ident()
    assert nursery.make(_thread.get_ident) != _thread.get_ident()


def test_a_fork_goes_on_as_its_first_thread() -> None:
    nursery = Nursery()
    nursery.make(lambda: 0)
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # only that one may
            os._exit(len(os.listdir("/proc/self/task")))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_keeper_lists_who_was_left_to_it_and_not_who_it_started(rig: Rig, link: Link) -> None:
    leaves = ("sh", "-c", "env -i setsid sleep 1000 & exec sleep 1000")
    link.spawn(WEB, *leaves)
    link.running(WEB)
    main = pid_in(link, WEB)
    daemon = until(lambda: next(iter(children_of(main)), None))
    assert listed(rig.pid, rig.pid) == [link.pid]

    os.kill(main, signal.SIGKILL)
    link.exited(WEB)

    assert listed(rig.pid, rig.pid) == [link.pid, daemon]
    assert is_alive(daemon)
