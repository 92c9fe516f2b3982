"""Rules that concern more than one field, or what no type can say.

They look at the data before it becomes a value, so that a mistake of a type hides none of these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeGuard

from reconciler.model.address import InternetAddress, UnixAddress, parse_address
from reconciler.model.spec import (
    MAX_ACCESS,
    OVERFLOW_ID,
    LimitsSpec,
    SocketSpec,
    WatcherSpec,
    declared_fields,
)
from reconciler.model.units import NAME_PATTERN, parse_bytes
from reconciler.specfile import machine
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.mistakes import Mistakes, quoted
from reconciler.specfile.yaml_text import Entry, List, Map, Node

JOB_FIELDS: Final = ("timeout", "rerun_on", "overlap", "on_lost", "keep_runs")
SERVICE_FIELDS: Final = ("max_age", "max_age_variance")
_UNIX_FIELDS: Final = ("mode", "owner", "group")
_INTERNET_FIELDS: Final = ("interface", "reuseport", "ipv6_only", "nodelay", "keepalive")
_STREAM_FIELDS: Final = ("nodelay", "keepalive", "backlog")
_GIVEN_TO_ALL: Final = frozenset(
    ("RECONCILE_INSTANCE", "RECONCILE_WATCHER", "RECONCILE_SLOT", "RECONCILE_ID")
)
"""The marks by which a process, and a later manager, knows whose it is."""
_RLIMITS: Final = frozenset(
    each.name
    for each in declared_fields(LimitsSpec)
    if each.name not in {"nice", "cpu_affinity", "oom_score_adj"}
)
_SUPERVISOR_PRIORITY: Final = 999
MAX_SECRETS: Final = 256
"""Secrets of one watcher."""
_MAX_LIMIT: Final = 2**63 - 1
_MAX_ACCOUNT: Final = 2**32 - 2
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_RESERVED: Final = frozenset(("slot", "watcher"))
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of text: they have no place in names and words."""
_OWN_OUTPUT: Final = re.compile(
    r"/dev/(stdout|stderr|fd/[0-9]+|tty|console)|/proc/(self|1|thread-self)/fd/[0-9]+"
)
"""Where logs go in images for containers."""
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
        if not _VARIABLE.fullmatch(name) or name in _RESERVED or name.startswith("x-"):
            message = f"{quoted(name)} cannot be the name of a variable"
            hint = (
                "it has a meaning of its own"
                if name in _RESERVED
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
    entries: Mapping[str, Entry],
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
                mistakes.at(entries[watcher].key, f"watchers.{watcher}", message, hint)


def check_socket(data: Mapping[str, object], node: Map, where: str, mistakes: Mistakes) -> None:
    """Check a socket: which fields go with its address and its type."""
    try:
        address = parse_address(data.get("listen"))
    except ValueError:
        return
    own = node.entries
    _check_accounts(data, node, ("owner", "group"), where, mistakes)
    kind = data.get("type", "stream")
    if isinstance(address, UnixAddress):
        for name in _INTERNET_FIELDS:
            if name in own and data.get(name) not in (None, False):
                mistakes.at(
                    own[name].key,
                    f"{where}.{name}",
                    f"'{name}' has no meaning for a Unix socket",
                    "remove it",
                )
    else:
        for name in _UNIX_FIELDS:
            if name in own and data.get(name) is not None:
                message = f"'{name}' is for Unix sockets: {address} has no file"
                mistakes.at(
                    own[name].key, f"{where}.{name}", message, "remove it, or listen: unix:/PATH"
                )
        if kind == "seqpacket":
            message = "seqpacket is for Unix sockets"
            mistakes.at(
                own["type"].value,
                f"{where}.type",
                message,
                "write: type: stream, or listen: unix:/PATH",
            )
        if data.get("reuseport") is True and not address.port:
            message = "with reuseport, port 0 would give each process a port of its own"
            mistakes.at(own["reuseport"].key, f"{where}.reuseport", message, "write a port")
        if data.get("ipv6_only") is True and not address.is_v6:
            message = f"'ipv6_only' is for IPv6 addresses, not for {address}"
            mistakes.at(
                own["ipv6_only"].key, f"{where}.ipv6_only", message, "write: listen: '[::]:PORT'"
            )
    if kind == "dgram":
        for name in _STREAM_FIELDS:
            if name in own and data.get(name) not in (None, False):
                mistakes.at(
                    own[name].key,
                    f"{where}.{name}",
                    f"'{name}' has no meaning for type: dgram",
                    "remove it",
                )


def check_watcher(
    data: Mapping[str, object],
    node: Map,
    own: Map,
    sockets: Mapping[str, object],
    where: str,
    mistakes: Mistakes,
) -> None:
    """Check a watcher. `node` is the watcher with its defaults, `own` what it says itself."""
    _check_kind(data, own, where, mistakes)
    for path, command, at in _commands(data, node):
        _check_command(command, at, f"{where}.{path}", mistakes)
    _check_shell(data, node, where, mistakes)
    _check_sockets(data, node, sockets, where, mistakes)
    _warn_of_starters(data, node, sockets, where, mistakes)
    backoff = node.get("backoff")
    if isinstance(backoff, Map):
        _check_backoff(data.get("backoff"), backoff, f"{where}.backoff", mistakes)
    _check_streams(data, node, where, mistakes)
    hooks = node.get("hooks")
    if isinstance(hooks, Map):
        _check_hooks(data.get("hooks"), hooks, f"{where}.hooks", mistakes)
    limits = node.get("limits")
    if isinstance(limits, Map):
        _check_limits(data.get("limits"), limits, f"{where}.limits", mistakes)
    secrets = node.get("secrets")
    if isinstance(secrets, Map):
        check_secrets(data.get("secrets"), secrets, f"{where}.secrets", mistakes)
    for name in ("working_dir", "virtualenv", "description"):
        text, at_node = data.get(name), node.get(name)
        if isinstance(text, str) and at_node is not None:
            check = _check_text if name == "description" else _check_path
            check(text, at_node, f"{where}.{name}", mistakes)
    _check_accounts(data, node, ("user", "group"), where, mistakes)
    machine.check_watcher(data, node, where, mistakes)
    priority = node.get("priority")
    if data.get("priority") == _SUPERVISOR_PRIORITY and priority is not None:
        message = "999 is the default of supervisor, where a lower priority starts first"
        mistakes.warn(priority, f"{where}.priority", message, "here a higher one starts first")
    codes = node.get("success_exit_codes")
    if data.get("success_exit_codes") == [] and codes is not None:
        message = "expected at least one exit code, found none"
        mistakes.at(codes, f"{where}.success_exit_codes", message, "write: [0]")


def _check_kind(data: Mapping[str, object], own: Map, where: str, mistakes: Mistakes) -> None:
    is_job = data.get("restart") == "never"
    for name in SERVICE_FIELDS if is_job else JOB_FIELDS:
        entry = own.entries.get(name)
        if entry is None or data.get(name) is None:
            continue
        if is_job:
            message, hint = (
                f"'{name}' is for services: a one-shot job ends by itself",
                "remove it, or write timeout",
            )
        else:
            message, hint = f"'{name}' is for one-shot jobs", "write restart: never, or remove it"
        mistakes.at(entry.key, f"{where}.{name}", message, hint)


def _commands(data: Mapping[str, object], node: Map) -> Iterator[tuple[str, list[str], Node]]:
    """Yield each command of a watcher with its path and its node."""
    blocks: list[tuple[str, object, Node | None]] = [("", data, node)]
    blocks += [(f"{name}.", data.get(name), node.get(name)) for name in ("stop", "reload")]
    hooks, hooks_node = data.get("hooks"), node.get("hooks")
    if isinstance(hooks, Mapping) and isinstance(hooks_node, Map):
        blocks += [(f"hooks.{name}.", each, hooks_node.get(name)) for name, each in hooks.items()]
    for path, block, at in blocks:
        if not isinstance(block, Mapping) or not isinstance(at, Map):
            continue
        words, place = block.get("cmd"), at.get("cmd")
        if (
            isinstance(words, list)
            and place is not None
            and all(isinstance(word, str) for word in words)
        ):
            yield f"{path}cmd", words, place


def _check_command(words: list[str], at: Node, where: str, mistakes: Mistakes) -> None:
    if not words or not words[0].strip():
        mistakes.at(at, where, "the command is empty", "write: cmd: program argument ...")
        return
    for index, word in enumerate(words):
        place = at.items[index] if isinstance(at, List) and index < len(at.items) else at
        _check_text(word, place, where, mistakes)


def _check_text(text: str, at: Node, where: str, mistakes: Mistakes) -> None:
    match = _CONTROL.search(text)
    if match is not None:
        what = (
            "a NUL character"
            if match[0] == "\0"
            else f"the control character U+{ord(match[0]):04X}"
        )
        mistakes.at(at, where, f"found {what}, which cannot be used here")


def _check_path(text: str, at: Node, where: str, mistakes: Mistakes) -> None:
    if text.startswith("~"):
        mistakes.at(at, where, "'~' is for shells, not for paths", "write: ${env.HOME}/...")
    _check_text(text, at, where, mistakes)


def _check_accounts(
    data: Mapping[str, object], node: Map, names: Sequence[str], where: str, mistakes: Mistakes
) -> None:
    """Check users and groups, which are names or numbers."""
    for name in names:
        account, at = data.get(name), node.get(name)
        if at is None or isinstance(account, bool):
            continue
        if isinstance(account, int) and not 0 <= account <= _MAX_ACCOUNT:
            message = f"expected a name, or a number from 0 to {_MAX_ACCOUNT}, found '{account}'"
            mistakes.at(at, f"{where}.{name}", message)
        elif isinstance(account, str) and not account:
            mistakes.at(at, f"{where}.{name}", "expected a name or a number, found nothing")
        elif isinstance(account, str):
            _check_text(account, at, f"{where}.{name}", mistakes)
            _check_account_name(account, at, f"{where}.{name}", mistakes)


def _check_account_name(account: str, at: Node, where: str, mistakes: Mistakes) -> None:
    """Refuse what no name can hold: /etc/passwd is a list of fields with colons (passwd(5))."""
    user, colon, group = account.partition(":")
    if colon:
        message = f"{quoted(account)} is no name: a user and its group are two fields"
        mistakes.at(at, where, message, f"write: user: {user}, group: {group}")
    elif re.search(r"[\s/]", account) or account.startswith("-"):
        message = f"expected the name of an account or a number, found {quoted(account)}"
        mistakes.at(at, where, message)


def _check_limits(data: object, node: Map, where: str, mistakes: Mistakes) -> None:
    if not isinstance(data, Mapping):
        return
    for name, entry in node.entries.items():
        limit = data.get(name, data.get(f"{name}_"))
        if name == "cpu_affinity" and limit == []:
            message = "expected at least one processor, found none"
            mistakes.at(entry.value, f"{where}.{name}", message)
        if name not in _RLIMITS:
            continue
        pair = isinstance(limit, Mapping) and isinstance(entry.value, Map)
        values = dict(limit) if isinstance(limit, Mapping) and pair else {"": limit}
        for part, value in list(values.items()):
            at = entry.value.get(part) if isinstance(entry.value, Map) else entry.value
            path = f"{where}.{name}" + (f".{part}" if part else "")
            values[part] = value = _amount(value)
            if at is not None and _is_whole(value) and not 0 <= value <= _MAX_LIMIT:
                message = f"expected a whole number from 0 up, or unlimited, found '{value}'"
                mistakes.at(at, path, message)
        soft, hard = values.get("soft"), values.get("hard")
        if _is_whole(hard) and (soft == "unlimited" or (_is_whole(soft) and soft > hard)):
            message = f"the soft limit ({soft}) is above the hard limit ({hard})"
            mistakes.at(entry.value, f"{where}.{name}", message, "soft is at most hard")


def _amount(value: object) -> object:
    """Return a limit as a number where it is a size with its unit."""
    try:
        return parse_bytes(value)
    except ValueError:
        return value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_shell(data: Mapping[str, object], node: Map, where: str, mistakes: Mistakes) -> None:
    shell, command = data.get("shell"), node.get("cmd")
    if shell not in (None, False) and isinstance(command, List):
        message = "with shell: the command must be one text, found a list"
        mistakes.at(
            command, f"{where}.cmd", message, "write the list as one line, or leave shell out"
        )
    if isinstance(shell, str) and len(shell.split()) > 1:
        message = f"expected the name or path of a shell, found {quoted(shell)}"
        hint = f"write: shell: {shell.split()[0]}; -c is added"
        mistakes.at(node.entries["shell"].value, f"{where}.shell", message, hint)
    if shell == "":
        mistakes.at(
            node.entries["shell"].value,
            f"{where}.shell",
            "the shell is empty",
            "write: shell: true",
        )


def _check_sockets(
    data: Mapping[str, object],
    node: Map,
    sockets: Mapping[str, object],
    where: str,
    mistakes: Mistakes,
) -> None:
    wanted, at = data.get("use_sockets"), node.get("use_sockets")
    seen: set[str] = set()
    if isinstance(at, List) and isinstance(wanted, list):
        for index, (name, place) in enumerate(zip(wanted, at.items, strict=False)):
            if isinstance(name, str):
                _check_socket_exists(
                    name, place, sockets, f"{where}.use_sockets[{index}]", mistakes
                )
                if name in seen:
                    mistakes.at(
                        place,
                        f"{where}.use_sockets[{index}]",
                        f"the socket '{name}' is named twice",
                    )
                seen.add(name)
    stdin, place_of_stdin = data.get("stdin_socket"), node.get("stdin_socket")
    if isinstance(stdin, str) and place_of_stdin is not None:
        _check_socket_exists(stdin, place_of_stdin, sockets, f"{where}.stdin_socket", mistakes)


def _warn_of_starters(
    data: Mapping[str, object],
    node: Map,
    sockets: Mapping[str, object],
    where: str,
    mistakes: Mistakes,
) -> None:
    """Warn where LISTEN_PID will be that of a shell or another starter, and the server takes no socket by it."""
    words, at, wanted = data.get("cmd"), node.get("cmd"), data.get("use_sockets")
    if not isinstance(words, list) or at is None or not all(isinstance(w, str) for w in words):
        return
    names = [*sockets] if wanted is True else wanted if isinstance(wanted, list) else []
    env = data.get("env")
    texts = [*words, *(map(str, env.values()) if isinstance(env, Mapping) else ())]
    untold = [n for n in names if not any(f"${{sockets.{n}}}" in text for text in texts)]
    starter = _starter(words, data.get("shell"))
    if untold and starter:
        message = (
            f"LISTEN_PID, by which a server takes {' and '.join(map(str, untold))}, is the process of {starter}, "
            "not of what it runs"
        )
        begin = (
            "begin the command with exec, or "
            if starter in _SHELLS or starter == "the shell"
            else ""
        )
        mistakes.warn(at, f"{where}.cmd", message, f"{begin}pass ${{sockets.{untold[0]}}}")


def _starter(words: Sequence[str], shell: object) -> str:
    """Return what runs a command as a child of its own (sh -c of Debian does so even for one), empty: nobody."""
    if shell not in (None, False, ""):
        return "" if _EXEC.search(words[0]) else "the shell"
    name = words[0].rpartition("/")[2] if words else ""
    if name in _SHELLS and "-c" in words[1:-1]:
        return "" if _EXEC.search(words[words.index("-c") + 1]) else name
    return name if name in _STARTERS else ""


def _check_socket_exists(
    name: str, at: Node, sockets: Mapping[str, object], where: str, mistakes: Mistakes
) -> None:
    if name not in sockets:
        mistakes.at(
            at,
            where,
            f"there is no socket {quoted(name)}",
            did_you_mean(name, sockets, what="sockets"),
        )


def _check_backoff(data: object, node: Map, where: str, mistakes: Mistakes) -> None:
    factor = data.get("factor") if isinstance(data, Mapping) else None
    at = node.get("factor")
    if at is None or not isinstance(factor, int | float) or isinstance(factor, bool):
        return
    if not 1 <= factor <= 1000:
        message = f"expected a number from 1 to 1000, found {quoted(str(factor))}"
        mistakes.at(at, f"{where}.factor", message)


def _check_streams(data: Mapping[str, object], node: Map, where: str, mistakes: Mistakes) -> None:
    logs, at = data.get("logs"), node.get("logs")
    if not isinstance(logs, Mapping) or not isinstance(at, Map):
        return
    for name in ("stdout", "stderr"):
        stream, place = logs.get(name), at.get(name)
        if not isinstance(stream, Mapping) or not isinstance(place, Map):
            continue
        path = f"{where}.logs.{name}"
        if stream.get("file") is not None and stream.get("to") is not None:
            mistakes.at(
                place.entries["to"].key,
                f"{path}.to",
                "'file' and 'to' are given both",
                "keep one of them",
            )
        file, file_at = stream.get("file"), place.get("file")
        if isinstance(file, str) and file_at is not None:
            if not file:
                mistakes.at(file_at, f"{path}.file", "expected the path of a file, found nothing")
            _check_path(file, file_at, f"{path}.file", mistakes)
            _check_log_file(file, file_at, f"{path}.file", mistakes)


def _check_log_file(file: str, at: Node, where: str, mistakes: Mistakes) -> None:
    """Check that a log can be a file: devices, and what other tools take for the manager's own output, are none."""
    path = os.path.normpath(file)
    if path == os.devnull:
        mistakes.at(at, where, "a log is a file, not a device", "write: to: devnull")
    elif _OWN_OUTPUT.fullmatch(path):
        message = f"a log is a file: {path} would be the output of the manager"
        mistakes.at(at, where, message, "write: to: manager")
    elif path.startswith(("/dev/", "/proc/", "/sys/")) and not path.startswith("/dev/shm/"):
        mistakes.at(at, where, f"a log is a file, and there can be none in {path[:5].rstrip('/')}")
    elif "$" not in path and (kind := machine.what_else(os.path.join(at.file.folder, path))):
        mistakes.warn(at, where, f"a log is a file, and {path} is {kind} on this machine")


def _check_hooks(data: object, node: Map, where: str, mistakes: Mistakes) -> None:
    if not isinstance(data, Mapping):
        return
    for name, entry in node.entries.items():
        hook = data.get(name)
        if not isinstance(hook, Mapping) or not isinstance(entry.value, Map):
            continue
        given = [
            each
            for each in ("python", "cmd")
            if entry.value.get(each) is not None and hook.get(each, "") is not None
        ]
        path = f"{where}.{name}"
        if not given:
            hint = "write python: package.module.function, or cmd: program"
            mistakes.at(entry.key, path, "a hook needs python or cmd, found neither", hint)
        elif len(given) == 2:
            mistakes.at(
                entry.value.entries["cmd"].key,
                f"{path}.cmd",
                "'python' and 'cmd' are given both",
                "keep one of them",
            )
        dotted, at = hook.get("python"), entry.value.get("python")
        if isinstance(dotted, str) and at is not None and not _DOTTED.fullmatch(dotted):
            message = f"expected a dotted path, found {quoted(dotted)}"
            hint = "write: package.module.function" + (
                ", with a dot for the colon" if ":" in dotted else ""
            )
            mistakes.at(at, f"{path}.python", message, hint)


def check_secrets(data: object, node: Map, where: str, mistakes: Mistakes) -> None:
    """Check secrets: variables that can be, each with one place to come from."""
    check_env_names(node.entries, where, mistakes)
    if len(node.entries) > MAX_SECRETS:
        message = f"a watcher can have {MAX_SECRETS} secrets, found {len(node.entries)}"
        mistakes.at(node, where, message)
    for name, entry in node.entries.items():
        secret, path = data.get(name) if isinstance(data, Mapping) else None, f"{where}.{name}"
        if not isinstance(entry.value, Map) or not isinstance(secret, Mapping):
            continue
        given = [each for each in ("file", "cmd") if secret.get(each) is not None]
        if not given and not {"file", "cmd"} & entry.value.entries.keys():
            hint = "write file: PATH, or cmd: program; never the value itself"
            mistakes.at(entry.key, path, "a secret needs file or cmd, found neither", hint)
        elif len(given) == 2:
            at = entry.value.entries["cmd"].key
            mistakes.at(at, f"{path}.cmd", "'file' and 'cmd' are given both", "keep one of them")
        for field in ("file", "working_dir"):
            text, place = secret.get(field), entry.value.get(field)
            if isinstance(text, str) and place is not None:
                if not text:
                    mistakes.at(place, f"{path}.{field}", "expected a path, found nothing")
                _check_path(text, place, f"{path}.{field}", mistakes)
        words, place = secret.get("cmd"), entry.value.get("cmd")
        if isinstance(words, list) and place is not None:
            _check_command([str(word) for word in words], place, f"{path}.cmd", mistakes)


def check_daemon(data: Mapping[str, object], node: Map, mistakes: Mistakes) -> None:
    """Check the manager's block: a name that can be the name of a folder, paths that are paths."""
    name, at = data.get("name"), node.get("name")
    if isinstance(name, str) and at is not None and not re.fullmatch(NAME_PATTERN, name):
        hint = "at most 64 of A-Z a-z 0-9 _ -, a letter or digit first"
        mistakes.at(at, "daemon.name", f"{quoted(name)} cannot be the name of an instance", hint)
    for field in ("state_dir", "runtime_dir", "cgroup"):
        text, place = data.get(field), node.get(field)
        if isinstance(text, str) and place is not None:
            if not text:
                mistakes.at(
                    place, f"daemon.{field}", "expected the path of a folder, found nothing"
                )
            _check_path(text, place, f"daemon.{field}", mistakes)
    control, control_at = data.get("control"), node.get("control")
    if isinstance(control, Mapping) and isinstance(control_at, Map):
        _check_accounts(control, control_at, ("owner", "group"), "daemon.control", mistakes)
    entries, access_at = data.get("access"), node.get("access")
    if isinstance(entries, list) and isinstance(access_at, List):
        if len(entries) > MAX_ACCESS:
            message = f"expected at most {MAX_ACCESS} entries, found {len(entries)}"
            mistakes.at(access_at, "daemon.access", message, "name groups instead of users")
        for index, (entry, place) in enumerate(zip(entries, access_at.items, strict=True)):
            if isinstance(entry, Mapping) and isinstance(place, Map):
                _check_access(entry, place, f"daemon.access[{index}]", mistakes)


def _check_access(entry: Mapping[str, object], node: Map, where: str, mistakes: Mistakes) -> None:
    """Check one entry: whom it means, and whether what it limits can be limited."""
    _check_accounts(entry, node, ("user", "group"), where, mistakes)
    given = [name for name in ("user", "group") if entry.get(name) is not None]
    if len(given) != 1:
        message = f"expected user or group, found {'both' if given else 'none of them'}"
        hint = "write one entry for each" if given else "write: {user: alice, role: view}"
        mistakes.at(node, where, message, hint)
    for name in given:
        at = node.get(name)
        if entry[name] == OVERFLOW_ID and at is not None:
            message = f"{OVERFLOW_ID} may be anybody whom this user namespace does not know"
            mistakes.at(at, f"{where}.{name}", message, "name a user or group of its own")
    labels = node.get("labels")
    if entry.get("labels") and entry.get("role") != "operate" and labels is not None:
        message = "'labels' limit what is operated, not who looks or who applies"
        mistakes.at(labels, f"{where}.labels", message, "write role: operate, or remove labels")
