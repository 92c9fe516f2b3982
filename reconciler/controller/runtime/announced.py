"""What the kernel announces of folders: what changes in them, and that a path leads elsewhere from now on.

A folder stays watched when its name goes to another one, since inotify(7) watches what lies at a path. So all that a
path leads through is watched as well, for nothing but its own end: each folder for being moved or removed, each
symbolic link for being replaced. What is made, opened or written beside them wakes nobody. A folder that goes while
a process has its working directory there does not tell of its end before that of the process, but the one above tells
that the name is gone. What is missing is awaited in the last folder that is there.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.system import inotify
from reconciler.system.inotify import Inotify

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT: Final = (
    inotify.MODIFY
    | inotify.ATTRIB
    | inotify.CLOSE_WRITE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.CREATE
    | inotify.DELETE
)
_OWN_END: Final = inotify.MOVE_SELF | inotify.DELETE_SELF
_TURNS: Final = inotify.CREATE | inotify.MOVED_TO | inotify.DELETE | inotify.MOVED_FROM
_MAX_LINKS: Final = 40
"""As path_resolution(7) follows them."""


class Announced:
    """One arming: when a path leads elsewhere, another one is needed."""

    def __init__(self, folders: Iterable[str], below: Iterable[str], files: Iterable[str]) -> None:
        """Watch what is in `folders` and in those `below` them, and `files` themselves.

        What we may not read is passed over. Raises `FileNotFoundError` when something goes in this instant, another
        `OSError` when inotify has no room.
        """
        self._inotify = Inotify()
        self._folders: defaultdict[int, set[str]] = defaultdict(set)
        """By what names people know the folder of a watch."""
        self._files: dict[int, str] = {}
        self._turns: defaultdict[int, set[str]] = defaultdict(set)
        """At which names of a folder it shows that a path leads elsewhere."""
        self._known: set[str] = set()
        """What has been walked through."""
        try:
            for path in folders:
                self._arm_way(path)
                self._arm_folder(path)
            for path in below:  # the folder above tells when it has gone
                with suppress(FileNotFoundError):
                    self._arm_folder(path)
            for path in files:
                self._files[self._add(path, CONTENT)] = path
        except BaseException:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has happened."""
        return self._inotify.fileno()

    def take(self) -> tuple[set[str], bool]:
        """Return the paths that changed since the last call, and whether a path leads elsewhere now.

        An empty path stands for anything.
        """
        changed, has_moved = set(), False
        for number, bits, name in self._inotify.read():
            if bits & inotify.OVERFLOW:
                changed.add("")
            elif not name:
                has_moved |= bool(bits & (_OWN_END | inotify.UNMOUNT | inotify.ATTRIB))
            else:
                changed |= {os.path.join(each, name) for each in self._folders.get(number, ())}
                has_moved |= bool(bits & _TURNS) and name in self._turns.get(number, ())
            if number in self._files:
                changed.add(self._files[number])
        return changed, has_moved or "" in changed

    def close(self) -> None:
        """Watch nothing any more."""
        self._inotify.close()

    # ---- arming ----

    def _arm_folder(self, path: str) -> None:
        if os.path.isdir(path):
            self._folders[self._add(path, CONTENT | _OWN_END)].add(path)

    def _arm_way(self, path: str) -> None:
        """Watch all that a path leads through, up to what is missing."""
        at, links, steps = "/", 0, deque(path.split("/"))
        while steps:
            name = steps.popleft()
            if name in {"", ".", ".."}:
                at = os.path.dirname(at) if name == ".." else at
                continue
            here = os.path.join(at, name)
            try:
                mode = os.lstat(here).st_mode
            except FileNotFoundError:
                self._await(at, name, inotify.CREATE | inotify.MOVED_TO)
                return
            except OSError:
                return  # what we may not see tells nothing
            if stat.S_ISLNK(mode) and (links := links + 1) <= _MAX_LINKS:
                self._step(here, _OWN_END | inotify.ATTRIB | inotify.DONT_FOLLOW)
                target = os.readlink(here)
                steps.extendleft(reversed(target.split("/")))
                at = "/" if target.startswith("/") else at
            else:
                self._step(here, _OWN_END)
                at = here
        self._await(os.path.dirname(at), os.path.basename(at), inotify.DELETE)

    def _step(self, path: str, events: int) -> None:
        if path not in self._known:
            self._known.add(path)
            self._add(path, events)

    def _await(self, folder: str, name: str, events: int) -> None:
        self._turns[self._add(folder, events)].add(name)

    def _add(self, path: str, events: int) -> int:
        try:
            return self._inotify.add(path, events)
        except PermissionError:
            return 0  # no watch has this number
        except NotADirectoryError:
            raise FileNotFoundError(path) from None
