"""Control groups (cgroups(7), version 2): what a process starts cannot leave its group by forking.

Without one, a process that clears its environment, opens a session and forks twice belongs to nobody when
its parent is gone. With one, the group's name says whose it is, and one write kills all of it.

A group needs a folder that was given to us: systemd marks it (Delegate=yes), in a container it is the root
that PID 1 sees, or the spec names it. Whoever else writes into a folder of systemd's disturbs it.

A child is born in its group by clone3(2) with CLONE_INTO_CGROUP (Linux 5.7), at the cost of a fork. Moving
it afterwards takes 10 ms and misses what it has forked by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
from typing import TYPE_CHECKING, Final

from reconciler.system.procfs import unless_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.process import GroupLimits

_CLONE3: Final = 435
"""The same number on all architectures that have it."""
_CLONE_INTO_CGROUP: Final = 0x200000000
_ARGUMENTS: Final = struct.Struct("=11Q")
"""flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup."""

_EVENTS_BYTES: Final = 4096
OWN_LEAF: Final = "reconcile-manager"
"""The group of the manager itself, where groups beside it have limits: a group with limits below it holds no processes.
"""
CONTROLLERS: Final = ("memory", "cpu", "io", "pids")
"""Those that limit something here."""
_NO_LIMIT: Final = {"cpu.weight": "100", "io.weight": "default 100"}
"""What files say without a limit that do not say `max`."""


class Groups:
    """A folder of control groups that is ours, and the groups in it, one for an incarnation."""

    def __init__(
        self, folder: str, path: str, controllers: tuple[str, ...] = (), *, may_move: bool = False
    ) -> None:
        """`path` is how processes in the folder see it, in /proc/PID/cgroup.

        `controllers` are those that groups can have; for them the processes of the folder may have to move.
        """
        self.folder, self.controllers = folder, controllers
        self._may_move = may_move
        self._limits: dict[str, dict[str, str]] = {}
        """By incarnation, the files of its group that say something else than usual."""
        self._path = path.rstrip("/")
        self._members: dict[int, str] = {}
        """Of whose death is told by `died`, in whose group they are."""
        self._closing: set[str] = set()
        """Groups that are tried at each clean-up, as nobody would tell that they are empty."""
        self._lingering: dict[int, str] = {}
        """Groups with somebody in them, by the descriptor that tells when that may have changed."""
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `clean_up` has something to do."""
        return self._epoll.fileno()

    def open(self, marker: str, limits: GroupLimits) -> int:
        """Make the group of an incarnation and return its descriptor. Raises `OSError`."""
        folder = self._folder_of(marker)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
        if limits:
            self._limits[marker] = self._limit(folder, limits)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def limits_of(self, pid: int) -> dict[str, str]:
        """Return which limits of the group of a process are in force, as far as they are ours."""
        return self._limits.get(self._members.get(pid, ""), {})

    def limit(self, pid: int, limits: GroupLimits, former: GroupLimits) -> None:
        """Bring the limits of the group of a process to these, those `former` that are none of them to nothing."""
        if marker := self._members.get(pid, ""):
            gone = {name: _NO_LIMIT.get(name, "max") for name in former if name not in limits}
            taken = self._limit(self._folder_of(marker), {**gone, **limits})
            self._limits[marker] = {name: text for name, text in taken.items() if name in limits}

    def _limit(self, folder: str, limits: GroupLimits) -> dict[str, str]:
        """Write files of a group, and return those that the kernel has taken."""
        taken = {}
        self._enable({name.partition(".")[0] for name in limits} & {*self.controllers})
        for name, text in limits.items():
            with contextlib.suppress(OSError):
                _write(f"{folder}/{name}", text)
                taken[name] = text
        return taken

    def _enable(self, controllers: set[str]) -> None:
        """Have groups of the folder controlled, as long as nothing stands against it (cgroup.subtree_control)."""
        path = f"{self.folder}/cgroup.subtree_control"
        with contextlib.suppress(OSError):
            with open(path) as file:
                missing = controllers - {*file.read().split()}
            for each in sorted(missing):  # one that cannot be does not stop the others
                with contextlib.suppress(OSError):
                    self._enable_one(path, f"+{each}")

    def _enable_one(self, path: str, word: str) -> None:
        try:
            _write(path, word)
        except OSError as error:
            if error.errno != errno.EBUSY or not self._may_move:
                raise
            self._move_processes()
            _write(path, word)

    def _move_processes(self) -> None:
        """Move those that are in the folder itself below it: only then can groups in it have limits."""
        leaf = f"{self.folder}/{OWN_LEAF}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(leaf, 0o755)
        with open(f"{self.folder}/cgroup.procs") as file:
            pids = file.read().split()
        for pid in pids:
            with contextlib.suppress(OSError):  # it has just ended
                _write(f"{leaf}/cgroup.procs", pid)

    def marker_of(self, pid: int) -> str:
        """Return the incarnation in whose group a process is, empty when it is in none of the folder."""
        path = path_of(pid)
        inside = path.startswith(f"{self._path}/")
        name = path[len(self._path) + 1 :].partition("/")[0] if inside else ""
        return name.replace("@", "/") if "@" in name else ""

    def folder_of(self, pid: int) -> str:
        """Return the group of a process that is looked after, empty when it has none of its own."""
        marker = self._members.get(pid, "")
        return self._folder_of(marker) if marker else ""

    def kill(self, pid: int) -> None:
        """Kill all that is in the group of a process, whatever it forks meanwhile (Linux 5.14)."""
        if marker := self.marker_of(pid):
            path = f"{self._folder_of(marker)}/cgroup.kill"
            with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
                file.write(b"1")

    def look_after(self, pid: int, marker: str = "") -> None:
        """Remove the group of this process once it has died; `marker` where that is known."""
        if marker := marker or self.marker_of(pid):
            self._members[pid] = marker

    def died(self, pid: int) -> None:
        """Remove the group of a process that has died, as soon as nobody is left in it."""
        if marker := self._members.pop(pid, ""):
            self.leave(marker)
        self.clean_up()

    def leave(self, marker: str) -> None:
        """Remove the group of an incarnation as soon as nobody is left in it."""
        self._limits.pop(marker, None)
        self._try(self._folder_of(marker), None)

    def clean_up(self) -> None:
        """Remove the groups that may go and are empty; to be called when somebody has died.

        One that somebody is left in is tried again when the kernel tells that this has changed: what a death
        costs does not grow with the number of groups that linger.
        """
        for fd, _ in self._epoll.poll(0):
            os.pread(fd, _EVENTS_BYTES, 0)  # until then it goes on telling
            self._try(self._lingering[fd], fd)
        closing, self._closing = self._closing, set()
        for folder in closing:
            self._try(folder, None)

    def _try(self, folder: str, fd: int | None) -> None:
        """Remove a group, or wait for it: by `fd`, or another that is opened for it."""
        if _remove(folder):
            if fd is not None:
                self._epoll.unregister(fd)
                del self._lingering[fd]
                os.close(fd)
            return
        if fd is None and (fd := self._watched(folder)) is None:
            self._closing.add(folder)

    def _watched(self, folder: str) -> int | None:
        """Wait for the last process of a group (cgroup.events); None where that cannot be."""
        try:
            fd = os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            populated = b"populated 1" in os.pread(fd, _EVENTS_BYTES, 0)
            self._epoll.register(fd, select.EPOLLPRI)
        except OSError:
            populated = False
        if not populated:  # the last one went between the two looks, or nobody would tell
            os.close(fd)
            return None
        self._lingering[fd] = folder
        return fd

    def _folder_of(self, marker: str) -> str:
        # A marker has slashes and never an @.
        return f"{self.folder}/{marker.replace('/', '@')}"


def limit(groups: Groups | None, pid: int, limits: GroupLimits, former: GroupLimits) -> GroupLimits:
    """Bring the group of a process to these limits; return those that are in force, none where there are no groups."""
    if groups is None:
        return {}
    groups.limit(pid, limits, former)
    return groups.limits_of(pid)


def fork_into(group: int) -> int:
    """Fork a child that is in a group from its first instant; return as fork(2) does. Raises `OSError`.

    No handler of the interpreter runs around it: the keeper's other thread, if there is one, is at rest, and there are
    no locks to mend.
    """
    arguments = _ARGUMENTS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
    # The interpreter's lock is kept: nobody else could give it back in the child.
    call = ctypes.PyDLL(None, use_errno=True).syscall
    pid = int(call(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments))))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def mounted() -> tuple[str, str] | None:
    """Return where the version 2 hierarchy is mounted and which part of it is (proc_pid_mountinfo(5)).

    None: nowhere. Raises `OSError`.
    """
    with open("/proc/self/mountinfo") as file:
        for line in file:
            mount, _, system = line.partition(" - ")
            if system.startswith("cgroup2 "):
                words = mount.split(" ")
                return words[4].replace("\\040", " "), words[3]
    return None


def own_folder() -> str:
    """Return the folder of the group that we are in, empty where it cannot be seen. Raises `OSError`."""
    with unless_gone():
        root, own = mounted(), path_of(os.getpid())
        if root is not None and own:
            return os.path.normpath(os.path.join(root[0], os.path.relpath(own, root[1])))
    return ""


def path_of(pid: int) -> str:
    """Return the path of a process's group in the version 2 hierarchy, empty when it has none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n").removesuffix(" (deleted)")
    return ""


def _write(path: str, text: str) -> None:
    """Write a file of a group in one call, so that what is wrong with it is told. Raises `OSError`."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _remove(folder: str) -> bool:
    """Remove a group and those that were made in it; False while somebody is left in one."""
    try:
        for below in _groups_below(folder):
            os.rmdir(below)
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _groups_below(folder: str) -> Iterator[str]:
    """Yield the groups below one, the innermost first; files of a group cannot be removed and need not be."""
    for path, folders, _ in os.walk(folder, topdown=False):
        yield from (f"{path}/{name}" for name in folders)
