"""Bytes that have to be seen before they are written, and that no death of the keeper loses or doubles.

They go from the FIFO by splice(2) into a file of ours that outlives this process, with a note of how the log file
was, and only from there into this process and the log file. Then that file is emptied: in one act they are
dealt with. A keeper that finds some there cuts the log file back to what the note says, and writes them itself.

Much is taken over bytes that lie there already, and the note is crossed out instead: to find a file room and to free
it again takes several times as long as to copy what goes there. Its size does not tell then what has come. So a mark
is written to the end of each page before, which nobody can guess: the kernel fills one page after the other, also if
this process is killed meanwhile, and a page without its mark has come.

Whoever writes no whole lines can still lose the beginning of one, which waits here for its end.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from reconciler.model.value import Struct, replace
from reconciler.output.places import open_log
from reconciler.system.shortages import NO_PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reconciler.output.log_file import LogFile

NOTE_BYTES: Final = 8192
"""Where the bytes begin: a path has 4,096 at most (path_max(0p))."""
CHUNK_BYTES: Final = 2**16
"""For more than this memory is asked of the system and given back each time, which takes longer than the rest."""
MAX_ROTATIONS: Final = 100
PAGE_BYTES: Final = 4096
"""No page of any machine ends anywhere else."""
MUCH_BYTES: Final = 2**15
"""From here on it is worth while to keep the room for what comes next."""
_MARK_BYTES: Final = 16
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Note(Struct, frozen=True):
    """A log file as it was before bytes of a FIFO were written to it."""

    boot: str
    fifo: str
    path: str
    device: int
    inode: int
    size: int
    mark: bytes = b""
    """What stands at the end of each page that has not come, of so many bytes; else all that is there has come."""
    marked_bytes: int = 0


class Spool:
    """Takes bytes out of FIFOs, one piece after the other.

    `left` is what a killed keeper has left half done: the FIFO's name, and the bytes.
    """

    def __init__(self, path: str, boot: str) -> None:
        """Look what was left. Raises `OSError`, but not because the disk takes nothing: it may some day."""
        self._path = path
        self._boot = boot
        self._fd = -1
        self._room = 0
        """How many bytes may come over those that lie there already."""
        self._is_noted = False
        """What was taken last is not written yet."""
        self._mark = os.urandom(_MARK_BYTES)
        self._marks = b""
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

    def take(self, fifo: int, name: str, file: LogFile, limit: int) -> Iterable[bytes]:
        """Return bytes of a FIFO that are to be written to a file, in chunks, none when no writer is left.

        Raises `BlockingIOError` when there are none just now. Where they cannot be kept meanwhile, because the
        disk is full or knows no splice(2), a death may lose them.
        """
        try:
            self._open()
            if (
                self._is_noted
            ):  # something went wrong with it: the marks would be taken for what has come
                self.done()
            marked = self._mark_pages(fifo, limit)
            note = self._note(name, file, marked)
            os.pwrite(self._fd, msgspec.json.encode(note).ljust(NOTE_BYTES), 0)
            limit = marked or limit
            size = os.splice(
                fifo, self._fd, limit, offset_dst=NOTE_BYTES, flags=os.SPLICE_F_NONBLOCK
            )
        except BlockingIOError:
            raise
        except OSError:
            return filter(None, [os.read(fifo, min(limit, CHUNK_BYTES))])
        self._is_noted = True
        if size < marked:  # the size of the file tells it again
            os.ftruncate(self._fd, NOTE_BYTES + size)
        if size != marked:
            self._room = size if size >= MUCH_BYTES else 0
        return self._chunks(size)

    def _chunks(self, size: int) -> Iterator[bytes]:
        for begin in range(0, size, CHUNK_BYTES):
            yield os.pread(self._fd, min(CHUNK_BYTES, size - begin), NOTE_BYTES + begin)

    def _mark_pages(self, fifo: int, limit: int) -> int:
        """Return how many bytes come over others, for which all is made ready. Raises `OSError`.

        0: what there is comes into room that is yet to be found. Only we read from the FIFO, so it has as much later.
        """
        there = min(limit, _unread_bytes(fifo)) if self._room else 0
        size = min(there, self._room)
        size -= size % PAGE_BYTES if size % PAGE_BYTES < _MARK_BYTES else 0
        if size >= max(PAGE_BYTES, there // 2) and not self.left[1]:
            if len(self._marks) < size:
                self._marks = _marks(self._mark, size)
            os.pwrite(self._fd, memoryview(self._marks)[:size], NOTE_BYTES)
            return size
        # Also what is still to be given, by us, makes room for that of another.
        if self._room or self.left[1]:
            os.ftruncate(self._fd, NOTE_BYTES)
            self._room = 0
        return 0

    def _note(self, name: str, file: LogFile, marked: int) -> Note:
        found = os.fstat(file.fd)
        note = Note(self._boot, name, file.path, found.st_dev, found.st_ino, found.st_size)
        return replace(note, mark=self._mark, marked_bytes=marked) if marked else note

    def give_left(self, name: str) -> bytes:
        """Return what was left of a FIFO, once; `done` says that it is written."""
        if name != self.left[0]:
            return b""
        (_, left), self.left = self.left, ("", b"")
        return left

    def done(self) -> None:
        """What was taken last is written."""
        self._is_noted = False
        with suppress(OSError):
            if self._room:
                os.pwrite(self._fd, b" ", 0)
                return
        # A file system that copies on writing may have no room even for that.
        self._room = 0
        with suppress(OSError):
            os.ftruncate(self._fd, NOTE_BYTES)

    def empty(self) -> None:
        """Nothing comes just now: keep none of what has been dealt with."""
        if self._room and not self.left[1]:
            self._room = 0
            with suppress(OSError):
                os.ftruncate(self._fd, NOTE_BYTES)

    def _recall(self) -> tuple[str, bytes]:
        """Return what was left, once the file is as if nothing of it had been written."""
        written = os.pread(self._fd, NOTE_BYTES + os.fstat(self._fd).st_size, 0)
        taken = written[NOTE_BYTES:]
        self._room = len(taken)
        if not taken:
            return "", b""
        try:
            note = msgspec.json.decode(written[:NOTE_BYTES], type=Note)
        except msgspec.DecodeError:  # not by us: nothing is known of it
            return "", b""
        if note.boot != self._boot:  # the machine went down, and the file may not be as it was
            return "", b""
        taken = _come(note, taken)
        if not taken:
            return "", b""
        with suppress(OSError):  # twice is better than never
            _cut_back(note)
        return note.fifo, taken


def _marks(mark: bytes, size: int) -> bytes:
    return mark * (size // len(mark) + 1)


def _come(note: Note, there: bytes) -> bytes:
    """Return the bytes that have come of those that are there."""
    size = note.marked_bytes
    if len(there) < size or not note.mark:
        return there
    marks, come = _marks(note.mark, size), 0
    for end in (*range(PAGE_BYTES, size, PAGE_BYTES), size):
        begin = end - len(note.mark)
        if there[begin:end] == marks[begin:end]:
            break
        come = end
    return there[:come]


def _unread_bytes(fd: int) -> int:
    (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(size)


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
