"""The thread that notices changes of files: the kernel wakes it, and it wakes the loop by an event descriptor.

It is a thread since a path may lead to a disk that hangs. Nothing is looked at without need: the kernel announces
what changes in a folder, and when a path leads elsewhere, which has everything armed anew (`announced`). It announces
as well that something was mounted or unmounted (proc_pid_mountinfo(5)): then it is looked where the paths lead.

A file that is a mount point (one file mounted into a container) is edited through another folder, whose
events are not ours: it is watched itself, and looked at every second, since some of these mounts announce
nothing at all. Where inotify has no room, or the file system announces no changes of other machines, everything
is looked at once a second; status says so.
"""

from __future__ import annotations

import errno
import os
import re
import select
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.controller.runtime.announced import Announced
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LOOK_MS: Final = 1_000
"""How often it is looked at what nothing announces."""
TRY_AGAIN_LOOKS: Final = 30
"""After so many looks inotify is tried again, which had no room."""
SHORTAGE_MS: Final = 1_000
"""How long to rest after something went wrong that nobody expected."""
MOUNTS: Final = "/proc/self/mountinfo"
WITHOUT_INOTIFY: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "fuse.sshfs", "ceph"}
)
"""File systems on which other machines' changes are not announced."""

Signature: TypeAlias = tuple[int, ...] | None
"""How a file looks from outside, what it is first; None: there is nothing at its path."""


def signature_at(path: str) -> Signature:
    """Return how a file looks."""
    try:
        return signature_of(os.stat(path))
    except OSError:
        return None


def signature_of(status: os.stat_result) -> tuple[int, ...]:
    """Return how a file looks; a change of its bytes, its mode or its names is a change of this."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Wanted(Struct, frozen=True):
    """What is watched: folders, and files whose state is compared now and then."""

    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    """Further folders, each in one that is watched, which tells when it goes or another takes its place."""


class Watch:
    """Watches folders, not what is below them. Costs nothing until something happens there."""

    def __init__(
        self,
        step_ms: int,
        hand_over: Callable[[Callable[[], object]], None],
        tell: Callable[[str], None],
        report: Callable[[str, BaseException], object],
    ) -> None:
        """Start the thread, which sleeps until something is wanted: then there may be no room for one.

        Changes are told at once, and then at most every `step_ms`. `hand_over` has calls made in the loop: `tell` with
        a sentence when changes have to be looked for, and with an empty one when that is over; `report` with what went
        wrong that nobody expected.
        """
        self._step_ms = step_ms
        self._hand_over = hand_over
        self._tell = tell
        self._report = report
        self._told = ""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._wanted = Wanted()
        self._turn = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable: stop waiting, what is wanted has changed."""
        self._is_closed = False
        threading.Thread(target=self._run, name="watching", daemon=True).start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something changed."""
        return self._wake

    def want(self, wanted: Wanted) -> None:
        """Watch these from now on."""
        with self._lock:
            if wanted == self._wanted:
                return
            self._wanted = wanted
            os.eventfd_write(self._turn, 1)

    def changed(self) -> set[str]:
        """Return the paths that changed since the last call; an empty path stands for anything."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def close(self) -> None:
        """Tell the thread to end. It does so at its next step, and nobody waits for that."""
        with self._lock:
            self._is_closed = True
            os.eventfd_write(self._turn, 1)
            os.close(self._wake)

    # ---- in the thread ----

    def _run(self) -> None:
        while True:
            with self._lock:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._turn)
                if self._is_closed:
                    os.close(self._turn)
                    return
                wanted = self._wanted
            try:
                if wanted.folders:
                    self._watch(wanted)
                else:
                    self._waits_in_vain(None)
            except BaseException as error:  # a border
                self._hand_over(partial(self._report, "watching files", error))
                self._publish({""})
                self._waits_in_vain(SHORTAGE_MS)

    def _watch(self, wanted: Wanted) -> None:
        """Watch until what is wanted changes or a path leads elsewhere."""
        before, mounts = _identities(wanted.folders), _mounts()
        mounted = frozenset(path for path in wanted.files if os.path.realpath(path) in mounts)
        remote = next(
            (each for each in wanted.folders if _file_system(each, mounts) in WITHOUT_INOTIFY), None
        )
        if remote is not None:
            self._say(f"looks once a second for changes: {remote} lies on a network file system")
            self._look(wanted)
            return
        try:
            announced = Announced(wanted.folders, wanted.below, mounted)
        except FileNotFoundError:
            return  # a folder went in this instant
        except OSError as error:
            self._say(f"cannot watch files by inotify, looks once a second instead: {_why(error)}")
            self._look(wanted)
            return
        try:
            self._say("")
            if _identities(wanted.folders) == before:
                self._listen(announced, wanted, mounted)
        finally:
            announced.close()

    def _listen(self, announced: Announced, wanted: Wanted, mounted: frozenset[str]) -> None:
        """Sleep until the kernel announces something."""
        before, seen = _identities(wanted.folders), _signatures(mounted)
        with open(MOUNTS, "rb") as mounts:
            poll = select.poll()
            poll.register(mounts, select.POLLPRI | select.POLLERR)
            poll.register(self._turn, select.POLLIN)
            poll.register(announced, select.POLLIN)
            # Between arming and the last look something may have changed.
            self._publish({""})
            while self._waits_in_vain(self._step_ms):
                ready = {fd for fd, _ in poll.poll(LOOK_MS if mounted else None)}
                changed, has_moved = announced.take()
                if (now := _signatures(mounted)) != seen:
                    seen = now
                    changed.add("")
                self._publish(changed)
                if has_moved or (
                    mounts.fileno() in ready and _identities(wanted.folders) != before
                ):
                    return

    def _look(self, wanted: Wanted) -> None:
        """Look for changes, and leave it at times: perhaps there is room for inotify by now."""
        seen = _contents(wanted)
        self._publish({""})
        for _ in range(TRY_AGAIN_LOOKS):
            if not self._waits_in_vain(LOOK_MS):
                return
            before, seen = seen, _contents(wanted)
            self._publish({path for path, _ in before.items() ^ seen.items()})

    def _waits_in_vain(self, timeout_ms: int | None) -> bool:
        """Wait; tell whether what is wanted has not changed meanwhile."""
        poll = select.poll()
        poll.register(self._turn, select.POLLIN)
        return not poll.poll(timeout_ms)

    def _say(self, sentence: str) -> None:
        """Tell in which way files are watched, when that has changed; empty is as usual."""
        if sentence != self._told:
            self._told = sentence
            self._hand_over(partial(self._tell, sentence))

    def _publish(self, paths: set[str]) -> None:
        with self._lock:
            if paths and not self._is_closed:
                self._changed |= paths
                os.eventfd_write(self._wake, 1)


def _why(error: OSError) -> str:
    """Return why there is no inotify, and which limit of the system to raise (inotify(7))."""
    if error.errno == errno.ENOSPC:
        return "this user's watches are used up; raise the sysctl fs.inotify.max_user_watches"
    if error.errno == errno.EMFILE:
        return "this user's instances are used up; raise the sysctl fs.inotify.max_user_instances"
    return (error.strerror or str(error)).lower()


def _contents(wanted: Wanted) -> dict[str, Signature]:
    """Return how everything looks that is watched."""
    found = _signatures(wanted.files)
    for folder in wanted.folders | wanted.below:
        with suppress(OSError):
            found |= _signatures(os.path.join(folder, name) for name in os.listdir(folder))
    return found


def _mounts() -> dict[str, str]:
    """Return where something is mounted, and the type of its file system: proc_pid_mountinfo(5)."""
    found = {}
    with suppress(OSError), open("/proc/self/mountinfo", errors="replace") as file:
        for line in file.read().splitlines():
            place, _, kind = line.partition(" - ")
            found[_unescaped(place.split(" ")[4])] = kind.partition(" ")[0]
    return found


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def _identities(folders: Iterable[str]) -> dict[str, Signature]:
    """Return what each path leads to now, None for nothing."""
    return {path: None if look is None else look[:2] for path, look in _signatures(folders).items()}


def _signatures(files: Iterable[str]) -> dict[str, Signature]:
    return {path: signature_at(path) for path in files}


def _file_system(folder: str, mounts: Mapping[str, str]) -> str:
    """Return the type of the file system that holds a folder."""
    folder = os.path.realpath(folder)
    while folder not in mounts:
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above
    return mounts[folder]
