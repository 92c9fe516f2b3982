"""Where instances live, and which one is meant.

An instance is a folder with `control.sock` in it. It is found by `--runtime-dir`, `--name`, their
environment variables, the spec in this folder or above it, or by being the only one that runs.

A command that only asks must not pay for the YAML parser. So the name of the spec's instance is
read with three regular expressions from its `daemon:` block, which is enough for the ways people
write it; whoever writes it another way says `--name`. Starting an instance always reads the whole
spec (`launch`).
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.cli.errors import NoManager, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.specfile.source import Source

CONTROL_SOCKET: Final = "control.sock"
SYSTEM_RUNTIME_ROOT: Final = "/run/reconcile"
SYSTEM_STATE_ROOT: Final = "/var/lib/reconcile"
_CREDENTIALS = struct.Struct("iII")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: its name and the folder of its control socket."""

    name: str
    runtime_dir: str

    @property
    def control_socket(self) -> str:
        """Return the path of the control socket."""
        return os.path.join(self.runtime_dir, CONTROL_SOCKET)


# ---- folders of the platform ---------------------------------------------------------------------


def runtime_root() -> str:
    """Return the folder that holds the runtime folders of this user's instances."""
    if os.geteuid() == 0:
        return SYSTEM_RUNTIME_ROOT
    import platformdirs  # 15 ms that only an ordinary user without --runtime-dir pays

    folder = platformdirs.user_runtime_dir()
    if _is_private(folder):
        return os.path.join(folder, "reconcile")
    # Anybody can make this folder before we do: `launch` checks whose it is before it uses it.
    return f"/tmp/reconcile-{os.geteuid()}"


def state_root() -> str:
    """Return the folder that holds the state folders of this user's instances."""
    if os.geteuid() == 0:
        return SYSTEM_STATE_ROOT
    import platformdirs

    return platformdirs.user_state_dir("reconcile")


def _is_private(folder: str) -> bool:
    """Tell whether the folder is ours alone, as the XDG specification wants of a runtime folder."""
    try:
        found = os.stat(folder, follow_symlinks=False)
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    )


# ---- what runs -----------------------------------------------------------------------------------


def instances() -> list[Instance]:
    """Return the instances that have a control socket in the places where instances are, by
    name."""
    roots = dict.fromkeys((runtime_root(), SYSTEM_RUNTIME_ROOT))
    found: dict[str, Instance] = {}
    given = os.environ.get("RECONCILE_RUNTIME_DIR")
    if given and os.path.exists(os.path.join(given, CONTROL_SOCKET)):
        instance = _at(given, os.environ.get("RECONCILE_NAME"))
        found[instance.name] = instance
    for root in roots:
        try:
            names = sorted(os.listdir(root))
        except OSError:
            continue
        for name in names:
            instance = Instance(name, os.path.join(root, name))
            if os.path.exists(instance.control_socket):
                found.setdefault(name, instance)
    return list(found.values())


def is_running(instance: Instance) -> bool:
    """Tell whether somebody listens there.

    A file left over from a crash does not count, nor a controller that has not ended yet though its
    keeper is dead.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(instance.control_socket)
        except BlockingIOError:
            return True  # The backlog is full, so there is one.
        except PermissionError:
            return True
        except OSError:
            return False
        return not _is_dead(_listener(probe)[0])


def listener(instance: Instance) -> tuple[int, int] | None:
    """Return pid and uid of the process that listens there, or None when nobody does.

    The kernel notes them at listen(2) and translates the pid for us (unix(7), SO_PEERCRED); 0 is a
    process that this pid namespace does not see.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(instance.control_socket)
        except OSError:
            return None
        pid, uid = _listener(probe)
    return None if _is_dead(pid) else (pid, uid)


def _listener(probe: socket.socket) -> tuple[int, int]:
    credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return pid, uid


def _is_dead(pid: int) -> bool:
    """Tell whether a process has ended; 0, which is not seen from here, has not."""
    if not pid:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except FileNotFoundError:
        return True
    except OSError:
        return False


def running() -> list[Instance]:
    """Return the instances that run now, by name."""
    return [instance for instance in instances() if is_running(instance)]


# ---- which one is meant --------------------------------------------------------------------------


def find(
    name: str | None = None, runtime_dir: str | None = None, spec: Source | None = None
) -> Instance:
    """Return the instance that is meant, running or not.

    Options go before the environment, that before the spec given, that before the spec in this
    folder or above, that before the only instance that runs. Raises `NoManager` when nothing says
    which one, with a list of what runs.
    """
    if runtime_dir:
        return _at(runtime_dir, name)
    if name:
        return named(name)
    environ_dir, environ_name = (
        os.environ.get("RECONCILE_RUNTIME_DIR"),
        os.environ.get("RECONCILE_NAME"),
    )
    if environ_dir:
        return _at(environ_dir, environ_name)
    if environ_name:
        return named(environ_name)
    source = spec or _source_here()
    if source is not None:
        return instance_of(source)
    found = running()
    if len(found) == 1:
        return found[0]
    if not found:
        msg = "no manager is running, and there is no spec in this folder or above it"
        raise NoManager(msg, "start one with: reconcile up SPEC")
    msg = f"{len(found)} managers are running: {', '.join(one.name for one in found)}"
    raise NoManager(msg, "say which one with --name NAME")


def _source_here() -> Source | None:
    from reconciler.specfile.source import Source, find_source

    found = find_source(None, os.getcwd())
    return found if isinstance(found, Source) else None


def named(name: str) -> Instance:
    """Return the instance of that name. Raises `Refused` when it can be no name."""
    if not _NAME.fullmatch(name):
        msg = f"cannot use the name {name!r}: it can be no instance's"
        raise Refused(msg, "at most 64 letters, digits, - and _, a letter or digit first")
    own = Instance(name, os.path.join(runtime_root(), name))
    system = Instance(name, os.path.join(SYSTEM_RUNTIME_ROOT, name))
    if not os.path.exists(own.control_socket) and os.path.exists(system.control_socket):
        return system
    return own


def _at(runtime_dir: str, name: str | None) -> Instance:
    folder = os.path.abspath(runtime_dir)
    return Instance(name or os.path.basename(folder), folder)


def instance_of(source: Source) -> Instance:
    """Return the instance that a spec belongs to, reading no more than its `daemon:` block."""
    from reconciler.specfile.source import instance_name, spec_files

    daemon = daemon_block(_texts(file for path in source.paths for file in spec_files(path)))
    name = instance_name(daemon.get("name"), source)
    runtime_dir = daemon.get("runtime_dir")
    if runtime_dir and runtime_dir.startswith("/"):
        return Instance(name, runtime_dir)
    return named(name)


def _texts(paths: Iterable[str]) -> Iterable[str]:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                yield file.read()
        except OSError:
            continue


_DAEMON_BLOCK = re.compile(
    r"^daemon:[ \t]*(?:#.*)?\n((?:[ \t]+.*\n|[ \t]*(?:#.*)?\n)+)", re.MULTILINE
)
_DAEMON_FLOW = re.compile(r"^daemon:[ \t]*\{(.*)\}[ \t]*(?:#.*)?$", re.MULTILINE)
_ENTRY = r"(?:^|[,\n])[ \t]*{key}:[ \t]+(\"[^\"\n]*\"|'[^'\n]*'|[^\s,#}}\"'][^,#}}\n]*)"


def daemon_block(texts: Iterable[str]) -> dict[str, str]:
    """Return `name` and `runtime_dir` of the `daemon:` block, as far as they are written in an
    ordinary way."""
    found: dict[str, str] = {}
    for text in texts:
        if "daemon:" not in text:
            continue
        match = _DAEMON_BLOCK.search(text + "\n") or _DAEMON_FLOW.search(text)
        if match is None:
            continue
        for key in ("name", "runtime_dir"):
            entry = re.search(_ENTRY.format(key=key), match[1])
            value = entry[1].strip().strip("\"'") if entry else ""
            if value and value != "null" and "$" not in value:
                found[key] = value
    return found
