"""Bytes that have to be seen before they are written, and that no death of the keeper loses or doubles.

They go from the FIFO by splice(2) into a file of ours that outlives this process, with a note of how the log file
was, and only from there into this process and the log file. Then that file is emptied: in one act they are
dealt with. A keeper that finds some there cuts the log file back to what the note says, and writes them itself.

Whoever writes no whole lines can still lose the beginning of one, which waits here for its end.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from reconciler.model.value import Struct
from reconciler.output.places import open_log
from reconciler.system.shortages import NO_PLACE

if TYPE_CHECKING:
    from reconciler.output.log_file import LogFile

NOTE_BYTES: Final = 8192
"""Where the bytes begin: a path has 4,096 at most (path_max(0p))."""
MAX_ROTATIONS: Final = 100
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Note(Struct, frozen=True):
    """A log file as it was before bytes of a FIFO were written to it."""

    boot: str
    fifo: str
    path: str
    device: int
    inode: int
    size: int


class Spool:
    """Takes bytes out of FIFOs, one piece after the other.

    `left` is what a killed keeper has left half done: the FIFO's name, and the bytes.
    """

    def __init__(self, path: str, boot: str) -> None:
        """Look what was left. Raises `OSError`, but not because the disk takes nothing: it may some day."""
        self._path = path
        self._boot = boot
        self._fd = -1
        self.left = ("", b"")
        try:
            self._open()
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
        else:
            self.left = self._recall()

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, _FLAGS, 0o600)

    def take(self, fifo: int, name: str, file: LogFile, limit: int) -> bytes:
        """Return bytes of a FIFO that are to be written to a file, nothing when no writer is left.

        Raises `BlockingIOError` when there are none just now. Where they cannot be kept meanwhile, because the
        disk is full or knows no splice(2), a death may lose them.
        """
        found = os.fstat(file.fd)
        note = Note(self._boot, name, file.path, found.st_dev, found.st_ino, found.st_size)
        try:
            self._open()
            if self.left[1]:  # still to be given, by us: its note makes room for that of another
                os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(note).ljust(NOTE_BYTES), 0)
            size = os.splice(
                fifo, self._fd, limit, offset_dst=NOTE_BYTES, flags=os.SPLICE_F_NONBLOCK
            )
        except BlockingIOError:
            raise
        except OSError:
            return os.read(fifo, limit)
        return os.pread(self._fd, size, NOTE_BYTES)

    def give_left(self, name: str) -> bytes:
        """Return what was left of a FIFO, once; `done` says that it is written."""
        if name != self.left[0]:
            return b""
        (_, left), self.left = self.left, ("", b"")
        return left

    def done(self) -> None:
        """What was taken last is written."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)

    def _recall(self) -> tuple[str, bytes]:
        """Return what was left, once the file is as if nothing of it had been written."""
        written = os.pread(self._fd, NOTE_BYTES + os.fstat(self._fd).st_size, 0)
        taken = written[NOTE_BYTES:]
        if not taken:
            return "", b""
        try:
            note = msgspec.json.decode(written[:NOTE_BYTES], type=Note)
        except msgspec.DecodeError:  # not by us: nothing is known of it
            return "", b""
        if note.boot != self._boot:  # the machine went down, and the file may not be as it was
            return "", b""
        with suppress(OSError):  # twice is better than never
            _cut_back(note)
        return note.fifo, taken


def _cut_back(note: Note) -> None:
    """Cut a log file back to what it was; what it was rotated into meanwhile is all new. Raises `OSError`."""
    with ExitStack() as stack:
        newer: list[int] = []
        for number in range(MAX_ROTATIONS):
            path = f"{note.path}.{number}" if number else note.path
            try:
                fd = open_log(path, os.O_RDWR)
            except FileNotFoundError:  # a rotation was not finished
                continue
            stack.callback(os.close, fd)
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == (note.device, note.inode):
                os.ftruncate(fd, min(found.st_size, note.size))
                for each in newer:
                    os.ftruncate(each, 0)
                return
            newer.append(fd)
