"""From a watcher's spec to the launch of one slot, and the hash that tells whether it is outdated.

The hash covers every field whose effect is `restart`, found by the declarations in `model.spec`, and the
identity of the sockets; never the values that the manager's environment lends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple, cast

from reconciler.core.limits import group_limits_here
from reconciler.model.digest import sha256
from reconciler.model.observed import Facts
from reconciler.model.process import (
    NOT_KNOWN,
    CaptureSink,
    DaemonSink,
    FileInput,
    FileSink,
    Launch,
    ManagerSink,
    NullSink,
    Owned,
    Sink,
    TerminalInput,
)
from reconciler.model.spec import (
    HookSpec,
    LimitsSpec,
    LogsSpec,
    Rlimit,
    SocketSpec,
    SoftHard,
    StderrSpec,
    StdinSpec,
    StdoutSpec,
    WatcherSpec,
    declared_fields,
    rlimits,
)
from reconciler.model.units import SLOT_PATTERN
from reconciler.model.value import Struct, replace, to_plain

FIRST_SOCKET_FD: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
ERR: Final = 3
INFO: Final = 6
"""Priorities of syslog(3)."""
NOT_OF_THE_RUN: Final = frozenset({"logs"})
"""Fields that make a service's process outdated, but give a job no new generation (jobs.md)."""

_PLACEHOLDER: Final = re.compile(
    rf"\$(?:\$|\{{{SLOT_PATTERN}\}}|\{{sockets\.(?P<socket>[^}}]*)\}})"
)


def expand(text: str, slot: int, descriptors: Mapping[str, int]) -> str:
    """Return template text for one slot: `${slot}`, `${slot+7999:02}`, `${sockets.NAME}` as descriptor number, `$$`."""

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["socket"] is not None:
            return str(descriptors[match["socket"]])
        return f"{slot + int(match['step'] or 0):0{match['width'] or 1}}"

    return _PLACEHOLDER.sub(put, text)


def run_hash(spec: WatcherSpec, sockets: Mapping[str, SocketSpec]) -> str:
    """Return the hash of all that makes a process of this watcher what it is."""
    fields = dict(_restart_fields(spec, ""))
    if spec.is_job:
        fields = {path: v for path, v in fields.items() if path.split(".")[0] not in NOT_OF_THE_RUN}
    used = [[name, socket_identity(sockets[name])] for name in sockets_of(spec)]
    # A plugin gets what others do not; who is none has no part of the hash for it.
    plugin = ["plugin"] if spec.access is not None else []
    text = json.dumps([fields, used, *plugin], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def with_secrets(base: str, digest: str) -> str:
    """Return the hash of a watcher with that of its secrets, empty when that is not known."""
    return f"{base}+{digest}" if digest else base


def with_files(base: str, digest: str) -> str:
    """Return the hash of a watcher with that of the files that it watches, empty when that is not known."""
    return f"{base}~{digest}" if digest else base


def slot_hash(base: str, token: str) -> str:
    """Return the hash of one slot: that of its watcher, and the operator's restarts of it."""
    return f"{base}.{token}" if token else base


def same_template(one: str, other: str) -> bool:
    """Tell whether two hashes are of the same template, whatever restarts an operator asked for.

    Secrets and watched files are compared where both say something of them: a controller that has not read them
    does not know.
    """
    return same_spec(one, other) and same_files(one, other)


def same_spec(one: str, other: str) -> bool:
    """Tell whether two hashes are of the same spec with the same secrets, whatever the files are that it watches."""
    if one == other:
        return True
    one_parts, other_parts = _parts_of(one), _parts_of(other)
    return one_parts.base == other_parts.base and _agree(one_parts.secrets, other_parts.secrets)


def same_files(one: str, other: str) -> bool:
    """Tell whether two hashes are of the same watched files, as far as they say something of them."""
    return one == other or _agree(_parts_of(one).files, _parts_of(other).files)


def same_but_secrets(one: str, other: str) -> bool:
    """Tell whether two hashes of a slot differ by nothing but secrets, if at all."""
    if one == other:
        return True
    one_parts, other_parts = _parts_of(one), _parts_of(other)
    same = one_parts.base == other_parts.base and one_parts.token == other_parts.token
    return same and _agree(one_parts.files, other_parts.files)


def same_but_files(one: str, other: str) -> bool:
    """Tell whether two hashes of a slot differ by nothing but the files that are watched, if at all."""
    return same_spec(one, other) and _parts_of(one).token == _parts_of(other).token


def same_slot(one: str, other: str) -> bool:
    """Tell whether two hashes of a slot are of the same template and of the same restart."""
    return one == other or (
        _parts_of(one).token == _parts_of(other).token and same_template(one, other)
    )


def files_of(hash: str) -> str:
    """Return the digest of the watched files that is part of a hash; empty: it says nothing of them."""
    return _parts_of(hash).files


class _HashParts(NamedTuple):
    base: str
    secrets: str
    files: str
    token: str


def _parts_of(hash: str) -> _HashParts:
    """Return what `with_secrets`, `with_files` and `slot_hash` have put together."""
    template, _, token = hash.partition(".")
    template, _, files = template.partition("~")
    base, _, secrets = template.partition("+")
    return _HashParts(base, secrets, files, token)


def _agree(one: str, other: str) -> bool:
    return not one or not other or one == other


def _restart_fields(value: object, prefix: str) -> Iterator[tuple[str, object]]:
    for part in _parts(cast("Hashable", type(value))):
        item = getattr(value, part.attribute)
        if item == part.default:
            for path, plain in part.of_default:
                yield f"{prefix}{path}", plain
        elif isinstance(item, Struct):
            yield from _restart_fields(item, f"{prefix}{part.name}.")
        elif part.restarts:
            yield f"{prefix}{part.name}", to_plain(_of_the_run(item))


def _of_the_run(item: object) -> object:
    """Return a value, of a map of blocks without what is applied in place in them."""
    if isinstance(item, Mapping) and all(isinstance(each, Struct) for each in item.values()):
        return {key: _at_defaults(each) for key, each in item.items()}
    return item


def _at_defaults(block: Struct) -> Struct:
    live = [each for each in declared_fields(type(block)) if each.about.effect == "live"]
    return replace(block, **{each.attribute: each.default for each in live})


def restarting(value: object) -> dict[str, object]:
    """Return what of a block makes a process another one, by name; of none nothing."""
    return dict(_restart_fields(value, "")) if isinstance(value, Struct) else {}


class _Part(Struct, frozen=True):
    """A field that may hold something of the hash: itself, or within the block that it is."""

    name: str
    attribute: str
    default: object
    restarts: bool
    of_default: tuple[tuple[str, object], ...]
    """What a block at its default gives: most blocks of most watchers are, and need no look inside."""


@cache
def _parts(cls: Hashable) -> tuple[_Part, ...]:
    found = []
    for declared in declared_fields(cast("type", cls)):
        if declared.name == "use_sockets":
            continue  # the sockets themselves are hashed, in their order
        inside: tuple[tuple[str, object], ...] = ()
        if isinstance(declared.default, Struct):
            inside = tuple(_restart_fields(declared.default, f"{declared.name}."))
        restarts = declared.about.effect == "restart"
        found.append(_Part(declared.name, declared.attribute, declared.default, restarts, inside))
    return tuple(found)


def socket_identity(socket: SocketSpec) -> list[object]:
    """Return what of a socket makes its users outdated: which one it is, and in which state it is handed over."""
    fields = declared_fields(type(socket))
    own = [getattr(socket, each.attribute) for each in fields if each.about.effect == "rebind"]
    # Only where they are not as usual, so that a field that joins replaces nobody.
    given = [
        [each.name, getattr(socket, each.attribute)]
        for each in fields
        if each.about.effect == "restart" and getattr(socket, each.attribute) != each.default
    ]
    return [*map(to_plain, own), *map(to_plain, given)]


def sockets_of(spec: WatcherSpec) -> tuple[str, ...]:
    """Return the names of all sockets a watcher gets, those from descriptor 3 on first."""
    assert isinstance(spec.use_sockets, tuple), "the loader resolves `true`"
    return (*spec.use_sockets, *([spec.stdin_socket] if spec.stdin_socket else []))


def told_sockets(spec: WatcherSpec) -> frozenset[str]:
    """Return the sockets that the process is told of as `${sockets.NAME}` in `cmd` or `env`.

    LISTEN_FDS is silent about them, and the loader puts them last: gunicorn, for one, fails over a
    descriptor that it is told of both ways.
    """
    return frozenset(
        name
        for text in spec.given_texts
        if "$" in text
        for match in _PLACEHOLDER.finditer(text)
        if (name := match["socket"])
    )


def held_name(name: str, slot: int, sockets: Mapping[str, SocketSpec]) -> str:
    """Return the keeper's name of a socket for one slot: its own with reuseport, else the shared one."""
    return f"{name}.{slot}" if sockets[name].reuseport else name


def launch(
    name: str, spec: WatcherSpec, slot: int, sockets: Mapping[str, SocketSpec], facts: Facts
) -> Launch:
    """Return everything the keeper needs to start the process of one slot."""
    descriptors = _descriptors(spec)
    argv = tuple(expand(word, slot, descriptors) for word in spec.cmd)
    if spec.shell:
        shell = spec.shell if isinstance(spec.shell, str) else "/bin/sh"
        argv = (shell, "-c", *argv)
    stdout, stderr = sinks(name, spec, slot, facts)
    assert isinstance(spec.use_sockets, tuple)
    return Launch(
        argv=argv,
        env=_environment(spec, slot) | _for_a_plugin(spec, facts),
        inherit_env=spec.inherit_env,
        path_prefix=_path_prefix(spec, slot),
        working_dir=_expanded(spec.working_dir, slot, descriptors),
        umask=spec.umask,
        user=spec.user,
        group=spec.group,
        limits=_limits(spec.limits),
        nice=spec.limits.nice,
        cpu_affinity=spec.limits.cpu_affinity,
        oom_score_adj=spec.limits.oom_score_adj,
        sockets=tuple(held_name(each, slot, sockets) for each in spec.use_sockets),
        announced=len(set(spec.use_sockets) - told_sockets(spec)),
        stdin_socket=held_name(spec.stdin_socket, slot, sockets) if spec.stdin_socket else None,
        stdin=_stdin(spec, slot),
        stdout=stdout,
        stderr=stderr,
        scope=spec.stop.scope,
        ask=spec.stop.ask,
        stop_signal=spec.stop.signal,
        stop_timeout_ns=spec.stop.timeout,
        notify=spec.is_heard,
        watchdog_ns=spec.watchdog,
        pid_file=pid_file(spec, slot),
        group_limits=group_limits_here(spec.limits, facts),
    )


def pid_file(spec: WatcherSpec, slot: int) -> str | None:
    """Return the file that names who goes on when the main process of a slot has ended; None: no file does."""
    return _expanded(spec.pid_file, slot, _descriptors(spec))


def _stdin(spec: WatcherSpec, slot: int) -> FileInput | TerminalInput | None:
    if isinstance(spec.stdin, StdinSpec):
        return FileInput(expand(spec.stdin.file, slot, _descriptors(spec)))
    return TerminalInput() if spec.stdin == "pty" else None


def helper_launch(
    name: str,
    spec: WatcherSpec,
    slot: int,
    argv: tuple[str, ...],
    env: dict[str, str],
    facts: Facts,
    timeout_ns: int,
) -> Launch:
    """Return the launch of user code beside a slot (hook, stop or reload command): same place, same user.

    It may take until `timeout_ns`, also when all ends.
    """
    return Launch(
        argv=argv,
        env=_environment(spec, slot) | env,
        inherit_env=spec.inherit_env,
        path_prefix=_path_prefix(spec, slot),
        working_dir=_expanded(spec.working_dir, slot, _descriptors(spec)),
        umask=spec.umask,
        user=spec.user,
        group=spec.group,
        stdout=CaptureSink(hooks_log(name, facts), owned=owned(spec.logs, facts)),
        stop_timeout_ns=timeout_ns,
    )


def hooks_log(name: str, facts: Facts) -> str:
    """Return the file that holds what user code beside the slots of a watcher writes."""
    return f"{facts.logs_dir}/{name}-hooks.log"


def helper_hash(spec: WatcherSpec, hook: HookSpec) -> str:
    """Return the hash of what a hook is, and of what it runs in: an edit of either is worth another try."""
    around = (spec.env, spec.inherit_env, spec.working_dir, spec.virtualenv, spec.user, spec.group)
    text = json.dumps(to_plain([hook, *around]), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def helper_argv(spec: WatcherSpec, command: tuple[str, ...], slot: int) -> tuple[str, ...]:
    """Return a helper's command for one slot."""
    return tuple(expand(word, slot, _descriptors(spec)) for word in command)


def _descriptors(spec: WatcherSpec) -> dict[str, int]:
    assert isinstance(spec.use_sockets, tuple)
    return {name: FIRST_SOCKET_FD + index for index, name in enumerate(spec.use_sockets)}


def _expanded(text: str | None, slot: int, descriptors: Mapping[str, int]) -> str | None:
    return None if text is None else expand(text, slot, descriptors)


def _environment(spec: WatcherSpec, slot: int) -> dict[str, str | None]:
    descriptors = _descriptors(spec)
    env = {key: _expanded(value, slot, descriptors) for key, value in spec.env.items()}
    if spec.virtualenv is not None:
        env["VIRTUAL_ENV"] = expand(spec.virtualenv, slot, descriptors)
    return env


def _for_a_plugin(spec: WatcherSpec, facts: Facts) -> dict[str, str]:
    """Return the variable by which a plugin finds its manager, the same as hooks get."""
    return {} if spec.access is None else {"RECONCILE_CONTROL_SOCKET": facts.control_socket}


def _path_prefix(spec: WatcherSpec, slot: int) -> tuple[str, ...]:
    return () if spec.virtualenv is None else (expand(spec.virtualenv, slot, {}) + "/bin",)


def _limits(limits: LimitsSpec) -> dict[str, tuple[int | None, int | None]]:
    found = {}
    for declared in rlimits():
        value: Rlimit | None = getattr(limits, declared.attribute)
        if value is None:
            continue
        soft, hard = (value.soft, value.hard) if isinstance(value, SoftHard) else (value, value)
        found[declared.name] = (_number(soft), _number(hard))
    return found


def _number(limit: int | str) -> int | None:
    return limit if isinstance(limit, int) else None


def sinks(name: str, spec: WatcherSpec, slot: int, facts: Facts) -> tuple[Sink, Sink | None]:
    """Return where the output of a slot goes; None as second joins standard error to standard output."""
    logs = spec.logs
    default = f"{facts.logs_dir}/{name}-{slot}.log"
    stdout = _sink(name, spec, slot, logs.stdout, facts, default)
    if logs.stderr.to == "stdout" or (logs.stderr.to is None and logs.stderr.file is None):
        return stdout, None
    return stdout, _sink(name, spec, slot, logs.stderr, facts, default)


def _sink(
    name: str,
    spec: WatcherSpec,
    slot: int,
    stream: StdoutSpec | StderrSpec,
    facts: Facts,
    default: str,
) -> Sink:
    logs = spec.logs
    if stream.to == "devnull":
        return NullSink()
    if stream.to == "manager":
        return ManagerSink(prefix=f"{name}.{slot} ", timestamps=logs.timestamps)
    if stream.to == "journal" or stream.to == "syslog":
        priority = ERR if isinstance(stream, StderrSpec) else INFO
        return DaemonSink(stream.to, facts.instance, name, slot, priority)
    path = default if stream.file is None else expand(stream.file, slot, _descriptors(spec))
    return FileSink(
        path,
        logs.timestamps,
        logs.max_size,
        logs.keep,
        logs.compress,
        logs.rotate or 0,
        owned(logs, facts),
    )


def owned(logs: LogsSpec, facts: Facts) -> Owned:
    """Return whose log files are, by their numbers."""
    return Owned(logs.mode, _id(logs.owner, facts.uids), _id(logs.group, facts.gids))


def names_owners(logs: LogsSpec) -> bool:
    """Tell whether somebody has to find out whose log files are."""
    return any(isinstance(each, str) and not each.isdecimal() for each in (logs.owner, logs.group))


def _id(account: str | int | None, known: Mapping[str, int]) -> int | None:
    if account is None:
        return None
    if isinstance(account, int) or account.isdecimal():
        return int(account)
    return known.get(account, NOT_KNOWN)


def log_paths(
    name: str, spec: WatcherSpec, slot: int, facts: Facts
) -> tuple[str | None, str | None]:
    """Return the files that hold a slot's output; None where it goes elsewhere or joins the other."""
    stdout, stderr = sinks(name, spec, slot, facts)
    return (
        stdout.path if isinstance(stdout, FileSink) else None,
        stderr.path if isinstance(stderr, FileSink) else None,
    )
