"""The thread that notices changes of files, with watchfiles' compiled half.

Some things have to be helped. The compiled watcher looks at its own list every step and has no descriptor
to wait on: so it lives in a thread, which wakes the loop by an event descriptor. And it goes blind when a
folder that it watches is replaced (also one further up, such as a `current` link): so every second the
thread looks where the paths lead, and when one leads elsewhere than before, everything is armed anew. The
folders above are not watched for that: the compiled half asks for every kind of event, and would be woken
by whoever opens a file in `/`, `/etc` or `/dev`. A folder that is removed and made anew may get the number of
the former one; but the kernel says of the former that it is gone, and then everything is armed anew as well.

A file that is a mount point (one file mounted into a container) is edited through another folder, whose
events are not ours: it is watched itself, and looked at every second, since some of these mounts announce
nothing at all. Where inotify has no room, or the file system announces no changes of other machines, everything
is looked at once a second; status says so.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from functools import cache, partial
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from watchfiles._rust_notify import RustNotify

LOOK_AGAIN_MS: Final = 30_000
"""Now and then the files themselves are looked at: an overflowing inotify queue loses events."""
LOOK_AT_PLACES_MS: Final = 1_000
"""How often it is looked at where the paths lead; half of what an idle thread costs when it is twice a second."""
POLL_MS: Final = 1_000
DELETED: Final = 3
"""As watchfiles counts the kinds of change."""
SHORTAGE_S: Final = 1.0
"""How often everything is looked at while there is no room for a thread that watches."""
WITHOUT_INOTIFY: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "fuse.sshfs", "ceph"}
)
"""File systems on which other machines' changes are not announced."""

Signature: TypeAlias = tuple[int, ...] | None
"""How a file looks from outside, what it is first; None: there is nothing at its path."""


@cache
def _compiled() -> type[RustNotify]:
    """Return watchfiles' compiled half without the one in Python, which imports anyio and asyncio (6 MiB)."""
    package = find_spec("watchfiles")
    folders = None if package is None else package.submodule_search_locations
    spec = PathFinder.find_spec("watchfiles._rust_notify", folders)
    if spec is None or spec.loader is None:
        from watchfiles._rust_notify import RustNotify

        return RustNotify
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[RustNotify] = module.RustNotify
    return found


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
    """Watches folders, not what is below them. Costs nothing until it is given some."""

    def __init__(
        self,
        step_ms: int,
        hand_over: Callable[[Callable[[], object]], None],
        tell: Callable[[str], None],
        report: Callable[[str, BaseException], object],
    ) -> None:
        """Start the thread, which sleeps until something is wanted: then there may be no room for one.

        `hand_over` has calls made in the loop: `tell` with a sentence when changes have to be looked for, and with
        an empty one when that is over; `report` with what went wrong that nobody expected.
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
        self._turn = threading.Event()
        """Set: stop waiting, what is wanted has changed."""
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
            self._turn.set()

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
            self._turn.set()
            os.close(self._wake)

    # ---- in the thread ----

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._is_closed:
                    return
                self._turn.clear()
                wanted = self._wanted
            if not wanted.folders:
                self._turn.wait()
                continue
            try:
                self._watch(wanted)
            except BaseException as error:  # a border: the compiled half may panic, too
                self._hand_over(partial(self._report, "watching files", error))
                self._publish({""})
                self._turn.wait(SHORTAGE_S)

    def _watch(self, wanted: Wanted) -> None:
        """Watch until what is wanted changes or a path leads elsewhere."""
        if not _has_room():
            self._publish({""})
            self._turn.wait(SHORTAGE_S)
            return
        before, mounts = _identities(wanted.folders), _mounts()
        mounted = frozenset(path for path in wanted.files if os.path.realpath(path) in mounts)
        try:
            notify, announces = self._armed(wanted, mounted, mounts)
        except FileNotFoundError:
            return  # a folder went in this instant
        seen, seen_mounted, looks = _signatures(wanted.files), _signatures(mounted), 0
        # Between arming and the last look something may have changed.
        self._publish({""})
        try:
            while True:
                found = notify.watch(
                    self._step_ms * 2, self._step_ms, LOOK_AT_PLACES_MS, self._turn
                )
                if self._turn.is_set():
                    return
                looks += 1
                if isinstance(found, set):
                    paths = {path for _, path in found}
                    watched = (wanted.folders, wanted.below)
                    self._publish(
                        {p for p in paths if any(os.path.dirname(p) in each for each in watched)}
                    )
                    if any(change == DELETED and path in before for change, path in found):
                        return
                elif looks * LOOK_AT_PLACES_MS >= LOOK_AGAIN_MS:
                    looks = 0
                    if (now := _signatures(wanted.files)) != seen:
                        seen = now
                        self._publish({""})
                    if not announces:
                        return  # perhaps there is room for inotify by now
                if (now := _signatures(mounted)) != seen_mounted:
                    seen_mounted = now
                    self._publish({""})
                if _identities(wanted.folders) != before:
                    return
        finally:
            notify.close()

    def _armed(
        self, wanted: Wanted, mounted: frozenset[str], mounts: Mapping[str, str]
    ) -> tuple[RustNotify, bool]:
        """Return what watches, and whether changes are announced to it, or else it has to look for them."""
        there = sorted(filter(os.path.exists, wanted.folders | wanted.below))
        remote = next(
            (each for each in wanted.folders if _file_system(each, mounts) in WITHOUT_INOTIFY), None
        )
        if remote is not None:
            self._say(f"looks once a second for changes: {remote} lies on a network file system")
        else:
            try:
                notify = _announced([*filter(os.path.isdir, there), *mounted])
            except FileNotFoundError:
                raise
            except (OSError, RuntimeError) as error:
                self._say(
                    f"cannot watch files by inotify, looks once a second instead: {_why(error)}"
                )
            else:
                self._say("")
                return notify, True
        return _compiled()(there, False, True, POLL_MS, False, True), False

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


def _announced(paths: list[str]) -> RustNotify:
    """Return a watch by inotify. Raises `OSError` or `RuntimeError` when there is no room for it.

    What we may not read is passed over; but a limit that is reached must not be (the last argument does both).
    """
    try:
        return _compiled()(paths, False, False, POLL_MS, False, False)
    except PermissionError:
        return _compiled()(paths, False, False, POLL_MS, False, True)


def _why(error: Exception) -> str:
    """Return why there is no inotify, and which limit of the system to raise (inotify(7))."""
    text = str(error)
    if "watch limit" in text or "No space left" in text:
        return "this user's watches are used up; raise the sysctl fs.inotify.max_user_watches"
    if "Too many open files" in text or "os error 24" in text:
        return "this user's instances are used up; raise the sysctl fs.inotify.max_user_instances"
    return text


def _mounts() -> dict[str, str]:
    """Return where something is mounted, and the type of its file system: proc_pid_mountinfo(5)."""
    found = {}
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            place, _, kind = line.partition(" - ")
            found[_unescaped(place.split(" ")[4])] = kind.partition(" ")[0]
    return found


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def _has_room() -> bool:
    """Tell whether another thread can be had: without one the compiled watcher aborts the whole process."""
    try:
        threading.Thread(target=lambda: None, daemon=True).start()
    except RuntimeError:
        return False
    return True


def _identities(folders: Iterable[str]) -> dict[str, Signature]:
    """Return what each path leads to now, None for nothing."""
    return {path: None if look is None else look[:2] for path, look in _signatures(folders).items()}


def _signatures(files: Iterable[str]) -> dict[str, Signature]:
    return {path: signature_at(path) for path in files}


def _file_system(folder: str, mounts: Mapping[str, str]) -> str:
    """Return the type of the file system that holds a folder."""
    real = Path(os.path.realpath(folder))
    return next((mounts[str(each)] for each in (real, *real.parents) if str(each) in mounts), "")
