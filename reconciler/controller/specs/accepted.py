"""The files that the spec in force was read from, as they were then, and whether to believe what they say now.

A writer that crashed, or a disk that filled up, leaves the beginning of a file. Read as a spec it says
"delete the rest". So a file that in place (same inode) became a proper prefix of what was applied is
suspicious. It must rest for a while; then it counts as a deletion when it ends with a whole line and
nothing but whole entries are gone from the spec. Everything else is held until the file changes again
or an operator consents. A file replaced by rename was complete before it got its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from reconciler.controller.runtime import clock
from reconciler.controller.specs.loader import ReadFile
from reconciler.controller.specs.snapshot import Snapshot, look
from reconciler.controller.state.records import SourceFile
from reconciler.model.spec import Spec
from reconciler.model.units import SECOND_NS

STABLE_NS: Final = 2 * SECOND_NS

Completeness: TypeAlias = Literal["complete", "wait", "cut", "maybe"]
"""`wait` for it to rest; `cut` in the middle; `maybe` a deletion, `only_whole_entries_gone` decides."""
_FROM_BEST: Final = ("complete", "maybe", "wait", "cut")


class Accepted:
    """What was taken note of last."""

    def __init__(self, files: tuple[SourceFile, ...]) -> None:
        self.files = {each.path: each for each in files}
        """By path, with their bytes as far as they are known."""
        self.digests = {path: file.digest for path, file in self.files.items()}
        """How all files looked then, also those that the spec does not include."""

    def recognise(self, seen: Snapshot) -> None:
        """Give the files the bytes that were seen, where they are the same."""
        for path, file in self.files.items():
            now = seen.files.get(path)
            if now is not None and now.digest == file.digest and now.text is not None:
                self.files[path] = SourceFile(path, file.digest, now.size, now.inode, now.text)

    def take(self, files: tuple[SourceFile, ...], seen: Snapshot) -> None:
        """Take note that what these files say is in force. `seen` is how they looked before the reading."""
        self.files = {each.path: each for each in files}
        # The loader's digests win: they are of the bytes that were read.
        self.digests = seen.digests | {each.path: each.digest for each in files}

    def are(self, seen: Snapshot) -> bool:
        """Tell whether these are the files, byte for byte."""
        return bool(self.files) and seen.digests == self.digests

    def half_written(
        self, seen: Snapshot, *, is_stable: bool = False
    ) -> tuple[Completeness, str, int]:
        """Return the worst that can be said about a file, which one, and how long it has rested (ns)."""
        found: list[tuple[Completeness, str, int]] = [("complete", "", 0)]
        for path, before in self.files.items():
            now = seen.files.get(path)
            if now is None or now.text is None or now.digest == before.digest:
                continue
            rest = STABLE_NS if is_stable else clock.wall_ns() - now.changed_wall_ns
            verdict = judge(before.text, before.inode, now.text, now.inode, rest)
            found.append((verdict, path, max(rest, 0)))
        return max(found, key=lambda each: _FROM_BEST.index(each[0]))


def with_bytes(read: Mapping[str, ReadFile], before: Snapshot) -> tuple[SourceFile, ...]:
    """Return what the loader read as the files of a spec, with the bytes as far as they are known."""
    seen = look((), read, before)
    found = []
    for path, file in read.items():
        now = seen.files.get(path)
        same = now is not None and now.digest == file.digest
        inode, text = (now.inode, now.text) if now is not None and same else (0, None)
        found.append(SourceFile(path, file.digest, file.size, inode, text))
    return tuple(found)


def are_as_read(read: Mapping[str, ReadFile], seen: Snapshot) -> bool:
    """Tell whether the files are still as they were read, and none has joined them."""
    now = look((), read, seen).files
    same = all(path in now and now[path].digest == each.digest for path, each in read.items())
    return same and seen.files.keys() <= read.keys()


def judge(
    before: bytes | None, before_inode: int, after: bytes, after_inode: int, rest_ns: int
) -> Completeness:
    """Return what to think of a file's bytes now, given those that were applied.

    `before` None: nobody knows what was applied. `rest_ns`: for how long the file has not changed.
    """
    if before is None or before_inode != after_inode:
        return "complete"
    if len(after) >= len(before) or not before.startswith(after):
        return "complete"
    if rest_ns < STABLE_NS:
        return "wait"
    return "maybe" if after.endswith(b"\n") else "cut"


def only_whole_entries_gone(old: Spec, new: Spec) -> bool:
    """Tell whether the new spec is the old one without some of its watchers and sockets."""
    return (
        _is_part_of(new.watchers, old.watchers)
        and _is_part_of(new.sockets, old.sockets)
        and (new.daemon, new.apply) == (old.daemon, old.apply)
    )


def _is_part_of(part: Mapping[str, object], whole: Mapping[str, object]) -> bool:
    return all(name in whole and whole[name] == value for name, value in part.items())
