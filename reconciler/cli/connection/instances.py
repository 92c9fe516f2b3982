"""Instances: where each of them is, which ones run, and whose they are.

An instance is a folder with `control.sock` in it. `place` says where the instance of given options,
environment and spec is: `up` puts it there, and all others look for it there. Options go before the
environment, that before the spec, that before the platform.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import TYPE_CHECKING, Final

from reconciler.cli.connection import places
from reconciler.cli.connection.spec_head import Head
from reconciler.cli.errors import Refused
from reconciler.model.value import Struct
from reconciler.wire.manager_file import read_manager_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.specfile.source import Source

CONTROL_SOCKET: Final = "control.sock"
CREDENTIALS = struct.Struct("iII")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_LISTENS: Final = 0x10000
"""__SO_ACCEPTCON in the flags of /proc/net/unix."""
_KNOWN_PLACE: Final = (
    r"(/run/reconcile|/run/user/[0-9]+/reconcile|/tmp/reconcile-[0-9]+)/([^/]+)/control\.sock"
)


class Instance(Struct, frozen=True, eq=False):
    """One instance: its name and the folder of its control socket, which make it that one."""

    name: str
    runtime_dir: str
    state_dir: str = ""
    """Where its state is to be expected; empty: nobody knows."""
    remark: str = ""
    """Which one it is, in words, when nobody has chosen it."""

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same one."""
        return isinstance(other, Instance) and self._key == other._key

    def __hash__(self) -> int:
        """Return the same number for the same one."""
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        return self.name, self.runtime_dir

    @property
    def control_socket(self) -> str:
        """Return the path of the control socket."""
        return os.path.join(self.runtime_dir, CONTROL_SOCKET)


class Choice(Struct, frozen=True):
    """What options, or else the environment, choose of an instance; empty is nothing."""

    name: str = ""
    runtime_dir: str = ""
    state_dir: str = ""

    @property
    def says_something(self) -> bool:
        """Tell whether it chooses anything."""
        return bool(self.name or self.runtime_dir or self.state_dir)


def choice(
    name: str | None = None, runtime_dir: str | None = None, state_dir: str | None = None
) -> Choice:
    """Return what these options choose, else the environment."""
    environ = os.environ.get
    return Choice(
        name or environ("RECONCILE_NAME", ""),
        runtime_dir or environ("RECONCILE_RUNTIME_DIR", ""),
        state_dir or environ("RECONCILE_STATE_DIR", ""),
    )


# ---- where an instance is ------------------------------------------------------------------------


def place(chosen: Choice, head: Head, source: Source | None) -> Instance:
    """Return where the chosen instance is: the rule of all commands.

    Raises `Refused` when its name can be none, or its place belongs to somebody else.
    """
    from reconciler.specfile.source import instance_name

    runtime_dir = chosen.runtime_dir or head.runtime_dir or ""
    name = chosen.name or head.name or (instance_name(None, source) if source else "")
    name = name or os.path.basename(os.path.abspath(runtime_dir))
    if not re.fullmatch(_NAME, name):
        msg = f"{name!r} is not a valid instance name"
        raise Refused(msg, "at most 64 letters, digits, - and _, a letter or digit first")
    runtime_dir = runtime_dir or os.path.join(places.runtime_root(), name)
    state_dir = chosen.state_dir or head.state_dir or os.path.join(places.state_root(), name)
    return Instance(name, os.path.abspath(runtime_dir), os.path.abspath(state_dir))


# ---- what runs -----------------------------------------------------------------------------------


def running() -> list[Instance]:
    """Return the instances that run now and are ours or the system's, by name."""
    return [instance for instance in _instances() if is_running(instance)]


def _instances() -> list[Instance]:
    """Return those that have a control socket in the places where instances are."""
    found: dict[str, Instance] = {}
    chosen = choice()
    if chosen.runtime_dir and os.path.exists(os.path.join(chosen.runtime_dir, CONTROL_SOCKET)):
        instance = place(chosen, Head(), None)
        found[instance.runtime_dir] = instance
    for name, folder in _folders():
        instance = Instance(name, folder, os.path.join(places.state_root(), name))
        if os.path.exists(instance.control_socket):
            found.setdefault(folder, instance)
    for name in _listed(places.state_root()):
        state_dir = os.path.join(places.state_root(), name)
        last = read_manager_file(state_dir)
        if last is not None and os.path.exists(os.path.join(last.runtime_dir, CONTROL_SOCKET)):
            found.setdefault(last.runtime_dir, Instance(last.name, last.runtime_dir, state_dir))
    return sorted(found.values(), key=lambda each: (each.name, each.runtime_dir))


def _folders() -> Iterator[tuple[str, str]]:
    try:
        own = places.runtime_root()
    except Refused:
        own = places.SYSTEM_RUNTIME_ROOT
    for root in dict.fromkeys((own, places.SYSTEM_RUNTIME_ROOT)):
        for name in _listed(root):
            yield name, os.path.join(root, name)


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def of_others() -> list[tuple[Instance, str]]:
    """Return the instances that run in other users' places, with whose each is.

    Anybody may read which Unix sockets are listened on (proc_pid_net(5)), also those in folders that he
    may not enter. Of instances in places of somebody's own choice nothing is known here.
    """
    found = {}
    own = {folder for name, folder in _folders() if os.access(folder, os.X_OK)}
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        fields = line.split(None, 7)
        match = re.fullmatch(_KNOWN_PLACE, fields[7]) if len(fields) > 7 else None
        if match is not None and int(fields[3], 16) & _LISTENS:
            folder = os.path.dirname(match[0])
            if folder not in own:
                found[folder] = Instance(match[2], folder), _owner(match[1], folder)
    return [found[folder] for folder in sorted(found)]


def _owner(root: str, folder: str) -> str:
    for path in (folder, root):
        try:
            return user_name(os.stat(path, follow_symlinks=False).st_uid)
        except OSError:
            continue
    return "another user"


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has no account."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def is_running(instance: Instance) -> bool:
    """Tell whether somebody listens there.

    A file left over from a crash does not count, nor a controller that has not ended yet though its
    keeper is dead.
    """
    try:
        return _listener(instance) is not None
    except (BlockingIOError, PermissionError):
        return True  # The backlog is full, or it is not for us: so there is one.
    except OSError:
        return False


def listener(instance: Instance) -> tuple[int, int] | None:
    """Return pid and uid of the process that listens there, or None when nobody does."""
    try:
        return _listener(instance)
    except OSError:
        return None


def _listener(instance: Instance) -> tuple[int, int] | None:
    """Return the same, None for one that has ended. Raises `OSError` when it cannot be reached.

    The kernel notes them at listen(2) and translates the pid for us (unix(7), SO_PEERCRED); 0 is a
    process that this pid namespace does not see.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        probe.connect(instance.control_socket)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(credentials)
    return None if is_dead(pid) else (pid, uid)


def is_dead(pid: int, *, unseen: bool = False) -> bool:
    """Tell whether a process has ended; a zombie has, whoever is slow to collect it.

    `unseen` is the answer for one that we may not look at, and for 0, which is not seen from here.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except OSError:
        pass  # It has ended, or is hidden as those of others may be (proc(5), hidepid); kill(2) tells which.
    try:
        os.kill(pid, 0)  # of 0, which is all that are with us, there is one
    except OSError as error:
        return isinstance(error, ProcessLookupError) or unseen
    return unseen
