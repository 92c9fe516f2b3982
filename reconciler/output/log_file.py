"""A log file: appended to, rotated by size and time at line ends, found again when others move it.

The rule: a line is never lost or cut by a rotation. A file grows past `max_size` only to finish a
line, and a line without end is cut once it is `LINE_BYTES` beyond.

When to rotate by time follows from when the file was written to last, so nothing has to be remembered: a file that
was written to before an instant of the period, and is not empty, is rotated before anything is written after it.

The file is not opened with O_APPEND, since splice(2) refuses such files; instead its end is looked
up before each round of writing. So `copytruncate` of logrotate and a second writer do no harm,
except in the microseconds of a round.

Known weakness: a write into the page cache waits when the kernel throttles writers because the disk
is slow. Only a thread or io_uring would change that.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.process import NOT_KNOWN, Owned
from reconciler.model.units import DAY_NS, HOUR_NS, SECOND_NS
from reconciler.output.places import folder_of, is_in, open_in, open_log
from reconciler.output.stamps import is_local
from reconciler.system.shortages import NO_PLACE, NOT_NOW

if TYPE_CHECKING:
    from reconciler.model.process import FileSink

LINE_BYTES: Final = 64 * 2**10
"""A longer line is cut wherever whole lines are needed."""
NOT_YET: Final = NO_PLACE | NOT_NOW | {errno.ELOOP}
"""For these a file of a process that runs is opened later."""
_FLAGS: Final = os.O_RDWR | os.O_CREAT
"""For reading too: whether the last line is finished is asked of the file itself."""
CHECK_AFTER_S: Final = 1.0
"""How often the path is asked whether it still leads to the open file."""
AGAIN_S: Final = 60.0
"""When a rotation by time that is impossible just now is tried again."""
_FIRST_MONDAY_S: Final = 4 * DAY_NS / SECOND_NS
"""1970-01-05, from which weeks count."""
_HOUR_S: Final = HOUR_NS / SECOND_NS
_COARSE_S: Final = 0.1
"""So much before the clock a file may say that it was written to: the kernel looks at its own clock at each tick."""


class LogFile:
    """One open log file; all streams that write to its path share it.

    `rotated` tells that it was rotated, and nobody has taken note of that yet. `trouble` says why what is
    written is lost, empty when nothing was lost for `CHECK_AFTER_S`. `astray` says why the path cannot be trusted
    to lead to the open file any more, which is written on, or why it has not the mode and owner that it should.
    `rotate_at` is the wall time when `look` rotates it.
    """

    def __init__(
        self,
        path: str,
        options: FileSink,
        full: int,
        now: float,
        later: frozenset[int] = NO_PLACE,
    ) -> None:
        """Open or create the file and the folders above it; raises `OSError` with its name.

        For the errors `later` the file is opened later, and what comes until then is dropped: it goes to `full`,
        a descriptor of /dev/full, which stays open.
        """
        self.path = path
        self.options = options
        self.trouble = self.astray = ""
        self._full = full
        self._unopened = ""
        """Why the file is not open yet, empty when it is."""
        try:
            self.fd = open_log(path, _FLAGS, _mode(options), make=True)
        except OSError as error:
            if error.errno not in later:
                raise
            self.fd = full
            self.trouble = self._unopened = _words(error)
        self.size = os.lseek(self.fd, 0, os.SEEK_END)
        self.users = 0
        self.lost_bytes = 0
        """What found no place here and was not told yet."""
        self.rotated = False
        self.splices = True
        self._writer: object = None
        self._checked = float("-inf")
        self._refused = False
        self._torn = False
        self._lost = False
        """Something was lost since the last look at the path."""
        self._now = now
        self._is_overdue = False
        """Its time has come amid a line: it is rotated behind that."""
        self._unowned = ""
        """Why it has not the mode and owner that it should."""
        self._begin()

    def take(self, options: FileSink, now: float) -> None:
        """Go on by other options."""
        before = self.options
        self.options, self._now = options, now
        same_zone = is_local(options.timestamps) == is_local(before.timestamps)
        if options.rotate_ns != before.rotate_ns or not same_zone:
            self._plan_rotation()
        if options.owned != before.owned:
            self._own()

    def look(self, now: float) -> None:
        """Find the end of the file, rotate it when its time has come, and ask once in a while for its path."""
        status = os.fstat(self.fd)
        if status.st_size != self.size:
            self.size = os.lseek(self.fd, 0, os.SEEK_END)
        self._now = now
        if now >= self.rotate_at:
            self._rotate_by_time()
            status = os.fstat(self.fd)
        if abs(now - self._checked) < CHECK_AFTER_S and status.st_nlink:
            return
        self._checked = now
        self._refused = False
        self.trouble = self.trouble if self._lost else ""
        self._lost = False
        try:
            with folder_of(self.path, make=True) as (folder, name):
                if not is_in(folder, name, status):
                    self._reopen(folder, name, status)
                self.astray = self._unowned
        except OSError as error:  # What we hold is better than nothing; asked again soon.
            self._unopened = self._unopened and _words(error)
            if error.errno == errno.ELOOP and self.fd != self._full:
                self.astray = f"its path can no longer be trusted: {_words(error)}"

    def close(self) -> None:
        """Let go of it."""
        if self.fd != self._full:
            os.close(self.fd)

    def splice_room(self) -> int:
        """Return how many bytes may come in unseen: until a line's length before the limit."""
        if not self.splices or self._torn or self._is_overdue:
            return 0
        if not self.options.max_size or self._refused:
            return 2**30
        return self.options.max_size - self.size - LINE_BYTES

    def put(self, *pieces: bytes | memoryview) -> int:
        """Append, and rotate between lines when the limit is reached; return the bytes dropped."""
        size = sum(map(len, pieces))
        may_rotate = self._is_overdue or bool(self.options.max_size)
        if self._torn or (may_rotate and not self._refused and not self._has_room(size)):
            return self._put_in_parts(b"".join(pieces))
        dropped = size - self._write(*pieces)
        self._torn = dropped > 0
        self.splices = self.splices or not dropped
        return dropped

    def _has_room(self, size: int) -> bool:
        return not self._is_overdue and size <= self.options.max_size - self.size

    def _put_in_parts(self, data: bytes) -> int:
        if self._torn and not self._at_line_start():
            data = b"\n" + data
        while data:
            fitting = self._fitting(data)
            written = self._write(data[:fitting])
            self._torn = written < fitting
            if self._torn:
                return len(data) - written
            data = data[fitting:]
            if data:
                self._refused = not self._rotate()
        self.splices = True
        return 0

    def written_by(self, writer: object) -> None:
        """Take note of who writes now: its words are no part of the line that another one has begun."""
        if self._writer is not writer:
            self.finish_line(self._writer)
            self._writer = writer

    def finish_line(self, writer: object) -> None:
        """End the line that this writer has left without end; a disk that does not take it is asked again later."""
        if writer is not None and self._writer is writer:
            self._writer = None
            if self.size and not self._at_line_start():
                self._torn = not self._write(b"\n")

    def _fitting(self, data: bytes) -> int:
        """Return how much of the data still belongs into this file: all, or up to a line's end."""
        if self._is_overdue and not self._refused:
            at_start = not self.size or self._at_line_start()
            return 0 if at_start else data.find(b"\n") + 1 or len(data)
        room = self.options.max_size - self.size
        if not self.options.max_size or self._refused or len(data) <= room:
            return len(data)
        fitting = data.rfind(b"\n", 0, max(room, 0)) + 1
        if fitting or (self.size and self._at_line_start()):
            return fitting
        # The line that has begun here, or that is longer than a whole file, is finished here.
        return data.find(b"\n") + 1 or (len(data) if room > -LINE_BYTES else 0)

    def _at_line_start(self) -> bool:
        with suppress(OSError):
            return os.pread(self.fd, 1, self.size - 1) == b"\n" if self.size else True
        return True

    def _write(self, *pieces: bytes | memoryview) -> int:
        """Return how many bytes were written: less when the disk is full or broken."""
        written, size = 0, sum(map(len, pieces))
        try:
            while written < size:
                rest = pieces if not written else (b"".join(pieces)[written:],)
                written += os.writev(self.fd, rest)
        except OSError as error:
            self.trouble, self._lost = self._unopened or _words(error), True
        self.size += written
        return written

    def _rotate_by_time(self) -> None:
        if not self.size:
            self._plan_rotation()
        elif not self._at_line_start():
            self._is_overdue, self.rotate_at = True, math.inf
        elif not self._rotate():
            self.rotate_at = self._now + AGAIN_S

    def _plan_rotation(self) -> None:
        """Find out when to rotate by time: after what the file holds, or, of an empty one, after now."""
        self._is_overdue, self.rotate_at = False, math.inf
        if self.options.rotate_ns and self.fd != self._full:
            last = os.fstat(self.fd).st_mtime + _COARSE_S if self.size else self._now
            local = is_local(self.options.timestamps)
            self.rotate_at = _next_period(last, self.options.rotate_ns / SECOND_NS, local=local)

    def _rotate(self) -> bool:
        """Go on in a new file; False when that is impossible just now.

        A file that others have put in the place of ours is not rotated but taken as the new one.
        """
        try:
            with folder_of(self.path, make=True) as (folder, name):
                status = os.fstat(self.fd)
                if is_in(folder, name, status):
                    _make_room(folder, name, self.options.keep)
                    if self.options.keep:
                        os.rename(name, f"{name}.1", src_dir_fd=folder, dst_dir_fd=folder)
                    else:
                        os.unlink(name, dir_fd=folder)
                    self.rotated = True
                self._reopen(folder, name, status)
        except OSError:
            return False
        return True

    def _reopen(self, folder: int, name: str, like: os.stat_result) -> None:
        """Open the path again, with the mode and owner that the former file had, unless it should have others."""
        try:
            fd = open_in(folder, name, _FLAGS, _mode(self.options))
        except OSError as error:
            error.filename = self.path
            raise
        self.close()
        self.fd, self._unopened = fd, ""
        self.size = os.lseek(fd, 0, os.SEEK_END)
        if self.size == 0 and stat.S_ISREG(like.st_mode):
            with suppress(OSError):
                if self.options.owned.mode is None:
                    os.fchmod(fd, stat.S_IMODE(like.st_mode))
                os.fchown(fd, like.st_uid, like.st_gid)
        self._begin()

    def _begin(self) -> None:
        """Take note of what a file that was just opened needs."""
        self._plan_rotation()
        self._own()

    def _own(self) -> None:
        """Give the file the mode and owner that it should have, or take note why that cannot be."""
        before, self._unowned = self._unowned, ""
        if self.options.owned != Owned() and self.fd != self._full:
            try:
                _give(self.fd, self.options.owned)
            except OSError as error:
                self._unowned = f"cannot set its owner or mode: {_words(error)}"
        if self.astray == before:
            self.astray = self._unowned


def _next_period(last: float, period_s: float, *, local: bool) -> float:
    """Return when the period after an instant begins (wall clock, seconds), in UTC or in local time."""
    offset_s = time.localtime(last).tm_gmtoff if local else 0
    begin = _FIRST_MONDAY_S - offset_s
    found = begin + (math.floor((last - begin) / period_s) + 1) * period_s
    if local and period_s > _HOUR_S:  # the clocks may change in between
        found += offset_s - time.localtime(found).tm_gmtoff
    return found


def _mode(options: FileSink) -> int:
    """Return the permission bits that a new file has from its first instant."""
    return 0o644 if options.owned.mode is None else options.owned.mode


def _give(fd: int, owned: Owned) -> None:
    """Give a file its mode and owner, where it has others. Raises `OSError`.

    One that has another name, too, may be anybody's, whose link somebody has put in the place of a log: it stays so.
    """
    status = os.fstat(fd)
    uid = status.st_uid if owned.uid in {None, NOT_KNOWN} else owned.uid
    gid = status.st_gid if owned.gid in {None, NOT_KNOWN} else owned.gid
    now = stat.S_IMODE(status.st_mode)
    mode = now if owned.mode is None else owned.mode
    if (uid, gid, mode) == (status.st_uid, status.st_gid, now):
        return
    if status.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name, too")
    if (uid, gid) != (status.st_uid, status.st_gid):
        os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)


def _words(error: OSError) -> str:
    said = (error.strerror or str(error)).lower()
    return f"{error.filename} is {said}" if error.errno == errno.ELOOP else said


def _make_room(folder: int, name: str, keep: int) -> None:
    """Let .1 become .2 and so on, compressed or not, up to the first gap; what is too old goes."""
    last = 0
    while any(_is_there(folder, f"{name}.{last + 1}{end}") for end in ("", ".gz")):
        last += 1
    for number in range(last, 0, -1):
        for end in ("", ".gz"):
            old, new = f"{name}.{number}{end}", f"{name}.{number + 1}{end}"
            with suppress(FileNotFoundError):
                if number >= keep:
                    os.unlink(old, dir_fd=folder)
                else:
                    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _is_there(folder: int, name: str) -> bool:
    """Tell whether something has this name. Raises `OSError`: who cannot tell must not overwrite it."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
