"""The files that the spec in force was read from, as they were then, and what differs from them now."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.controller.runtime import clock
from reconciler.controller.specs import half_written
from reconciler.controller.specs.loader import ReadFile
from reconciler.controller.specs.snapshot import Snapshot, look
from reconciler.controller.state.records import SourceFile


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
    ) -> tuple[half_written.Verdict, str, int]:
        """Return the worst that can be said about a file, which one, and how long it has rested (ns)."""
        found: tuple[half_written.Verdict, str, int] = ("complete", "", 0)
        order = ("complete", "maybe", "wait", "cut")
        for path, before in self.files.items():
            now = seen.files.get(path)
            if now is None or now.text is None or now.digest == before.digest:
                continue
            rest = half_written.STABLE_NS if is_stable else clock.wall_ns() - now.changed_wall_ns
            verdict = half_written.judge(before.text, before.inode, now.text, now.inode, rest)
            if order.index(verdict) > order.index(found[0]):
                found = (verdict, path, max(rest, 0))
        return found


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
