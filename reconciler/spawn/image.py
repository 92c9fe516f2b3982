"""Processes of the controller that are forked and execute nothing: what they and we have imported lies in memory once.

A process comes up in less than half the time, too. When a file of ours has changed on the disk, who needs a process
executes it: what it would import by now may not fit to what we have imported.

The first one may be begun before it is known what it is to do. It imports, then waits for its orders.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import socket
import sys
from contextlib import ExitStack
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from reconciler.model.process import Launch
from reconciler.spawn.accounts import own_user
from reconciler.spawn.environment import Place
from reconciler.spawn.launch_errors import fork_failed
from reconciler.spawn.roads import Prepared, prepare_child, spawn_plainly
from reconciler.system import in_place, naming

if TYPE_CHECKING:
    from collections.abc import Mapping


class Image:
    """A program that is found in `module`, as `python -m` would find it."""

    def __init__(self, module: str) -> None:
        """All that has been imported by now is what its processes begin with."""
        self._module = module
        found = (getattr(each, "__file__", None) for each in (*sys.modules.values(),))
        self._files: Mapping[str, object] = {path: _stamp(path) for path in found if path}
        self._waiting: tuple[int, socket.socket] | None = None

    def fits(self, prepared: Prepared) -> bool:
        """Tell whether this may be forked: it is that program, of the files that we have imported, and can be told."""
        if in_place.module_of(prepared.launch.argv) != self._module:
            return False
        try:
            has_room = naming.has_room(_marker(prepared))
        except OSError:  # who executes it gets on with less
            return False
        return has_room and all(stamp == _stamp(path) for path, stamp in self._files.items())

    def begin(self) -> None:
        """Begin a process ahead. Where that cannot be, nothing has happened."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                return
            if pid == 0:
                ours.close()
                in_place.live(lambda: self._await_orders(theirs))
        self._waiting = pid, ours

    def spawn(self, prepared: Prepared, place: Place) -> int:
        """Start the program and return the pid; it is forked where it fits, else executed. Raises `LaunchFailed`."""
        waiting, self._waiting = self._waiting, None
        with ExitStack() as over:
            if waiting is not None:  # one that gets no orders ends
                over.enter_context(waiting[1])
            if not self.fits(prepared):
                return spawn_plainly(prepared, place)
            if waiting is not None and _order(waiting[1], prepared, place):
                return waiting[0]
        return self._fork(prepared, place)

    def _fork(self, prepared: Prepared, place: Place) -> int:
        # A signal in the child before its handlers are gone would wake us by our shared pipe.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError as error:
            raise fork_failed(error) from None
        else:
            if pid == 0:
                in_place.live(lambda: self._run(prepared, place))
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _await_orders(self, orders: socket.socket) -> int:
        os.setsid()  # a terminal's Ctrl-C is not meant for us
        import_module(f"{self._module}.__main__")
        data, fds, _, _ = socket.recv_fds(orders, 1, 256)
        if not data:
            return 0  # there is nothing to do
        with open(fds.pop(0), "rb") as memory:
            argv, env, oom_score_adj, (name, *worn) = marshal.load(memory)
        launch = Launch(argv, oom_score_adj=oom_score_adj)
        prepared = Prepared(launch, (argv[0],), env, own_user(), tuple(fds))
        return self._run(prepared, Place(name, {}, *worn))

    def _run(self, prepared: Prepared, place: Place) -> int:
        # What we left unreachable may hold descriptors; were it collected, it would close those of the program.
        gc.disable()
        gc.freeze()
        # Before and after: we may have none left to move them by, and their old numbers are of no use.
        _close_all_but({0, 1, 2, *prepared.fds})
        prepare_child(prepared, place)
        _close_all_but({*range(len(prepared.fds))})
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as in any Python
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(prepared.env)
        naming.rename(prepared.launch.argv, _marker(prepared))
        return in_place.begin(prepared.launch.argv)


def _order(orders: socket.socket, prepared: Prepared, place: Place) -> bool:
    """Tell a process that waits what to be; False: it waits no more."""
    launch = prepared.launch
    worn = (place.instance, place.umask, place.files, place.core, place.oom_score_adj)
    told = marshal.dumps((launch.argv, prepared.env, launch.oom_score_adj, worn))
    try:
        memory = os.memfd_create("orders")
    except OSError:
        return False
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(told)
        os.lseek(memory, 0, os.SEEK_SET)
        socket.send_fds(orders, [b"!"], [memory, *prepared.fds])
    except OSError:
        return False
    finally:
        os.close(memory)
    return True


def _close_all_but(fds: set[int]) -> None:
    """Close all other descriptors, also when no further one can be opened."""
    *kept, last = sorted(fds)
    for low, high in pairwise((*kept, last)):
        os.closerange(low + 1, high)
    os.closerange(last + 1, max(last, *map(int, os.listdir("/proc/self/fd"))) + 1)


def _marker(prepared: Prepared) -> str:
    return f"RECONCILE_ID={prepared.env['RECONCILE_ID']}"


def _stamp(path: str) -> object:
    """Return what tells one file at a path from another; never equal to anything when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return object()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
