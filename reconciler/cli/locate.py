"""Which instance is meant, for every command in the same way, and who listens there.

An instance is a folder with `control.sock` in it. `place` says where the instance of given options,
environment and spec is: `up` puts it there, and all others look for it there. Options go before the
environment, that before the spec, that before the platform. `find` adds what only those need who look for
one that runs: a spec is known to its manager, so the one that answers is compared with the one that was
meant, and a manager that was started elsewhere (`up --name box`) is found by its spec or state folder.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.cli import places
from reconciler.cli.errors import CommandError, NoManager, Refused
from reconciler.cli.spec_head import Head, loaded_head, read_head
from reconciler.model.errors import RequestError
from reconciler.wire.manager_file import is_same_source, read_manager_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.specfile.source import Source

CONTROL_SOCKET: Final = "control.sock"
_ANSWER_S: Final = 2.0
"""How long a manager is asked who it is; one that does not answer is taken for the one that is meant."""
_CREDENTIALS = struct.Struct("iII")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LISTENS: Final = 0x10000
"""__SO_ACCEPTCON in the flags of /proc/net/unix."""
_KNOWN_PLACE = re.compile(
    r"(/run/reconcile|/run/user/[0-9]+/reconcile|/tmp/reconcile-[0-9]+)/([^/]+)/control\.sock"
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: its name and the folder of its control socket."""

    name: str
    runtime_dir: str
    state_dir: str = field(default="", compare=False)
    """Where its state is to be expected; empty: nobody knows."""
    remark: str = field(default="", compare=False)
    """Which one it is, in words, when nobody has chosen it."""

    @property
    def control_socket(self) -> str:
        """Return the path of the control socket."""
        return os.path.join(self.runtime_dir, CONTROL_SOCKET)


class Said(NamedTuple):
    """What options, or else the environment, say of the instance; empty is nothing."""

    name: str = ""
    runtime_dir: str = ""
    state_dir: str = ""


def said(
    name: str | None = None, runtime_dir: str | None = None, state_dir: str | None = None
) -> Said:
    """Return what is said by these options, else by the environment."""
    environ = os.environ.get
    return Said(
        name or environ("RECONCILE_NAME", ""),
        runtime_dir or environ("RECONCILE_RUNTIME_DIR", ""),
        state_dir or environ("RECONCILE_STATE_DIR", ""),
    )


# ---- where an instance is ------------------------------------------------------------------------


def place(given: Said, head: Head, source: Source | None) -> Instance:
    """Return where the instance is that is given so: the rule of all commands.

    Raises `Refused` when its name can be none, or its place belongs to somebody else.
    """
    from reconciler.specfile.source import instance_name

    runtime_dir = given.runtime_dir or head.runtime_dir or ""
    name = given.name or head.name or (instance_name(None, source) if source else "")
    name = name or os.path.basename(os.path.abspath(runtime_dir))
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is not a valid instance name"
        raise Refused(msg, "at most 64 letters, digits, - and _, a letter or digit first")
    runtime_dir = runtime_dir or os.path.join(places.runtime_root(), name)
    state_dir = given.state_dir or head.state_dir or os.path.join(places.state_root(), name)
    return Instance(name, os.path.abspath(runtime_dir), os.path.abspath(state_dir))


# ---- what runs -----------------------------------------------------------------------------------


def running() -> list[Instance]:
    """Return the instances that run now and are ours or the system's, by name."""
    return [instance for instance in _instances() if is_running(instance)]


def _instances() -> list[Instance]:
    """Return those that have a control socket in the places where instances are."""
    found: dict[str, Instance] = {}
    given = said()
    if given.runtime_dir and os.path.exists(os.path.join(given.runtime_dir, CONTROL_SOCKET)):
        instance = place(given, Head(), None)
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
        match = _KNOWN_PLACE.fullmatch(fields[7]) if len(fields) > 7 else None
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


class Answer(NamedTuple):
    """What a manager says of itself."""

    name: str
    source: tuple[str, ...]


def asked(instance: Instance) -> Answer | None:
    """Ask a manager who it is; None when it does not say, for whatever reason."""
    from reconciler.cli.client import Client

    try:
        with Client(instance=instance, timeout=_ANSWER_S) as client:
            answer = client.hello()
    except (CommandError, RequestError):
        return None
    return Answer(answer.name or instance.name, answer.source)


# ---- which one is meant --------------------------------------------------------------------------


def find(
    name: str | None = None,
    runtime_dir: str | None = None,
    state_dir: str | None = None,
    spec: Source | None = None,
    *,
    is_compared: bool = True,
) -> Instance:
    """Return the instance that is meant, running or not.

    `spec` is one that the command names, None looks for it in this folder and above. An instance that is
    found by its spec is asked whether it runs that spec, unless `is_compared` is False. Raises `Refused`
    when it runs another, and `NoManager` when nothing says which one is meant.
    """
    given = said(name, runtime_dir, state_dir)
    source = spec or _source_here()
    if given.runtime_dir:
        return place(given, read_head(source) if source is not None else Head(), source)
    if given.name:
        return _by_name(given, source)
    if source is not None:
        return _by_spec(given, source, is_compared=is_compared)
    if given.state_dir:
        last = read_manager_file(given.state_dir)
        if last is not None:
            return Instance(last.name, last.runtime_dir, os.path.abspath(given.state_dir))
    return _the_only_one()


def _by_name(given: Said, source: Source | None) -> Instance:
    """Return the one of this name that runs: where the spec here or the platform puts it, or was told to."""
    plain = place(given, Head(), source)
    for expected in (plain,) if source is None else _expected(given, source):
        if expected != plain and is_running(expected):
            answer = asked(expected)
            if answer is None or answer.name == given.name:
                return expected
        for instance in chain((plain,), _elsewhere(plain), _elsewhere(expected)):
            if is_running(instance):
                return instance
    return expected


def _by_spec(given: Said, source: Source, *, is_compared: bool) -> Instance:
    """Return the one that runs this spec. Raises `Refused` when there is another one in its place."""
    strangers = []
    for expected in _expected(given, source):
        for instance in chain((expected,), _elsewhere(expected)):
            if not is_running(instance):
                continue
            answer = asked(instance) if is_compared else None
            if answer is None or not answer.source or is_same_source(answer.source, source.paths):
                return instance
            strangers.append(other_spec(instance.name, answer.source, source.paths))
    elsewhere = started_otherwise(source)
    if elsewhere is None and strangers:
        raise strangers[0]
    return elsewhere or expected


def _expected(given: Said, source: Source) -> Iterator[Instance]:
    """Yield where the instance of a spec is by its first lines, and if need be by all that it says."""
    head = read_head(source)
    yield place(given, head, source)
    if not head.is_sure:
        from reconciler.cli import loading

        loaded = loading.load(source)
        if loaded.spec is not None:
            yield place(given, loaded_head(loaded.daemon()), source)


def _elsewhere(expected: Instance) -> Iterator[Instance]:
    """Yield other places of an instance: root's of the same name, where this user may have a role, and
    where whoever started it has put it."""
    folder = os.path.join(places.SYSTEM_RUNTIME_ROOT, expected.name)
    if os.geteuid() != 0 and os.access(folder, os.X_OK):
        yield Instance(expected.name, folder)
    last = read_manager_file(expected.state_dir)
    if last is not None and last.name == expected.name:
        yield Instance(last.name, last.runtime_dir, expected.state_dir)


def started_otherwise(source: Source) -> Instance | None:
    """Return the one instance that runs this spec under another name. Raises `NoManager` for several."""
    found = [
        instance
        for instance in running()
        if (answer := asked(instance)) is not None
        and answer.source
        and is_same_source(answer.source, source.paths)
    ]
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        msg = f"{len(found)} managers run {', '.join(source.paths)}: {names}"
        raise NoManager(msg, "choose one with --name NAME")
    if not found:
        return None
    (one,) = found
    remark = f"using {one.name}, the manager that runs {', '.join(source.paths)}"
    return Instance(one.name, one.runtime_dir, one.state_dir, remark)


def other_spec(name: str, runs: tuple[str, ...], meant: tuple[str, ...]) -> Refused:
    """Return the refusal of a command that is given in the folder of another spec than the manager's."""
    msg = f"{name} runs {', '.join(runs)}, not {', '.join(meant)}, the spec of this folder"
    hint = (
        f"give this spec a name of its own, with --name or daemon.name; "
        f"to reach the running manager: --name {name}"
    )
    return Refused(msg, hint)


def _the_only_one() -> Instance:
    found = running()
    if not found:
        msg = "no manager is running, and there is no spec in this folder or above it"
        raise NoManager(msg, "start one with: reconcile up SPEC")
    if len(found) > 1:
        msg = f"{len(found)} managers are running: {', '.join(one.name for one in found)}"
        raise NoManager(msg, "choose one with --name NAME")
    (one,) = found
    answer = asked(one)
    runs = f" ({', '.join(answer.source)})" if answer is not None and answer.source else ""
    remark = f"using {one.name}{runs}, the only running manager"
    return Instance(one.name, one.runtime_dir, one.state_dir, remark)


def _source_here() -> Source | None:
    from reconciler.specfile.source import Source, find_source

    try:
        found = find_source(None, places.working_dir())
    except Refused:
        return None  # this folder has been removed; whoever names an instance does not need it
    return found if isinstance(found, Source) else None
