"""Who may ask for what. Who calls is known from the kernel, never from the message.

The owner of the instance and root may do everything; `daemon.access` of the spec in force says who else may
do what, and is asked for each request, so that an edit counts at once. Only numbers are compared. What users
and groups are called is asked in a background lane, since the answer may come over a network or never:
an entry whose name is not known (yet) lets nobody in.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, Literal, TypeAlias

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.event import Event
from reconciler.model.process import ProcessRecord, pid_of
from reconciler.model.spec import OVERFLOW_ID, AccessSpec, PluginAccess, Role, Spec
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Part, Struct, field, replace
from reconciler.system import procfs

Kind: TypeAlias = Literal["user", "group"]
Name: TypeAlias = tuple[Kind, str]
"""`user` or `group`, and what it is called."""

ROLES: Final[tuple[Role, ...]] = ("view", "operate", "admin")
"""Each may do all that those before it may."""
NAMES_STAY_FRESH_NS: Final = 60 * SECOND_NS
"""How long it is believed which numbers the names of `daemon.access` have."""
PATIENCE_NS: Final = 2 * SECOND_NS
"""A name that is not known after this is done without: its caller is shown as a number, its entry is shut."""
ALL_IDS: Final = 2**32 - 1
"""What a user namespace maps that knows every user: 4,294,967,295 is no one's number."""
MAX_NAMES: Final = 1000
"""Callers' names that are remembered."""
WINDOW_NS: Final = 60 * SECOND_NS
TOLD_PER_WINDOW: Final = 20
"""Denials told one by one, the first of each user; the others of a window are counted and told together."""
MAX_ANCESTORS: Final = 64
"""How far above a caller its plugin is looked for."""
CLOSED_MODE: Final = 0o600
OPEN_MODE: Final = 0o666
CLOSED_FOLDER: Final = 0o700
OPEN_FOLDER: Final = 0o711

_CREDENTIALS: Final = struct.Struct("3i")
_GROUP: Final = struct.Struct("I")
_SO_PEERGROUPS: Final = 59
"""Linux 4.13 and newer; Python has no name for it. The number is asm-generic's, sparc and parisc differ."""
_GROUPS_BYTES: Final = 1024
"""Python reads no longer options. A caller in more than 256 groups is known by its first group alone, as on
older kernels: it can be given a role as a user."""


# ---- callers --------------------------------------------------------------------------------------


class Peer(Struct, frozen=True):
    """Who is at the other end of a connection, as it was when it connected."""

    uid: int
    pid: int
    gids: frozenset[int]
    plugin: str = ""
    """Of which plugin it is a process, which counts instead of its user."""


def peer_of(connection: socket.socket) -> Peer:
    """Ask the kernel who has connected: SO_PEERCRED (unix(7)) and SO_PEERGROUPS. Raises `OSError`."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    more = b""
    with suppress(OSError):
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    return Peer(uid, pid, frozenset({gid, *(each[0] for each in _GROUP.iter_unpack(more))}))


# ---- what they may do -----------------------------------------------------------------------------


class Permit(Struct, frozen=True):
    """What a caller may do. `labels`: operates only watchers that have all of one of these; empty: all."""

    role: Role
    labels: tuple[Mapping[str, str], ...] = ()
    owns: bool = False
    """It is the user who runs the manager, or root: who may see in any case what its processes hold."""

    def includes(self, role: Role) -> bool:
        """Tell whether it covers what needs a role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a watcher with these labels may be operated."""
        return self.includes("operate") and (
            not self.labels
            or any(all(labels.get(k) == v for k, v in each.items()) for each in self.labels)
        )


class Strangers(Struct, frozen=True):
    """The uid and the gid that stand for whomever a user namespace does not know; None: it knows all.

    user_namespaces(7), "Unmapped user and group IDs".
    """

    uid: int | None
    gid: int | None


def strangers(proc: str = "/proc") -> Strangers:
    """Ask the kernel whether this user namespace knows all users and groups."""
    return Strangers(_overflow_id(proc, "uid"), _overflow_id(proc, "gid"))


def _overflow_id(proc: str, kind: str) -> int | None:
    try:
        with open(f"{proc}/self/{kind}_map") as file:
            known = sum(int(line.split()[2]) for line in file)
        if known >= ALL_IDS:
            return None
        with open(f"{proc}/sys/kernel/overflow{kind}") as file:
            return int(file.read())
    except (OSError, ValueError, IndexError):
        return OVERFLOW_ID


def permit_of(
    peer: Peer,
    owner: int,
    entries: Iterable[tuple[AccessSpec, int | None]],
    unknown: Strangers,
) -> Permit | None:
    """Return what a caller may do, None: nothing. Each entry comes with its uid or gid, None: unknown."""
    if peer.uid in {0, owner} - {unknown.uid}:
        return Permit("admin", owns=True)
    granted = [
        entry
        for entry, number in entries
        if number is not None
        and (
            number == peer.uid != unknown.uid
            if entry.user is not None
            else number in peer.gids - {unknown.gid}
        )
    ]
    if not granted:
        return None
    role = max((entry.role for entry in granted), key=ROLES.index)
    limits = [entry.labels for entry in granted if entry.role == "operate"]
    return Permit(role, tuple(limits) if role == "operate" and all(limits) else ())


def _permit_of_plugin(rights: PluginAccess) -> Permit:
    limited = rights.role == "operate" and rights.labels
    return Permit(rights.role, (rights.labels,) if limited else ())


# ---- in force -------------------------------------------------------------------------------------


class Access(Part):
    """The entries in force, and what callers, users and groups are called.

    `changed` is called when somebody may have got or lost a role.
    """

    config: Config
    reactor: Reactor
    lanes: Lanes
    tell: Callable[[Event], None]
    changed: Callable[[], None]
    mains: Callable[[str], Iterable[ProcessRecord]]
    """Gives the processes of a watcher's slots that live."""
    _plugins: Mapping[str, PluginAccess] = field(default_factory=dict)
    _owner: int = field(default_factory=os.geteuid)
    _strangers: Strangers = field(default_factory=strangers)
    _entries: tuple[AccessSpec, ...] = ()
    _doors: object = None
    """What the doors were set by."""
    _callers: dict[int, str] = field(default_factory=dict)
    _numbers: dict[Name, int | None] = field(default_factory=dict)
    _fresh_until_ns: int = 0
    _unknown: frozenset[Name] = field(default_factory=lambda: frozenset())
    _asked: set[int] = field(default_factory=set)
    """Callers that the thread has not answered for, so that one that hangs gathers no queue."""
    _waiting: dict[int | None, list[Callable[[], None]]] = field(default_factory=dict)
    _window_ends_ns: int = 0
    _told: set[int] = field(default_factory=set)
    """Who was told of in this window for a call that was denied."""
    _untold: int = 0

    def permit(self, peer: Peer) -> Permit | None:
        """Return what a caller may do just now, None: nothing at all."""
        if peer.plugin:
            rights = self._plugins.get(peer.plugin)
            return None if rights is None else _permit_of_plugin(rights)
        entries = ((each, self._number(each)) for each in self._entries)
        return permit_of(peer, self._owner, entries, self._strangers)

    def recognised(self, peer: Peer) -> Peer:
        """Return a caller that has just connected, with the plugin that it is a process of.

        The kernel says which process has called, and whose it was then. That number may be another's by now, as a
        stranger could arrange: so the process that has it must have the same user, who could act for the plugin
        anyhow. It counts for as long as the connection stands.
        """
        names = {pid_of(each.phase): name for name in self._plugins for each in self.mains(name)}
        pid, steps = peer.pid, 0
        while names and pid > 1 and steps < MAX_ANCESTORS:
            if pid in names:
                is_same = procfs.user(peer.pid) == peer.uid
                return replace(peer, plugin=names[pid]) if is_same else peer
            pid, steps = procfs.parent(pid), steps + 1
        return peer

    def who(self, peer: Peer) -> str:
        """Return who has called, for people: a plugin, or a user by name or number."""
        return f"plugin {peer.plugin}" if peer.plugin else self.name(peer.uid)

    def may_operate(self, peer: Peer) -> bool:
        """Tell whether somebody may do more than look: such ones are served first."""
        permit = self.permit(peer)
        return permit is not None and permit.includes("operate")

    def name(self, uid: int) -> str:
        """Return what a caller is called, or its number when that is not known."""
        return self._callers.get(uid, f"uid {uid}")

    def named(self, peer: Peer) -> str:
        """Return a caller for people, a user with name and number: `alice (uid 1000)`."""
        who, number = self.who(peer), f"uid {peer.uid}"
        return who if peer.plugin or who == number else f"{who} ({number})"

    def deny(self, peer: Peer, method: str, message: str) -> None:
        """Tell of a call that its caller may not make, or count it: who is denied in a loop shall fill no log."""
        now_ns = clock.now_ns()
        if now_ns >= self._window_ends_ns:
            self._tell_the_rest()
            self._window_ends_ns = now_ns + WINDOW_NS
            self._told = set()
        if peer.uid in self._told or len(self._told) >= TOLD_PER_WINDOW:
            self._untold += 1
            self.reactor.at(self, self._window_ends_ns, self._tell_the_rest)
            return
        self._told.add(peer.uid)
        details = {"who": self.who(peer), "uid": peer.uid, "pid": peer.pid, "method": method[:64]}
        self.tell(Event("access.denied", message, details=details))

    def _tell_the_rest(self) -> None:
        count, self._untold = self._untold, 0
        self.reactor.at(self, None, self._tell_the_rest)
        if count:
            calls = "1 more call was" if count == 1 else f"{count} more calls were"
            message = f"{calls} refused within {format_duration(WINDOW_NS)}"
            self.tell(Event("access.denied", message, details={"count": count}))

    def meet(self, peer: Peer, then: Callable[[], None]) -> None:
        """Call `then` once it is known who a caller is, or when that takes too long."""
        if peer.plugin:
            then()
            return
        named = self._names() if peer.uid not in {0, self._owner} else frozenset()
        is_stale = bool(named) and clock.now_ns() > self._fresh_until_ns
        if peer.uid in self._callers and not is_stale:
            then()
        else:
            self._find_out(peer.uid, then)

    def follow(self, spec: Spec) -> None:
        """Let the entries and the plugins of a spec count from now on, for connections that stand too."""
        daemon, watchers = spec.daemon, spec.watchers
        plugins = {name: each.access for name, each in watchers.items() if each.access is not None}
        # A plugin that runs as another user has to come in, and so the others are let in to be sent away.
        others = any(watchers[name].user is not None for name in plugins)
        is_open = bool(daemon.access) or others
        doors = (daemon.access, daemon.control.mode, is_open)
        if (self._doors, self._plugins) == (doors, plugins):
            return
        self._doors, self._plugins, self._entries = doors, plugins, daemon.access
        self._fresh_until_ns = 0
        self._numbers = {name: self._numbers.get(name) for name in self._names()}
        for trouble in set_doors(self.config, daemon.control.mode, is_open=is_open):
            self.tell(Event("access.failed", trouble))
        if self._numbers:
            self._find_out(None, self.changed)
        else:
            self.changed()

    def _names(self) -> frozenset[Name]:
        found = map(_account, self._entries)
        return frozenset((kind, name) for kind, name in found if isinstance(name, str))

    def _number(self, entry: AccessSpec) -> int | None:
        kind, account = _account(entry)
        return self._numbers.get((kind, account)) if isinstance(account, str) else account

    def _find_out(self, uid: int | None, then: Callable[[], None]) -> None:
        self._waiting.setdefault(uid, []).append(then)
        due_ns = clock.now_ns() + PATIENCE_NS
        self.reactor.at((self, uid), due_ns, lambda: self._go_on(uid))
        if uid in self._asked:
            return
        if uid is not None:
            self._asked.add(uid)
        names = self._names()
        self.lanes.run(
            "names",
            lambda: _look_up(uid, names),
            lambda found: self._learnt(uid, *found),
            lambda _: self._learnt(uid, None, {}),
        )

    def _learnt(
        self, uid: int | None, caller: str | None, numbers: Mapping[Name, int | None]
    ) -> None:
        names = self._names()
        if uid is not None:
            self._asked.discard(uid)
            self._callers[uid] = caller or f"uid {uid}"
            while len(self._callers) > MAX_NAMES:
                del self._callers[next(iter(self._callers))]
        self._numbers |= {name: id for name, id in numbers.items() if name in names}
        if names <= numbers.keys():
            self._fresh_until_ns = clock.now_ns() + NAMES_STAY_FRESH_NS
            self._tell_unknown(frozenset(n for n in names if numbers[n] is None))
        self._go_on(uid)

    def _tell_unknown(self, unknown: frozenset[Name]) -> None:
        for kind, name in sorted(unknown - self._unknown):
            message = f"daemon.access: there is no {kind} '{name}' on this machine; the entry has no effect"
            self.tell(Event("access.failed", message))
        self._unknown = unknown

    def _go_on(self, uid: int | None) -> None:
        self.reactor.at((self, uid), None, lambda: None)
        for then in self._waiting.pop(uid, ()):
            then()


def _account(entry: AccessSpec) -> tuple[Kind, str | int | None]:
    return ("group", entry.group) if entry.user is None else ("user", entry.user)


def _look_up(uid: int | None, names: frozenset[Name]) -> tuple[str | None, dict[Name, int | None]]:
    """Ask what a caller is called, and for numbers of users and groups; None: there are none of that name.

    The name service may take its time. Runs in a thread.
    """
    caller = None
    if uid is not None:
        with suppress(KeyError, OSError):
            caller = pwd.getpwuid(uid).pw_name
    return caller, {(kind, name): _number_of(kind, name) for kind, name in names}


def _number_of(kind: Kind, name: str) -> int | None:
    with suppress(KeyError, ValueError, OSError):
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    return None


# ---- doors ----------------------------------------------------------------------------------------


def set_doors(config: Config, mode: int | None, *, is_open: bool) -> list[str]:
    """Give the control socket and its folder the modes that a spec asks for; returns what is in the way.

    `mode` is what it says of the socket, None: by whether it is `is_open` to others than its owner.

    The keeper opens the socket to its owner alone, or as `daemon.control` says; others are let in from here
    on. A folder that was there before the manager may be shared with others: it is opened where it must be,
    and closed only when it has the mode that was given to it here.
    """
    if mode is None:
        mode = OPEN_MODE if is_open else CLOSED_MODE
    try:
        os.chmod(config.control_socket, mode)
        folder = stat.S_IMODE(os.stat(config.runtime_dir).st_mode)
        if mode & 0o077 and folder & 0o011 != 0o011:
            os.chmod(config.runtime_dir, folder | 0o011)
        elif not mode & 0o077 and folder == OPEN_FOLDER:
            os.chmod(config.runtime_dir, CLOSED_FOLDER)
        shut = _shut_folder(config.runtime_dir) if is_open else None
    except OSError as error:
        return [f"cannot set the mode of {error.filename}: {error.strerror}"]
    if shut is None:
        return []
    return [
        f"others cannot reach {config.control_socket}: {shut} is closed to them; try --runtime-dir"
    ]


def _shut_folder(path: str) -> str | None:
    """Return the folder above a path that others cannot pass through, None if they can."""
    above = os.path.dirname(os.path.realpath(path))
    if not os.stat(above).st_mode & stat.S_IXOTH:
        return above
    return None if above == "/" else _shut_folder(above)
