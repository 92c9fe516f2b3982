"""What must be there before anything is started: folders, locks, the control socket, and what a former keeper left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import socket
import stat
import time
from typing import TYPE_CHECKING, Final

from reconciler.keeper.startup.config import LOCK_FILE, KeeperConfig, Refused
from reconciler.keeper.succession.handover import Handover, take
from reconciler.model.address import MAX_UNIX_PATH_BYTES
from reconciler.model.value import Struct
from reconciler.sockets.sockets import CLOSED_UMASK
from reconciler.system import in_place
from reconciler.system.procfs import boot_id
from reconciler.wire.journal import NewerFormat, Recalled, recall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.process import ProcessId

TOKEN_FILE: Final = "instance"
CONTROL_BACKLOG: Final = 128
LOCK_WAIT_S: Final = 10.0
"""How long to wait for a lock whose holder is dead."""


class Legacy(Struct, frozen=True):
    """What a former keeper left, and how what it started is known.

    `token` is drawn once for a state folder; it begins the marker of all processes of the instance.
    """

    token: str
    boot_id: str
    recalled: Recalled
    locks: tuple[int, ...]
    control: socket.socket
    handover: Handover = Handover((), -1)
    """Without files for a keeper that is started."""

    @property
    def owner(self) -> dict[str, str]:
        """Return whose a journal must be for its processes to be ours."""
        return {"token": self.token, "boot": self.boot_id}

    @property
    def beginning(self) -> str:
        """Return what all markers of this instance begin with."""
        return f"{self.token}/"

    def marker(self, id: ProcessId, incarnation: int) -> str:
        """Return what RECONCILE_ID is in the environment of this incarnation; no other instance has it."""
        return f"{self.beginning}{id}/{incarnation}"


def legacy(config: KeeperConfig) -> Legacy:
    """Return what a former keeper left, once the folders are ours. Raises `Refused`, `OSError`."""
    if config.handover_fd is not None:
        return _handed_over(config, config.handover_fd)
    locks = claim(config)
    token, boot = _token(config.state_dir), boot_id()
    try:
        with _refusing(f"cannot read {config.journal}"):
            recalled = recall(config.journal, {"token": token, "boot": boot})
    except NewerFormat as error:
        msg = f"{config.journal} {error}; start that version again, its processes go on meanwhile"
        raise Refused(msg) from None
    if not recalled.is_whole:
        with contextlib.suppress(OSError):
            os.rename(config.journal, f"{config.journal}.damaged")
    return Legacy(token, boot, recalled, locks, open_control(config))


def _handed_over(config: KeeperConfig, memory: int) -> Legacy:
    try:
        handover, recalled = take(memory)
    except (NewerFormat, ValueError) as error:
        msg = f"cannot read what the former version handed over ({error}); its processes go on"
        raise Refused(msg) from None
    control = socket.socket(fileno=handover.control)
    token = _token(config.state_dir)
    return Legacy(token, boot_id(), recalled, handover.locks, control, handover)


def _token(folder: str) -> str:
    """Return what marks the processes of this state folder, and of none that it was copied from or to.

    Raises `OSError` when it cannot be read just now: with another one all that runs would be strange to us.
    """
    path, place = os.path.join(folder, TOKEN_FILE), os.path.realpath(folder)
    with contextlib.suppress(FileNotFoundError, ValueError), open(path, encoding="utf-8") as file:
        token, _, made_in = file.read().removesuffix("\n").partition(" ")
        if token and made_in == place:
            return token
    token = os.urandom(8).hex()
    with contextlib.suppress(
        OSError
    ):  # A full disk: what runs now will be strange to the next keeper.
        beside = f"{path}.new"
        with open(beside, "w", encoding="utf-8", opener=_privately) as file:
            file.write(f"{token} {place}\n")
        os.rename(beside, path)
    return token


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse to start, and say what cannot be done, where the system does not let us."""
    try:
        yield
    except OSError as error:
        msg = f"{what}: {os.strerror(error.errno or 0).lower()}"
        raise Refused(msg) from None


def make_folder(path: str, mode: int) -> None:
    """Make a folder and what is above it; one that is there keeps its mode, it may not be ours alone."""
    with _refusing(f"cannot create {path}"):
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
            os.chmod(path, mode)
        if not os.path.isdir(path):
            raise NotADirectoryError(20, "")


def lock(path: str, wait_s: float = LOCK_WAIT_S) -> int:
    """Lock a file until this process ends, and return its descriptor, which is kept open on purpose.

    Raises `Refused` when another one has it, also after `wait_s` for one that is dead.
    """
    with _refusing(f"cannot lock {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _take_lock(fd, wait_s)
    except (Refused, OSError):
        os.close(fd)
        raise
    return fd


def _take_lock(fd: int, wait_s: float) -> None:
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            pid, _, uid = os.pread(fd, 64, 0).decode(errors="replace").strip().partition(" ")
            if _is_there(pid) or time.monotonic() >= give_up_at:
                # A keeper that is at work already waits for no lock, and for no name of a user either.
                user = _user_name(uid) if wait_s else uid and f"uid {uid}"
                msg = f"already running, started by {user or 'an unknown user'}, pid {pid or 'unknown'}"
                raise Refused(msg) from None
        # A killed keeper's children have the lock until they execute their program: only from then on
        # can they be told by their marker, so it is right to wait for them.
        time.sleep(0.005)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()} {os.getuid()}\n".encode(), 0)


def _user_name(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return uid


def _is_there(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def claim(config: KeeperConfig) -> tuple[int, ...]:
    """Make the folders, lock them for as long as this process lives, and return the locks. Raises `Refused`."""
    if len(os.fsencode(config.control_socket)) > MAX_UNIX_PATH_BYTES:
        size = len(os.fsencode(config.control_socket))
        msg = (
            f"cannot use {config.control_socket}: the path of a socket holds at most "
            f"{MAX_UNIX_PATH_BYTES} bytes, this one has {size}; try a shorter --runtime-dir"
        )
        raise Refused(msg)
    make_folder(config.runtime_dir, config.runtime_mode)
    make_folder(config.state_dir, 0o700)
    folders = (config.runtime_dir, config.state_dir)
    locks = tuple(lock(os.path.join(folder, LOCK_FILE)) for folder in folders)
    make_folder(config.fifo_dir, 0o700)
    return locks


def stand_on_own_descriptors() -> None:
    """Open 0, 1 and 2 where they are closed, and let no other descriptor reach a child."""
    in_place.stand()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


def file_at(path: str) -> tuple[int, int] | None:
    """Return which file a path leads to; None when there is none. Raises `OSError` when that cannot be told."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def open_control(config: KeeperConfig) -> socket.socket:
    """Return the listening control socket, shut until it is as configured, `with_numbers`. Raises `Refused`."""
    path = config.control_socket
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    umask = os.umask(CLOSED_UMASK)
    try:
        with _refusing(f"cannot open the control socket {path}"):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)  # nobody's: whoever had it would hold the lock
            sock.bind(path)
            owner, group = config.control_owner, config.control_group
            if (owner, group) != (None, None):
                numbers = (-1 if each is None else int(each) for each in (owner, group))
                os.chown(path, *numbers, follow_symlinks=False)
            os.chmod(path, config.control_mode)
            sock.listen(CONTROL_BACKLOG)
    finally:
        os.umask(umask)
    return sock
