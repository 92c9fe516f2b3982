"""Runs inside a keeper under test: lets its n-th call to the system fail.

The seam are the names by which the modules of the keeper's kernel layer reach the system. That sees exactly
the calls that our code makes, needs neither a compiler (LD_PRELOAD) nor privileges and a slow tracer
(ptrace), and works in a forked child too. What is not wrapped cannot fail in a way that we could answer
(close, getpid, fstat, reading a pipe or what is open in /proc) or tells the truth by failing (kill, wait4: ESRCH and
ECHILD are their answers).

The test and the keeper share a file in memory: how many more calls succeed (below zero: all do), which
errno comes then, and the name of the call that failed.
"""

from __future__ import annotations

import importlib
import mmap
import os
import re
import socket
import struct
import types
from typing import Any, Final

from reconciler.output import places

MODULES: Final = (
    "keeper.linux", "keeper.spawning", "keeper.accounts", "keeper.sockets", "keeper.logs", "keeper.logs_file",
    "keeper.logs_manager", "keeper.logs_taking", "keeper.processes", "keeper.pidfds", "keeper.journal",
    "keeper.signals", "keeper.config", "keeper.calls", "output.places",
)  # fmt: skip
PATIENCE: Final = {
    "journal.RETRY_NS": 20_000_000,
    "logs_file.CHECK_AFTER_S": 0.02,
    "keeper.SHORTAGE_WAIT_NS": 20_000_000,
    "patience.FIRST_WAIT_NS": 20_000_000,
    "patience.LAST_WAIT_NS": 20_000_000,
}
"""How long the keeper waits until it tries again, so that a test need not wait long."""
CALLS: Final = {
    "os": (
        "open", "write", "pipe2", "dup2", "splice", "posix_spawn", "fork", "setsid", "execve",
        "chdir", "fchdir", "mkfifo", "chmod", "chown", "fchown", "rename", "unlink", "stat", "lstat",
        "listdir", "readlink", "ftruncate", "makedirs", "mkdir", "pidfd_open", "setpriority",
        "sched_setaffinity", "setgroups", "initgroups", "setresuid", "setresgid",
    ),
    "fcntl": ("fcntl", "ioctl"),
    "socket": ("socketpair",),
}  # fmt: skip
SOCKET_CALLS: Final = ("bind", "listen", "setsockopt", "connect_ex")
STATE: Final = struct.Struct("qi32s")
NEVER: Final = -1


class Failing:
    """The state in memory. `arm` and `failed` are for the test, `call` is for the keeper."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), STATE.size)

    def arm(self, successes: int, errno: int) -> None:
        """Let that many calls succeed and the one after them fail."""
        self._memory[:] = STATE.pack(successes, errno, b"")

    def disarm(self) -> str:
        """Let all calls succeed, and return the name of the one that failed, if one did."""
        _, _, name = STATE.unpack(self._memory[:])
        self.arm(NEVER, 0)
        return name.rstrip(b"\0").decode()

    def call(self, name: str) -> None:
        """Count a call. Raises `OSError` when it is the one that shall fail."""
        left, errno, _ = STATE.unpack(self._memory[:])
        if left < 0:
            return
        failed = name.encode() if left == 0 else b""
        self._memory[:] = STATE.pack(left - 1, errno, failed)
        if failed:
            raise OSError(errno, os.strerror(errno))


def install(path: str) -> None:
    """Put ourselves between the kernel layer and the system."""
    failing = Failing(path)
    for name, value in PATIENCE.items():
        module, _, constant = name.partition(".")
        setattr(importlib.import_module(f"reconciler.keeper.{module}"), constant, value)
    stand_ins = {name: _stand_in(failing, name, calls) for name, calls in CALLS.items()}
    stand_ins["socket"].socket = _socket_class(failing)
    for each in MODULES:
        module = importlib.import_module(f"reconciler.{each}")
        for name, stand_in in stand_ins.items():
            if isinstance(getattr(module, name, None), types.ModuleType):
                setattr(module, name, stand_in)
        module.open = _opening(failing, path)  # type: ignore[attr-defined]  # shadows the builtin
    # Not by a name of os: this Python knows no openat2(2).
    places._open_at_once = _wrapped(failing, "openat2", places._open_at_once)


def _stand_in(failing: Failing, name: str, calls: tuple[str, ...]) -> types.ModuleType:
    """Return a module like the real one, in which some functions may fail."""
    real = importlib.import_module(name)
    stand_in = types.ModuleType(name)
    stand_in.__dict__.update(real.__dict__)
    for call in calls:
        setattr(stand_in, call, _wrapped(failing, f"{name}.{call}", getattr(real, call)))
    return stand_in


def _wrapped(failing: Failing, name: str, real: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        failing.call(name)
        return real(*arguments, **options)

    return call


def _opening(failing: Failing, path: str) -> Any:
    """Return what opens files. What /proc says of strangers is not counted: they come and go, and are many."""
    token_file = os.path.join(os.path.dirname(path), "state", "instance")

    def is_stranger(name: object) -> bool:
        folder = re.match(r"/proc/\d+/", str(name))
        try:
            with open(token_file) as file, open(f"{folder and folder[0]}environ", "rb") as environ:
                return file.read().split()[0].encode() not in environ.read()
        except OSError:
            return folder is not None

    def call(name: Any, *arguments: Any, **options: Any) -> Any:
        if not is_stranger(name):
            failing.call("open")
        return open(name, *arguments, **options)

    return call


def _socket_class(failing: Failing) -> type[socket.socket]:
    class Socket(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            failing.call("socket.socket")
            super().__init__(*arguments, **options)

    for name in SOCKET_CALLS:
        real = getattr(socket.socket, name)

        def method(self: Any, *arguments: Any, _name: str = name, _real: Any = real) -> Any:
            failing.call(f"socket.{_name}")
            return _real(self, *arguments)

        setattr(Socket, name, method)
    return Socket
