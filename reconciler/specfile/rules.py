"""Rules that concern more than one field, or what no type can say.

They look at the data before it becomes a value, so that a mistake of a type hides none of these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeGuard

from reconciler.model.address import InternetAddress, UnixAddress, parse_address
from reconciler.model.spec import (
    MAX_ACCESS,
    OVERFLOW_ID,
    SocketSpec,
    WatcherSpec,
    rlimits,
)
from reconciler.model.units import (
    NAME_PATTERN,
    SECOND_NS,
    format_duration,
    parse_bytes,
    parse_duration_ns,
    parse_mode,
)
from reconciler.specfile import machine, notify_rules, probe_rules, rollout_rules
from reconciler.specfile.given import Given
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.mistakes import Mistakes, quoted
from reconciler.specfile.schedules import check_schedule
from reconciler.specfile.yaml_text import Entry, List, Map, Node

if TYPE_CHECKING:
    from reconciler.specfile.merge import Definition

JOB_FIELDS: Final = ("timeout", "schedule", "rerun_on", "overlap", "on_lost", "keep_runs")
SERVICE_FIELDS: Final = (
    *(
        "max_age",
        "max_age_variance",
        "on_demand",
        "ready",
        "health",
        "rollout",
        "watchdog",
        "pid_file",
    ),
)
_UNIX_FIELDS: Final = frozenset(("mode", "owner", "group"))
_INTERNET_FIELDS: Final = frozenset(("interface", "reuseport", "ipv6_only", "nodelay", "keepalive"))
_STREAM_FIELDS: Final = frozenset(("nodelay", "keepalive", "backlog"))
_GIVEN_TO_ALL: Final = frozenset(
    ("RECONCILE_INSTANCE", "RECONCILE_WATCHER", "RECONCILE_SLOT", "RECONCILE_ID")
)
"""The marks by which a process, and a later manager, knows whose it is."""
_RLIMITS: Final = frozenset(each.name for each in rlimits())
SERVICE_LIMITS: Final = ("max_memory", "max_cpu")
"""Limits at which a process is replaced."""
_SUPERVISOR_PRIORITY: Final = 999
MAX_SECRETS: Final = 256
"""Secrets of one watcher."""
MIN_REFRESH_NS: Final = 5 * SECOND_NS
"""So often a secret is read again at most: each reading is a command."""
_MAX_LIMIT: Final = 2**63 - 1
_MAX_ACCOUNT: Final = 2**32 - 2
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_RESERVED: Final = re.compile(r"hostname|watcher|slot(-\d.*)?")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of text: they have no place in names and words."""
_OWN_OUTPUT: Final = re.compile(
    r"/dev/(stdout|stderr|fd/[0-9]+|tty|console)|/proc/(self|1|thread-self)/fd/[0-9]+"
)
"""Where logs go in images for containers."""
_DAEMONS: Final = frozenset(("journal", "syslog"))
_SHELLS: Final = frozenset(("sh", "bash", "dash", "zsh", "ksh"))
_STARTERS: Final = frozenset(
    ("npm", "npx", "pnpm", "yarn", "timeout", "su", "sudo", "runuser", "flock", "script", "strace")
)
"""Programs that run another one and wait for it; env, nice, setpriv, chrt and the like become it."""
_EXEC: Final = re.compile(r"(?:^|[;&|\n(])\s*exec\s")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def check_names(entries: Mapping[str, Entry], where: str, kind: str, mistakes: Mistakes) -> None:
    """Check the names of watchers or sockets: their characters, and that no two differ by case only."""
    folded: dict[str, Entry] = {}
    for name, entry in entries.items():
        if not re.fullmatch(NAME_PATTERN, name) or name.endswith("\n"):
            message = f"{quoted(name)} cannot be the name of a {kind}"
            hint = "at most 64 of A-Z a-z 0-9 _ -, a letter or digit first"
            mistakes.at(entry.key, f"{where}.{_shown(name)}", message, hint)
            continue
        first = folded.setdefault(name.lower(), entry)
        if first is not entry:
            message = f"'{name}' differs from '{first.key.text}' by upper and lower case only"
            mistakes.at(entry.key, f"{where}.{name}", message, "rename one of them")


def _shown(name: str) -> str:
    return quoted(name)[1:-1]


def check_variables(entries: Mapping[str, Entry], mistakes: Mistakes) -> None:
    """Check the names of variables."""
    for name, entry in entries.items():
        has_meaning = bool(_RESERVED.fullmatch(name))
        if not _VARIABLE.fullmatch(name) or has_meaning or name.startswith("x-"):
            message = f"{quoted(name)} cannot be the name of a variable"
            hint = (
                "it has a meaning of its own"
                if has_meaning
                else "letters, digits, _ and -, a letter first"
            )
            mistakes.at(entry.key, f"vars.{_shown(name)}", message, hint)


def check_env_names(entries: Mapping[str, Entry], where: str, mistakes: Mistakes) -> None:
    """Check the names of environment variables, and that their values can be passed at all."""
    for name, entry in entries.items():
        if not name or "=" in name or _CONTROL.search(name):
            message = f"{quoted(name)} cannot be the name of an environment variable"
            mistakes.at(entry.key, f"{where}.{_shown(name)}", message)
        elif name in _GIVEN_TO_ALL:
            message = f"'{name}' is set by the manager for every process"
            mistakes.at(entry.key, f"{where}.{name}", message, "use another name")


def check_addresses(
    sockets: Mapping[str, SocketSpec | None], entries: Mapping[str, Entry], mistakes: Mistakes
) -> None:
    """Check that no two sockets want the same address."""
    taken: dict[tuple[object, ...], tuple[str, SocketSpec]] = {}
    for name, each in sockets.items():
        if each is None or (isinstance(each.listen, InternetAddress) and not each.listen.port):
            continue
        place = (each.listen, each.type, each.interface)
        first, other = taken.setdefault(place, (name, each))
        if first != name and not (each.reuseport and other.reuseport):
            message = f"{each.listen} is already the address of the socket '{first}'"
            hint = "a socket can be used by many watchers: remove one, or change its port"
            mistakes.at(entries[name].key, f"sockets.{name}.listen", message, hint)


def check_own_sockets(
    sockets: Mapping[str, SocketSpec | None],
    watchers: Mapping[str, WatcherSpec | None],
    entries: Mapping[str, Definition],
    mistakes: Mistakes,
) -> None:
    """Check that a socket of which each slot has its own is used by one watcher: whose would that of slot 1 be?"""
    users: dict[str, str] = {}
    for watcher, spec in watchers.items():
        names = spec.use_sockets if spec and isinstance(spec.use_sockets, tuple) else ()
        stdin = spec.stdin_socket if spec else None
        for name in dict.fromkeys((*names, *([stdin] if stdin else []))):
            socket = sockets.get(name)
            if socket is None or not socket.reuseport:
                continue
            first = users.setdefault(name, watcher)
            if first != watcher:
                message = (
                    f"the socket '{name}' has reuseport, one for each slot of a single watcher: "
                    f"'{first}' uses it already"
                )
                hint = f"give {watcher} a socket of its own, with reuseport and the same address"
                mistakes.at(entries[watcher].key, entries[watcher].where, message, hint)


def check_on_demand(
    sockets: Mapping[str, SocketSpec | None],
    watchers: Mapping[str, WatcherSpec | None],
    entries: Mapping[str, Definition],
    mistakes: Mistakes,
) -> None:
    """Check that what runs on demand has a socket at which a client can wait for it, and nobody else answers."""
    for watcher, spec in watchers.items():
        if spec is None or spec.demand is None or not isinstance(spec.use_sockets, tuple):
            continue
        names = (*spec.use_sockets, *([spec.stdin_socket] if spec.stdin_socket else []))
        entry, where = entries[watcher], f"{entries[watcher].where}.on_demand"
        own = entry.value.entries.get("on_demand") if isinstance(entry.value, Map) else None
        at = own.key if own is not None else entry.key  # it may come from `defaults`
        if not names:
            hint = "write sockets: {NAME: {listen: ...}} and use_sockets: [NAME]"
            mistakes.at(at, where, "a connection starts it, and it has no socket", hint)
        for name in dict.fromkeys(names):
            socket = sockets.get(name)
            if socket is not None and (socket.reuseport or socket.type == "dgram"):
                kind = (
                    "each slot has its own" if socket.reuseport else "datagrams are no connections"
                )
                message = f"no connection can be awaited at the socket '{name}': {kind}"
                hint = "leave reuseport out" if socket.reuseport else "leave on_demand out"
                mistakes.at(at, where, message, hint)


def check_socket(socket: Given) -> None:
    """Check a socket: which fields go with its address and its type."""
    data, written = socket.data, socket.node.entries
    try:
        address = parse_address(data.get("listen"))
    except ValueError:
        return
    _check_accounts(socket, "owner", "group")
    # False, and not the user 0, which is equal to it.
    own = [each for each in written if data.get(each) is not None and data[each] is not False]
    kind = data.get("type", "stream")
    if isinstance(address, UnixAddress):
        for name in _INTERNET_FIELDS.intersection(own):
            message = f"'{name}' has no meaning for a Unix socket"
            socket.out_of_place(name, message, "remove it")
    else:
        for name in _UNIX_FIELDS.intersection(own):
            message = f"'{name}' is for Unix sockets: {address} has no file"
            socket.out_of_place(name, message, "remove it, or listen: unix:/PATH")
        if kind == "seqpacket":
            hint = "write: type: stream, or listen: unix:/PATH"
            socket.wrong("type", "seqpacket is for Unix sockets", hint)
        if data.get("reuseport") is True and not address.port:
            message = "with reuseport, port 0 would give each process a port of its own"
            socket.out_of_place("reuseport", message, "write a port")
        if data.get("ipv6_only") is True and not address.is_v6:
            message = f"'ipv6_only' is for IPv6 addresses, not for {address}"
            socket.out_of_place("ipv6_only", message, "write: listen: '[::]:PORT'")
    if kind == "dgram":
        for name in _STREAM_FIELDS.intersection(own):
            socket.out_of_place(name, f"'{name}' has no meaning for type: dgram", "remove it")


def check_watcher(watcher: Given, own: Map, sockets: Mapping[str, object]) -> None:
    """Check a watcher, which is given with its defaults; `own` is what it says itself."""
    data = watcher.data
    _check_kind(watcher, own)
    hooks, limits = watcher.block("hooks"), watcher.block("limits")
    commands = [watcher, watcher.block("stop"), watcher.block("reload")]
    if hooks is not None:
        commands += map(hooks.block, hooks.data)
        _check_hooks(hooks)
    for each in commands:
        if each is not None:
            _check_command(each)
    ready, health = watcher.block("ready"), watcher.block("health")
    slots = rollout_rules.most_slots(watcher)
    probe_rules.check_ready(ready, slots)
    probe_rules.check_log(watcher)
    probe_rules.check_health(health, slots)
    for each in (ready, health):
        if each is not None:
            _check_command(each, "exec")
            _check_path(each, "unix")
    _check_shell(watcher)
    _check_sockets(watcher, sockets)
    _warn_of_starters(watcher, sockets)
    _check_backoff(watcher.block("backoff"))
    _check_ends(watcher)
    _check_logs(watcher.block("logs"))
    rollout_rules.check_rollout(watcher.block("rollout"))
    if limits is not None:
        _check_limits(limits, is_job=data.get("restart") == "never")
        _check_group_limits(limits, watcher.block("stop"))
    _check_secrets(watcher)
    _check_watch(watcher.block("watch"))
    _check_rights(watcher, own)
    _check_path(watcher, "working_dir")
    _check_path(watcher, "virtualenv")
    _check_path(watcher, "pid_file", "the path of a file")
    notify_rules.check_watcher(watcher)
    _check_text(watcher, "description")
    _check_accounts(watcher, "user", "group")
    _check_stdin(watcher)
    check_schedule(watcher, own)
    machine.check_watcher(watcher)
    if data.get("priority") == _SUPERVISOR_PRIORITY and watcher.says("priority"):
        message = "999 is the default of supervisor, where a lower priority starts first"
        watcher.warn("priority", message, "here a higher one starts first")
    if data.get("success_exit_codes") == [] and watcher.says("success_exit_codes"):
        message = "expected at least one exit code, found none"
        watcher.wrong("success_exit_codes", message, "write: [0]")


def _check_stdin(watcher: Given) -> None:
    given = watcher.says("stdin", "stdin_socket")
    if len(given) == 2:
        message = "'stdin' and 'stdin_socket' are given both"
        watcher.out_of_place("stdin", message, "keep one of them")
    block = watcher.block("stdin")
    if block is not None:
        _check_path(block, "file", "the path of a file")


def _check_kind(watcher: Given, own: Map) -> None:
    is_job = watcher.data.get("restart") == "never"
    for name in SERVICE_FIELDS if is_job else JOB_FIELDS:
        if name not in own.entries or watcher.data.get(name) is None:
            continue
        if is_job:
            message = f"'{name}' is for services: a one-shot job ends by itself"
            watcher.out_of_place(name, message, "remove it, or write timeout")
        else:
            message = f"'{name}' is for one-shot jobs"
            watcher.out_of_place(name, message, "write restart: never, or remove it")


def _check_command(block: Given, name: str = "cmd") -> None:
    words, at = block.data.get(name), block.node.get(name)
    if at is None or not _is_words(words):
        return
    if not words or not words[0].strip():
        block.wrong(name, "the command is empty", f"write: {name}: program argument ...")
        return
    for index, word in enumerate(words):
        place = at.items[index] if isinstance(at, List) and index < len(at.items) else at
        _check_characters(word, place, f"{block.where}.{name}", block.mistakes)


def _is_words(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _check_text(block: Given, name: str) -> None:
    text = block.text(name)
    if text:
        where = f"{block.where}.{name}"
        _check_characters(text, block.node.entries[name].value, where, block.mistakes)


def _check_characters(text: str, at: Node, where: str, mistakes: Mistakes) -> None:
    match = _CONTROL.search(text)
    if match is not None:
        what = (
            "a NUL character"
            if match[0] == "\0"
            else f"the control character U+{ord(match[0]):04X}"
        )
        mistakes.at(at, where, f"found {what}, which cannot be used here")


def _check_path(block: Given, name: str, wanted: str = "") -> None:
    """Check a path, if there is one; `wanted` says what it is of that must not be empty."""
    text = block.text(name)
    if text == "" and wanted:
        block.wrong(name, f"expected {wanted}, found nothing")
    if text is not None and text.startswith("~"):
        block.wrong(name, "'~' is for shells, not for paths", "write: ${env.HOME}/...")
    _check_text(block, name)


def _check_watch(watch: Given | None) -> None:
    """Check that something is watched, that globs are globs of paths below it, and warn of what is not there."""
    for name in ("paths", "ignore") if watch is not None else ():
        assert watch is not None
        texts, at = watch.data.get(name), watch.node.get(name)
        if not isinstance(texts, list) or not isinstance(at, List):
            continue
        if not texts and name == "paths":
            watch.wrong(name, "expected at least one path, found none", "leave watch out")
        for index, (text, item) in enumerate(zip(texts, at.items, strict=False)):
            if isinstance(text, str):
                where = f"{watch.where}.{name}[{index}]"
                _check_watched(text, item, where, watch.mistakes, is_path=name == "paths")


def _check_watched(text: str, at: Node, where: str, mistakes: Mistakes, *, is_path: bool) -> None:
    _check_characters(text, at, where, mistakes)
    if not text.strip("/") and (text != "/" or not is_path):
        mistakes.at(at, where, f"expected {'a path' if is_path else 'a glob'}, found nothing")
    elif is_path and text.startswith("~"):
        mistakes.at(at, where, "'~' is for shells, not for paths", "write: ${env.HOME}/...")
    elif is_path and ("*" in text or "?" in text) and not machine.is_there(text, at.file.folder):
        hint = "name the folder, and leave out with ignore what does not count"
        mistakes.at(at, where, "a path is not a glob", hint)
    elif is_path and not machine.is_there(text, at.file.folder):
        mistakes.warn(at, where, f"there is nothing at {text} on this machine")
    elif not is_path and text.startswith("!"):
        mistakes.at(
            at, where, "what is ignored cannot be taken back with '!'", "write narrower globs"
        )


def _check_one_of(block: Given, first: str, second: str) -> list[str]:
    """Check that not both of two fields are given, and return which are."""
    given = block.says(first, second)
    if len(given) == 2:
        message = f"'{first}' and '{second}' are given both"
        block.out_of_place(second, message, "keep one of them")
    return given


def _check_accounts(block: Given, *names: str) -> None:
    """Check users and groups, which are names or numbers."""
    for name in block.says(*names):
        account = block.data.get(name)
        if isinstance(account, int) and not 0 <= account <= _MAX_ACCOUNT:
            message = f"expected a name, or a number from 0 to {_MAX_ACCOUNT}, found '{account}'"
            block.wrong(name, message)
        elif account == "":
            block.wrong(name, "expected a name or a number, found nothing")
        elif isinstance(account, str):
            _check_text(block, name)
            _check_account_name(account, block, name)


def _check_account_name(account: str, block: Given, name: str) -> None:
    """Refuse what no name can hold: /etc/passwd is a list of fields with colons (passwd(5))."""
    user, colon, group = account.partition(":")
    if colon:
        message = f"{quoted(account)} is no name: a user and its group are two fields"
        block.wrong(name, message, f"write: user: {user}, group: {group}")
    elif re.search(r"[\s/]", account) or account.startswith("-"):
        message = f"expected the name of an account or a number, found {quoted(account)}"
        block.wrong(name, message)


def _check_limits(limits: Given, *, is_job: bool) -> None:
    for name in limits.says(*SERVICE_LIMITS) if is_job else ():
        message = (
            f"'{name}' is for services, whose processes are replaced at it: a one-shot job is not"
        )
        limits.out_of_place(name, message, "remove it")
    if limits.data.get("cpu_affinity") == [] and limits.says("cpu_affinity"):
        limits.wrong("cpu_affinity", "expected at least one processor, found none")
    for name in _RLIMITS.intersection(limits.node.entries):
        pair = limits.block(name)
        if pair is None:
            _amount(limits, name, limits.value(name))
            continue
        soft, hard = (_amount(pair, part, pair.data.get(part)) for part in ("soft", "hard"))
        if _is_whole(hard) and (soft == "unlimited" or (_is_whole(soft) and soft > hard)):
            message = f"the soft limit ({soft}) is above the hard limit ({hard})"
            limits.wrong(name, message, "soft is at most hard")


def _check_group_limits(limits: Given, stop: Given | None) -> None:
    scope = None if stop is None else stop.data.get("scope")
    if limits.block("cgroup") is not None and scope in {"process", "group"}:
        message = (
            f"only processes of stop.scope tree have a control group of their own, not of {scope}"
        )
        limits.out_of_place("cgroup", message, "remove it, or leave stop.scope out")


def _amount(block: Given, name: str, limit: object) -> object:
    """Return a limit as a number where it is a size with its unit, and check how much it is."""
    with suppress(ValueError):
        limit = parse_bytes(limit)
    if name in block.node.entries and _is_whole(limit) and not 0 <= limit <= _MAX_LIMIT:
        message = f"expected a whole number from 0 up, or unlimited, found '{limit}'"
        block.wrong(name, message)
    return limit


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_shell(watcher: Given) -> None:
    shell = watcher.data.get("shell")
    if shell not in (None, False) and isinstance(watcher.node.get("cmd"), List):
        message = "with shell: the command must be one text, found a list"
        watcher.wrong("cmd", message, "write the list as one line, or leave shell out")
    if isinstance(shell, str) and len(shell.split()) > 1:
        message = f"expected the name or path of a shell, found {quoted(shell)}"
        watcher.wrong("shell", message, f"write: shell: {shell.split()[0]}; -c is added")
    if shell == "":
        watcher.wrong("shell", "the shell is empty", "write: shell: true")


def _check_sockets(watcher: Given, sockets: Mapping[str, object]) -> None:
    wanted, at = watcher.data.get("use_sockets"), watcher.node.get("use_sockets")
    named: list[tuple[str, Node, str]] = []
    if isinstance(at, List) and isinstance(wanted, list):
        for index, (name, place) in enumerate(zip(wanted, at.items, strict=False)):
            where = f"{watcher.where}.use_sockets[{index}]"
            if isinstance(name, str) and any(name == other for other, _, _ in named):
                message = f"the socket '{name}' is named twice"
                watcher.mistakes.at(place, where, message)
            if isinstance(name, str):
                named.append((name, place, where))
    stdin, place_of_stdin = watcher.text("stdin_socket"), watcher.node.get("stdin_socket")
    if stdin is not None and place_of_stdin is not None:
        named.append((stdin, place_of_stdin, f"{watcher.where}.stdin_socket"))
    for name, place, where in named:
        if name not in sockets:
            message = f"there is no socket {quoted(name)}"
            hint = did_you_mean(name, sockets, what="sockets")
            watcher.mistakes.at(place, where, message, hint)


def _warn_of_starters(watcher: Given, sockets: Mapping[str, object]) -> None:
    """Warn where LISTEN_PID will be that of a shell or another starter, and the server takes no socket by it."""
    words, wanted = watcher.data.get("cmd"), watcher.data.get("use_sockets")
    if not _is_words(words) or not words or "cmd" not in watcher.node.entries:
        return
    starter = _starter(words, watcher.data.get("shell"))
    if not starter:
        return
    names = [*sockets] if wanted is True else wanted if isinstance(wanted, list) else []
    env = watcher.data.get("env")
    texts = [*words, *(map(str, env.values()) if isinstance(env, Mapping) else ())]
    untold = [n for n in names if not any(f"${{sockets.{n}}}" in text for text in texts)]
    if untold:
        message = (
            f"LISTEN_PID, by which a server takes {' and '.join(map(str, untold))}, is the process of {starter}, "
            "not of what it runs"
        )
        may_exec = starter in _SHELLS or starter == "the shell"
        begin = "begin the command with exec, or " if may_exec else ""
        watcher.warn("cmd", message, f"{begin}pass ${{sockets.{untold[0]}}}")


def _starter(words: Sequence[str], shell: object) -> str:
    """Return what runs a command as a child of its own (sh -c of Debian does so even for one), empty: nobody."""
    if shell not in (None, False, ""):
        return "" if _EXEC.search(words[0]) else "the shell"
    name = words[0].rpartition("/")[2]
    if name in _SHELLS and "-c" in words[1:-1]:
        return "" if _EXEC.search(words[words.index("-c") + 1]) else name
    return name if name in _STARTERS else ""


def _check_backoff(backoff: Given | None) -> None:
    factor = backoff.data.get("factor") if backoff is not None and backoff.says("factor") else None
    if backoff is None or not isinstance(factor, int | float) or isinstance(factor, bool):
        return
    if not 1 <= factor <= 1000:
        message = f"expected a number from 1 to 1000, found {quoted(str(factor))}"
        backoff.wrong("factor", message)


def _check_ends(watcher: Given) -> None:
    limit = watcher.block("max_restarts")
    if (
        limit is not None
        and limit.says("retry_in")
        and watcher.data.get("on_failure") == "shutdown"
    ):
        message = "with 'retry_in' a slot is never given up for good, which on_failure: shutdown waits for"
        limit.out_of_place("retry_in", message, "remove one of the two")


def _check_logs(logs: Given | None) -> None:
    if logs is None:
        return
    _check_accounts(logs, "owner", "group")
    if logs.says("mode"):
        _check_log_mode(logs)
    _warn_of_times_for_daemons(logs)
    for stream in (logs.block("stdout"), logs.block("stderr")):
        if stream is None:
            continue
        _check_one_of(stream, "file", "to")
        _check_path(stream, "file", "the path of a file")
        if stream.text("file") is not None:
            _check_log_file(stream)


def _warn_of_times_for_daemons(logs: Given) -> None:
    """Warn of times before lines where all lines go to a daemon, which has times of its own."""
    blocks = {name: logs.block(name) for name in ("stdout", "stderr")}
    to = {name: None if block is None else block.data.get("to") for name, block in blocks.items()}
    err = blocks["stderr"]
    joins = to["stderr"] in {None, "stdout"} and (err is None or err.data.get("file") is None)
    if to["stdout"] in _DAEMONS and (joins or to["stderr"] in _DAEMONS) and logs.says("timestamps"):
        message = f"{to['stdout']} has the time of each line itself: none is put before it"
        logs.warn("timestamps", message, "leave it out")


def _check_log_mode(logs: Given) -> None:
    """Check that the manager can open a log again, and that nothing but permissions is set."""
    try:
        mode = parse_mode(logs.data.get("mode"))
    except ValueError:
        return
    if mode & 0o600 != 0o600 or mode & ~0o777:
        message = f"expected permissions with which its owner reads and writes, found {mode:04o}"
        logs.wrong("mode", message, 'write: "0640"')


def _check_log_file(stream: Given) -> None:
    """Check that a log can be a file: devices, and what other tools take for the manager's own output, are none."""
    path = os.path.normpath(stream.text("file") or "")
    if path == os.devnull:
        stream.wrong("file", "a log is a file, not a device", "write: to: devnull")
    elif _OWN_OUTPUT.fullmatch(path):
        message = f"a log is a file: {path} would be the output of the manager"
        stream.wrong("file", message, "write: to: manager")
    elif path.startswith(("/dev/", "/proc/", "/sys/")) and not path.startswith("/dev/shm/"):
        message = f"a log is a file, and there can be none in {path[:5].rstrip('/')}"
        stream.wrong("file", message)
    elif "$" not in path:
        folder = stream.node.entries["file"].value.file.folder
        kind = machine.what_else(os.path.join(folder, path))
        if kind:
            stream.warn("file", f"a log is a file, and {path} is {kind} on this machine")


def _check_hooks(hooks: Given) -> None:
    for name, entry in hooks.node.entries.items():
        hook = hooks.block(name)
        if hook is None:
            continue
        if not _check_one_of(hook, "python", "cmd"):
            hint = "write python: package.module.function, or cmd: program"
            message = "a hook needs python or cmd, found neither"
            hooks.mistakes.at(entry.key, hook.where, message, hint)
        dotted = hook.text("python")
        if dotted is not None and not _DOTTED.fullmatch(dotted):
            colon = ", with a dot for the colon" if ":" in dotted else ""
            message = f"expected a dotted path, found {quoted(dotted)}"
            hook.wrong("python", message, f"write: package.module.function{colon}")


def _check_secrets(watcher: Given) -> None:
    """Check secrets: variables that can be, each with one place to come from."""
    secrets = watcher.block("secrets")
    if secrets is None:
        return
    entries = secrets.node.entries
    check_env_names(entries, secrets.where, watcher.mistakes)
    if len(entries) > MAX_SECRETS:
        message = f"a watcher can have {MAX_SECRETS} secrets, found {len(entries)}"
        watcher.wrong("secrets", message)
    for name, entry in entries.items():
        secret = secrets.block(name)
        if secret is None:
            continue
        if not _check_one_of(secret, "file", "cmd"):
            hint = "write file: PATH, or cmd: program; never the value itself"
            message = "a secret needs file or cmd, found neither"
            secret.mistakes.at(entry.key, secret.where, message, hint)
        if secret.says("refresh"):
            _check_refresh(secret)
        _check_path(secret, "file", "a path")
        _check_path(secret, "working_dir", "a path")
        _check_command(secret)


def _check_refresh(secret: Given) -> None:
    """Check that a command is read again, and not all the time."""
    if secret.says("file"):
        message = "'refresh' is for cmd: files are watched, and read again when they change"
        secret.out_of_place("refresh", message, "leave it out")
    with suppress(ValueError):
        if parse_duration_ns(secret.data.get("refresh")) < MIN_REFRESH_NS:
            secret.wrong("refresh", f"expected at least {format_duration(MIN_REFRESH_NS)}")


def check_daemon(daemon: Given) -> None:
    """Check the manager's block: a name that can be the name of a folder, paths that are paths."""
    name = daemon.text("name")
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        hint = "at most 64 of A-Z a-z 0-9 _ -, a letter or digit first"
        daemon.wrong("name", f"{quoted(name)} cannot be the name of an instance", hint)
    for field in ("state_dir", "runtime_dir", "cgroup"):
        _check_path(daemon, field, "the path of a folder")
    control = daemon.block("control")
    if control is not None:
        _check_accounts(control, "owner", "group")
    entries, at = daemon.data.get("access"), daemon.node.get("access")
    if isinstance(entries, list) and isinstance(at, List):
        if len(entries) > MAX_ACCESS:
            message = f"expected at most {MAX_ACCESS} entries, found {len(entries)}"
            daemon.wrong("access", message, "name groups instead of users")
        for index, (entry, place) in enumerate(zip(entries, at.items, strict=True)):
            if isinstance(entry, Mapping) and isinstance(place, Map):
                where = f"daemon.access[{index}]"
                _check_access(Given(entry, place, where, daemon.mistakes))


def _check_rights(watcher: Given, own: Map) -> None:
    """Check what a plugin may do, and that only plugins have rights of their own."""
    if not watcher.where.startswith("plugins."):
        if "access" in own.entries:
            message = "'access' is for plugins: other processes have the role of their user"
            hint = "write the watcher below plugins:, or daemon: {access: [...]}"
            watcher.out_of_place("access", message, hint)
        return
    access = watcher.block("access")
    if access is not None:
        _check_labels(access)


def _check_access(entry: Given) -> None:
    """Check one entry: whom it means, and whether what it limits can be limited."""
    _check_accounts(entry, "user", "group")
    given = entry.says("user", "group")
    if len(given) != 1:
        message = f"expected user or group, found {'both' if given else 'none of them'}"
        hint = "write one entry for each" if given else "write: {user: alice, role: view}"
        entry.mistakes.at(entry.node, entry.where, message, hint)
    for name in given:
        if entry.data.get(name) == OVERFLOW_ID:
            message = f"{OVERFLOW_ID} may be anybody whom this user namespace does not know"
            entry.wrong(name, message, "name a user or group of its own")
    _check_labels(entry)


def _check_labels(entry: Given) -> None:
    if entry.data.get("labels") and entry.data.get("role") != "operate":
        message = "'labels' limit what is operated, not who looks or who applies"
        entry.wrong("labels", message, "write role: operate, or remove labels")
