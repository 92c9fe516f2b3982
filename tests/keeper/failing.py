"""Runs inside a keeper under test: lets its n-th call to the system fail.

The seam are the names by which the modules of the keeper's kernel layer reach the system. That sees exactly
the calls that our code makes, needs neither a compiler (LD_PRELOAD) nor privileges and a slow tracer
(ptrace), and works in a forked child too. What is not wrapped is listed with the reason (`SURE`), and a test finds
the calls and modules of the keeper that are in neither list.

The test and the keeper share a file in memory: how many more calls succeed (below zero: all do), which
errno comes then, and the name of the call that failed.
"""

from __future__ import annotations

import _thread
import ctypes
import importlib
import mmap
import os
import re
import select
import selectors
import socket
import struct
import sys
import types
from pathlib import Path
from typing import Any, Final

import reconciler
from reconciler.output import places

PACKAGE: Final = Path(reconciler.__file__).parent
ROOMS: Final = ("keeper", "notify", "output", "sockets", "spawn", "system")
"""Where what the keeper does to the system lies, beside its journal."""
MODULES: Final = [
    "wire.journal",
    *sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        if path.stem not in {"__init__", "__main__"}
    ),
]
PATIENCE: Final = {
    "wire.journal.RETRY_NS": 20_000_000,
    "output.log_file.CHECK_AFTER_S": 0.02,
    "keeper.supervisor.SHORTAGE_WAIT_NS": 20_000_000,
    "keeper.processes.RETRY_NS": 20_000_000,
    "keeper.keeper.RETRY_NS": 20_000_000,
    "keeper.shutdown.STOP_CHECK_NS": 100_000_000,
    "keeper.shutdown.LEAVE_NS": 100_000_000,
    "keeper.linux.control_socket.RENEW_NS": 20_000_000,
    "keeper.liveness.FIRST_WAIT_NS": 20_000_000,
    "keeper.liveness.LAST_WAIT_NS": 20_000_000,
}
"""How long the keeper waits until it tries again, so that a test need not wait long."""
CALLS: Final = {
    "os": (
        "openpty",
        "open", "write", "writev", "pipe2", "dup", "dup2", "splice", "posix_spawn", "fork", "setsid", "execve", "execv",
        "chdir", "fchdir", "link", "mkfifo", "chmod", "chown", "fchmod", "fchown", "rename", "unlink", "stat", "lstat",
        "listdir", "readlink", "ftruncate", "makedirs", "mkdir", "rmdir", "pidfd_open", "setpriority",
        "sched_setaffinity", "setgroups", "initgroups", "setresuid", "setresgid", "memfd_create",
        "set_inheritable", "set_blocking", "getxattr", "pwrite",
    ),
    "fcntl": ("fcntl", "ioctl"),
    "socket": ("socketpair", "recv_fds", "send_fds"),
    "select": ("poll",),
}  # fmt: skip
"""What may fail for want of something, by the module that it is called in."""
SOCKET_CALLS: Final = (
    "bind", "listen", "setsockopt", "connect",
    "connect_ex", "sendmsg", "shutdown", "sendto", "send", "recv", "getsockopt",
)  # fmt: skip
EPOLL_CALLS: Final = ("register", "modify")
WRAPPED: Final = frozenset(
    {
        *("os.walk", "socket.socket", "select.epoll", "selectors.EpollSelector", "ctypes.CDLL"),
        "_thread.start_new_thread",
    }
)
"""Made to fail in other ways than by their name; `os.walk` answers nothing where it cannot look."""
SURE: Final = {
    "a number or a text that is at hand already": (
        "os.getpid", "os.getuid", "os.geteuid", "os.getegid", "os.getpgid", "os.getsid", "os.umask",
        "os.fsencode", "os.fsdecode", "os.strerror", "os.sysconf", "os.isatty", "os.sched_getaffinity",
        "os.urandom", "os.waitstatus_to_exitcode", "os.WIFSIGNALED", "os.WTERMSIG", "os.WCOREDUMP",
        "os.WEXITSTATUS", "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns",
        "time.clock_gettime_ns", "time.gmtime", "time.localtime", "time.strftime", "time.sleep", "resource.getrlimit",
        "signal.Signals", "signal.valid_signals", "signal.getsignal", "ctypes.get_errno", "ctypes.c_long",
        "ctypes.c_size_t",
    ),
    "what is open, and no more than looked at": (
        "os.close", "os.closerange", "os.fstat", "os.lseek", "os.pread", "os.read", "os.get_blocking",
    ),
    "an answer by itself: that there is nobody, or not allowed": (
        "os.kill", "os.killpg", "os.wait4", "os.waitpid", "os.access", "signal.pidfd_send_signal", "fcntl.flock",
        "pwd.getpwnam", "pwd.getpwuid", "grp.getgrnam", "socket.if_indextoname", "socket.if_nametoindex",
    ),
    "only wrong arguments make it fail": (
        "socket.CMSG_SPACE", "ctypes.memmove",
        "socket.htons", "socket.inet_pton", "ctypes.Structure", "ctypes.c_uint64", "ctypes.byref", "ctypes.sizeof",
        "signal.signal", "signal.pthread_sigmask", "signal.set_wakeup_fd", "resource.setrlimit",
        "_thread.allocate_lock", "_thread.stack_size",
    ),
    "the end": ("os._exit",),
    "what a process does first that was forked: it fails as any program fails": ("signal.default_int_handler",),
    "by the controller only, which reads logs that are packed": ("os.fdopen", "gzip.GzipFile"),
    "by a fork that is made to fail by name; this one needs the C library's own lock": ("ctypes.PyDLL",),
}  # fmt: skip
"""What is not made to fail, and why."""
STATE: Final = struct.Struct("qi32s")
NEVER: Final = -1
RECORD: Final = -2


class Failing:
    """The state in memory. `arm` and `failed` are for the test, `call` is for the keeper."""

    def __init__(self, path: str) -> None:
        self._sites = f"{path}.sites"
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), STATE.size)

    def record(self) -> None:
        """Let all calls succeed, and write down from where they come."""
        Path(self._sites).write_text("")
        self.arm(RECORD, 0)

    def first_of_each(self, files: frozenset[str]) -> list[int]:
        """Return the number of the first call from each place in these files (all), of those that were recorded."""
        sites = Path(self._sites).read_text().split("\n")[:-1]
        self.disarm()
        first = {site: number for number, site in reversed(list(enumerate(sites)))}
        return sorted(
            number
            for site, number in first.items()
            if not files or Path(site.split()[1]).name in files
        )

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
        if left == RECORD:
            frame = sys._getframe(2)
            with open(self._sites, "a") as file:
                file.write(f"{name} {frame.f_code.co_filename} {frame.f_lineno}\n")
        if left < 0:
            return
        # Each alone: a child that is forked counts at the same time, and a name must not be written over.
        self._memory[:8] = struct.pack("q", left - 1)
        if left == 0:
            self._memory[12:] = struct.pack("32s", name.encode())
            raise OSError(errno, os.strerror(errno))


def install(path: str) -> None:
    """Put ourselves between the kernel layer and the system."""
    failing = Failing(path)
    for name, value in PATIENCE.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"reconciler.{module}"), constant, value)
    stand_ins = {name: _stand_in(failing, name, calls) for name, calls in CALLS.items()}
    stand_ins["socket"].socket = _socket_class(failing)
    stand_ins["select"].epoll = lambda: _Epoll(failing)
    stand_ins["selectors"] = _stand_in(failing, "selectors", ())
    stand_ins["selectors"].EpollSelector = _selector_class(failing)
    stand_ins["ctypes"] = _stand_in(failing, "ctypes", ())
    stand_ins["ctypes"].CDLL = lambda *arguments, **options: _Library(
        failing, *arguments, **options
    )
    stand_ins["_thread"] = _stand_in(failing, "_thread", ())
    stand_ins["_thread"].start_new_thread = _starting(failing)
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


def _starting(failing: Failing) -> Any:
    """Return what starts threads, which says otherwise that it cannot."""

    def call(*arguments: Any) -> int:
        try:
            failing.call("_thread.start_new_thread")
        except OSError as error:
            msg = "can't start new thread"
            raise RuntimeError(msg) from error
        return _thread.start_new_thread(*arguments)

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


class _Epoll:
    """An epoll descriptor; that it can be had, and takes another one, may fail."""

    def __init__(self, failing: Failing) -> None:
        failing.call("select.epoll")
        self._failing, self._real = failing, select.epoll()

    def register(self, fd: int, events: int) -> None:
        self._failing.call("epoll.register")
        self._real.register(fd, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _selector_class(failing: Failing) -> type[selectors.EpollSelector]:
    class Selector(selectors.EpollSelector):
        pass

    for name in EPOLL_CALLS:
        real = getattr(selectors.EpollSelector, name)

        def method(self: Any, *arguments: Any, _name: str = name, _real: Any = real) -> Any:
            failing.call(f"epoll.{_name}")
            return _real(self, *arguments)

        setattr(Selector, name, method)
    return Selector


class _Library:
    """The C library, whose functions say -1 and leave an errno."""

    def __init__(self, failing: Failing, *arguments: Any, **options: Any) -> None:
        self._failing, self._real = failing, ctypes.CDLL(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            try:
                self._failing.call(f"libc.{name}")
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1
            return getattr(self._real, name)(*arguments)

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
