"""Starts keepers without the cost of starting Python: `Nursery.start` forks one from a process that has imported all.

The child is the caller's own (CLONE_PARENT), so it is waited for, signalled and killed like any other. What needs
more than arguments, an environment and standard descriptors is started in the ordinary way.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).parents[2]
SERVE: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); import tests.keeper.nursery as n; n.serve()"
)
MAX_BYTES: Final = 1 << 18
_CLONE3: Final = 435
_CLONE_PARENT: Final = 0x8000


class Newborn:
    """A keeper that was started, as far as tests use a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause_s = 0.0005
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("keeper", timeout or 0.0)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that keepers are forked from."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        with theirs:
            self._process = subprocess.Popen(  # ends when our end of the link is closed
                [sys.executable, "-c", SERVE, str(ROOT)],
                stdin=theirs,
                env={"PATH": os.environ["PATH"]},
            )

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdout: Any = None,
        stderr: Any = None,
    ) -> Newborn:
        """Start what `argv` says: an interpreter, `-c`, a program, its arguments."""
        files = [self._null, *(_fd(each, at) for at, each in ((1, stdout), (2, stderr)))]
        order = {
            "argv": list(argv),
            "env": dict(os.environ if env is None else env),
            "umask": _umask(),
            "cwd": os.getcwd(),
        }
        descriptors = array.array("i", files)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        self._socket.sendmsg([json.dumps(order).encode()], ancillary)
        pid = int(self._socket.recv(32))
        assert pid > 0, os.strerror(-pid)
        return Newborn(pid)


@functools.cache
def nursery() -> Nursery:
    """Return the one of this test process, which is started when it is first needed."""
    return Nursery()


def _fd(file: Any, otherwise: int) -> int:
    if file == subprocess.DEVNULL:
        return nursery()._null
    return otherwise if file is None else file if isinstance(file, int) else int(file.fileno())


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


# ---- in the process that is forked ----------------------------------------------------------------


def serve() -> None:
    """Fork whatever is asked for on standard input, until nobody can ask any more."""
    gc.disable()
    for module in ("reconciler.keeper.__main__", "tests.keeper.failing"):
        importlib.import_module(module)  # so that no child has to

    link = socket.socket(fileno=os.dup(0))
    gc.freeze()
    while True:
        data, ancillary, _, _ = link.recvmsg(
            MAX_BYTES, socket.CMSG_SPACE(12), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return
        files = array.array("i", ancillary[0][2])
        pid = _fork()
        if pid == 0:
            _become(json.loads(data), files)
        link.send(str(pid).encode())
        for fd in files:
            os.close(fd)


def _fork() -> int:
    """Fork a child of our parent's, which is told of its end; below zero: why not."""
    arguments = struct.pack("=11Q", _CLONE_PARENT, *[0] * 10)
    call = ctypes.PyDLL(None, use_errno=True).syscall
    pid = int(call(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments))))
    return pid if pid >= 0 else -ctypes.get_errno()


def _become(order: dict[str, Any], files: array.array[int]) -> NoReturn:
    """Run the program as if Python had just been started with it."""
    code: object = 1
    try:
        for target, fd in enumerate(files):
            os.dup2(fd, target)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(order["env"])
        os.umask(order["umask"])
        os.chdir(order["cwd"])
        sys.orig_argv = order["argv"]
        sys.argv = ["-c", *order["argv"][3:]]
        exec(order["argv"][2], {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code if isinstance(code, int) else 1)
