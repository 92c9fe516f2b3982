"""How the files look that a watcher watches: names, sizes, times and numbers of files, and where links lead.

Nothing of them is read. A link in a folder is not followed: where it leads is what it is. What `paths` names is
followed, and where that leads counts, too: so a link that comes to lead to another release is a change.

Ignored is what a glob matches, by its name in any folder or (where the glob has a slash) by its path below the one
that is watched. Globs as `fnmatch` has them are enough for that: one expression for all, and no other library.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from reconciler.model.digest import sha256
from reconciler.model.value import Part, Struct, field
from reconciler.specfile.reading import is_unicode

MAX_WATCHED_FILES: Final = 10_000
"""Files and folders of one watcher."""
ALWAYS_IGNORED: Final = (
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.pyo", ".*_cache", ".tox", ".nox"),
    *(".venv", "node_modules", "*.swp", "*.swx", "*~", ".#*", "#*#", ".DS_Store"),
)
MAX_NAMED: Final = 10


class Tree(Struct, frozen=True):
    """What a look has found. `trouble`: why it says nothing of what is there."""

    digest: str = ""
    entries: Mapping[str, int] = field(default_factory=dict)
    """By path, a hash of how it looks."""
    folders: frozenset[str] = frozenset()
    """All folders of which every change counts that is not ignored."""
    places: frozenset[str] = frozenset()
    """What is watched and is no folder, or not there, also where that leads: of their folders only this counts."""
    changed_wall_ns: int = 0
    """When the last change came about, as far as that can be seen."""
    trouble: str = ""


class TooMany(Exception):
    """There is more than can be watched."""


def look_at(paths: tuple[str, ...], ignore: tuple[str, ...]) -> Tree:
    """Return how all that is watched looks. It may take a while: not for the loop."""
    look = _Look(ignored_by(ignore))
    for path in paths:
        try:
            look.at(path)
        except TooMany:
            message = (
                f"there are more than {MAX_WATCHED_FILES} files below {path}; watch less of it, or "
                "ignore more"
            )
            folders, places = frozenset(look.folders), frozenset(look.places)
            return Tree(folders=folders, places=places, trouble=message)
    return look.tree()


def differences(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[tuple[str, ...], int]:
    """Return the first few paths that differ, and how many do. Of a folder that came or went its files do, too."""
    found = [p for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    return tuple(sorted(found)[:MAX_NAMED]), len(found)


@cache
def ignored_by(ignore: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches a path below a watched one, beginning with a slash, that is ignored."""
    parts = []
    for glob in (*ALWAYS_IGNORED, *ignore):
        plain = glob.strip("/")
        anywhere = "" if "/" in plain else "(?:.*/)?"
        parts.append(f"/{anywhere}{fnmatch.translate(plain)}")
    return re.compile("|".join(parts), re.DOTALL)


class _Look(Part):
    """One look."""

    ignored: re.Pattern[str]
    seen: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    changed_wall_ns: int = 0

    def tree(self) -> Tree:
        """Return what was found."""
        text = "\0".join(f"{path}\0{look}" for path, look in sorted(self.seen.items()))
        digest = sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
        hashes = {path: hash(look) for path, look in self.seen.items()}
        folders, places = frozenset(self.folders), frozenset(self.places)
        return Tree(digest, hashes, folders, places, self.changed_wall_ns)

    def at(self, path: str) -> None:
        """Look at one of the paths. Raises `TooMany`."""
        real = os.path.realpath(path)
        try:
            status = os.stat(path)
        except OSError:
            self.seen[path] = "missing"
            self.places.update((path, real))
            return
        if stat.S_ISDIR(status.st_mode):
            self.seen[path] = real
            self._below(path)
        else:
            self.seen[path] = f"{real} {self._look_of(status)}"
            self.places.update((path, real))

    def _below(self, path: str) -> None:
        waiting = [""]
        while waiting:
            below = waiting.pop()
            folder = f"{path}{below}"
            if is_unicode(folder):
                self.folders.add(folder)
            for name, look, is_folder in self._entries(folder):
                inner = f"{below}/{name}"
                if self.ignored.match(inner):
                    continue
                self.seen[f"{path}{inner}"] = look
                if len(self.seen) > MAX_WATCHED_FILES:
                    raise TooMany
                if is_folder:
                    waiting.append(inner)

    def _entries(self, folder: str) -> Iterator[tuple[str, str, bool]]:
        """Yield what is in a folder: its name, how it looks, and whether it is a folder itself."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            yield entry.name, "folder", True
                        elif entry.is_symlink():
                            yield entry.name, f"link {os.readlink(entry.path)}", False
                        else:
                            status = entry.stat(follow_symlinks=False)
                            yield entry.name, self._look_of(status), False
                    except OSError:
                        continue  # it went in this instant
        except OSError as error:
            yield "", f"unreadable {error.errno}", False

    def _look_of(self, status: os.stat_result) -> str:
        """A file's number tells of one that took its place with the same size and time."""
        self.changed_wall_ns = max(self.changed_wall_ns, status.st_ctime_ns)
        return f"{status.st_mode:o} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
