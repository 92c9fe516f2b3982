"""Whether something is mounted that may keep whoever looks at a path waiting for as long as a server likes.

A path does not say where it leads: a folder of PATH may be a link, a script names its interpreter, a program its
loader. So it is asked of the machine as a whole, and the answer costs one call as long as nothing is mounted or
unmounted.
"""

from __future__ import annotations

import os
import select
from typing import Final

from reconciler.system.procfs import read_all

MOUNTS: Final = "/proc/self/mountinfo"
_LOCAL: Final = frozenset(
    b"bcachefs binfmt_misc bpf btrfs cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl "
    b"hugetlbfs mqueue nsfs overlay proc pstore ramfs rootfs rpc_pipefs securityfs selinuxfs sysfs tmpfs "
    b"tracefs ubifs zfs".split()
)
"""Those without a device of their own whose answer nobody else has to give."""
_NO_PROGRAMS: Final = (b"/proc", b"/sys")


class Mounts:
    """What is mounted where this process runs; `may_hang` is asked again and again."""

    def __init__(self, path: str = MOUNTS) -> None:
        """Raises `OSError`."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._fd, select.POLLPRI)  # proc(5), /proc/pid/mounts
        self._may_hang: bool | None = None

    def may_hang(self) -> bool:
        """Tell whether a look at some path may take for ever; also when that cannot be told just now."""
        try:
            if self._changes.poll(0) or self._may_hang is None:
                self._may_hang = None
                self._may_hang = may_hang(read_all(self._fd))
        except (OSError, LookupError, ValueError):
            return True
        return self._may_hang


def may_hang(mountinfo: bytes) -> bool:
    """Tell whether one of these mounts is served by others: a network, or a program (FUSE, autofs)."""
    return any(not _is_local(line.split(b" ")) for line in mountinfo.splitlines())


def _is_local(fields: list[bytes]) -> bool:
    """Judge one mount: its device, where it is mounted, and after a `-` its type (proc(5))."""
    device, place = fields[2], fields[4]
    kind = fields[fields.index(b"-", 6) + 1]
    if any(place == each or place.startswith(each + b"/") for each in _NO_PROGRAMS):
        return True
    return kind in _LOCAL or (not device.startswith(b"0:") and not kind.startswith(b"fuse"))
