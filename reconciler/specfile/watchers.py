"""One watcher: its own words, `defaults`, environment, sockets and paths become a `WatcherSpec`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError
from reconciler.model.spec import MAX_NUMPROCESSES, ReloadByCommand, WatcherSpec
from reconciler.model.units import parse_formula
from reconciler.model.value import Struct, replace
from reconciler.specfile import rules
from reconciler.specfile.env_files import EnvFiles
from reconciler.specfile.given import Given
from reconciler.specfile.merge import Definition, Merged, is_null, with_defaults, with_restart
from reconciler.specfile.mistakes import Mistakes, found
from reconciler.specfile.resolve import SKIP, Resolver
from reconciler.specfile.shapes import EXTENSION, WATCHER, Value
from reconciler.specfile.substitute import Scope
from reconciler.specfile.validate import validated
from reconciler.specfile.yaml_text import Entry, List, Map, Node, Scalar, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reconciler.specfile.reading import SourceText

_SOCKET: Final = re.compile(r"\$(?:\$|\{sockets\.([^}]*)\})")
_ENV_VALUE: Final = Value(str, per_slot=True, verbatim=True)


class Surroundings(Struct, frozen=True):
    """What all watchers of a spec share. The alias in `defaults` is resolved."""

    merged: Merged
    scope: Scope
    env_files: EnvFiles
    processors: int
    mistakes: Mistakes

    def shared(self, name: str, file: SourceText) -> list[Map]:
        """Return `defaults` or `env` as the watchers of a file share it: that of the spec, then the file's own."""
        maps = (self.merged.maps, self.merged.included.get(file.path, {}))
        return [each[name] for each in maps if name in each]

    def defaults(self, file: SourceText) -> Map | None:
        """Return what a watcher of a file says when it says nothing: what its file says wins."""
        whole: Map | None = None
        for each in self.shared("defaults", file):
            whole = with_defaults(each, whole, WATCHER)
        return whole


def watcher(name: str, entry: Definition, around: Surroundings) -> WatcherSpec | None:
    """Return a watcher, or None when it has mistakes, all of them reported."""
    mistakes, where = around.mistakes, entry.where
    is_plugin = where.startswith("plugins.")
    node = block_at(entry, where, "write: {cmd: ...}", mistakes)
    if node is None:
        return None
    before = len(mistakes)
    own = with_restart(node, where, mistakes)
    whole = with_defaults(own, around.defaults(own.file), WATCHER)
    scope = _scope_of(name, whole, around)
    files = _env_files(whole, Resolver(scope, mistakes), around, where)
    resolver = Resolver(replace(scope, own=_own_names(own, whole, files, around)), mistakes)
    env = _environment(own, files, resolver, around, where)
    data = resolver.block(WATCHER, _without(whole, "env", *_for_a_shell(whole)), where)
    data["env"] = env
    _as_one_text(data, whole, resolver, where)
    if is_plugin:
        data["access"] = data.get("access") or {}
    _drop_what_defaults_mean_for_others(data, own, is_plugin=is_plugin)
    formula = _work_out_processes(data, around)
    rules.check_watcher(Given(data, whole, where, mistakes), own, around.scope.sockets)
    _make_paths_absolute(data, whole, own.file.folder)
    spec = validated(WatcherSpec, data, Entry(entry.key, whole), where, mistakes)
    if spec is None or len(mistakes) > before:
        return None
    first = tuple(around.scope.sockets) if spec.use_sockets is True else spec.use_sockets or ()
    told = {*_sockets_in(spec.given_texts)}
    given = dict.fromkeys([*first, *_named_sockets(spec)])
    # LISTEN_FDS counts from the first descriptor, and is silent about sockets told by name: they come last.
    use_sockets = tuple(sorted(given, key=told.__contains__))
    return replace(spec, use_sockets=use_sockets, numprocesses_formula=formula)


def block_at(entry: Entry, where: str, hint: str, mistakes: Mistakes) -> Map | None:
    """Return the fields of a watcher or a socket; None, which is reported, where there are none."""
    if isinstance(entry.value, Map):
        return entry.value
    at = entry.key if is_null(entry.value) else entry.value
    message = f"expected a map of fields, found {found(entry.value, where)}"
    mistakes.at(at, where, message, hint)
    return None


def check_defaults(around: Surroundings) -> None:
    """Report the mistakes of `defaults` under its own name, before each watcher meets them."""
    for maps in (around.merged.maps, *around.merged.included.values()):
        if "defaults" in maps:
            _check_defaults(maps["defaults"], around)


def _check_defaults(defaults: Map, around: Surroundings) -> None:
    mistakes = around.mistakes
    resolver = Resolver(_scope_of("watcher", defaults, around), mistakes)
    data = resolver.block(WATCHER, _without(defaults, "env"), "defaults")
    data.setdefault("cmd", ["true"])
    _work_out_processes(data, around)
    key = Scalar(defaults.file, defaults.line, defaults.column, 0, 0, "defaults", plain=True)
    validated(WatcherSpec, data, Entry(key, defaults), "defaults", mistakes)
    _env_map(defaults.get("env"), "defaults.env", resolver)


def _named_sockets(spec: WatcherSpec) -> list[str]:
    """Return the sockets that the process itself can name: in cmd, env, stop.cmd and reload.cmd."""
    reload = spec.reload.cmd if isinstance(spec.reload, ReloadByCommand) else ()
    return _sockets_in([*spec.given_texts, *(spec.stop.cmd or ()), *reload])


def _sockets_in(texts: Iterable[str]) -> list[str]:
    return [name for text in texts if "$" in text for name in _SOCKET.findall(text) if name]


def _scope_of(name: str, whole: Map, around: Surroundings) -> Scope:
    own = scalars({key: e for key, e in whole.entries.items() if key.startswith(EXTENSION)})
    return replace(around.scope, watcher=name, extensions={**around.scope.extensions, **own})


def _without(node: Map, *names: str) -> Map:
    if node.entries.keys().isdisjoint(names):
        return node
    entries = {k: e for k, e in node.entries.items() if k not in names}
    return Map(node.file, node.line, node.column, entries)


def _for_a_shell(whole: Map) -> tuple[str, ...]:
    """Return the field whose text a shell splits: `cmd`, where there is a shell."""
    shell, command = whole.get("shell"), whole.get("cmd")
    says_no = shell is None or (isinstance(shell, Scalar) and value_of(shell) in (None, False))
    is_text = isinstance(command, Scalar) and not is_null(command)
    return ("cmd",) if is_text and not says_no else ()


# ---- environment ----------------------------------------------------------------------------------


def _environment(
    own: Map, files: dict[str, object], resolver: Resolver, around: Surroundings, where: str
) -> dict[str, object]:
    """Return the environment; later wins: the spec's, that of `defaults`, env_file, the watcher's own."""
    env: dict[str, object] = {}
    for each in around.shared("env", own.file):
        env |= _env_map(each, "env", resolver)
    for each in around.shared("defaults", own.file):
        env |= _env_map(each.get("env"), "defaults.env", resolver)
    return env | files | _env_map(own.get("env"), f"{where}.env", resolver)


def _env_files(
    whole: Map, resolver: Resolver, around: Surroundings, where: str
) -> dict[str, object]:
    """Return the values of all files that a watcher names; of two that say the same the later wins."""
    files = whole.get("env_file")
    env: dict[str, object] = {}
    if isinstance(files, List):
        for index, item in enumerate(files.items):
            env |= _env_file(item, f"{where}.env_file[{index}]", resolver, around)
    return env


def _own_names(
    own: Map, whole: Map, files: dict[str, object], around: Surroundings
) -> frozenset[str]:
    """Return the variables that the process has by its own environment, by whatever way."""
    defaults = [each.get("env") for each in around.shared("defaults", own.file)]
    maps = (*around.shared("env", own.file), *defaults, own.get("env"))
    names = {name for each in maps if isinstance(each, Map) for name in each.entries}
    inherited = whole.get("inherit_env")
    items = inherited.items if isinstance(inherited, List) else []
    return frozenset({*names, *files, *(each.text for each in items if isinstance(each, Scalar))})


def _env_map(node: Node | None, where: str, resolver: Resolver) -> dict[str, object]:
    if node is None or is_null(node):
        return {}
    if not isinstance(node, Map):
        hint = "write NAME: value, each in a line" if isinstance(node, List) else ""
        resolver.mistakes.unexpected(node, where, "a map", hint)
        return {}
    rules.check_env_names(node.entries, where, resolver.mistakes)
    values: dict[str, object] = {}
    for name, entry in node.entries.items():
        if not isinstance(entry.value, Scalar):
            hint = f"a variable holds one text; for JSON put it into quotes: {name}: '...'"
            resolver.mistakes.unexpected(entry.value, f"{where}.{name}", "text", hint)
            continue
        if is_null(entry.value):
            values[name] = None  # the process has no such variable, whoever else gives it one
            continue
        value = resolver.value(_ENV_VALUE, entry.value, f"{where}.{name}", "env")
        if isinstance(value, str) and "\0" in value:
            resolver.mistakes.at(
                entry.value, f"{where}.{name}", "found a NUL character, which cannot be used here"
            )
        elif value is not SKIP:
            values[name] = value
    return values


def _env_file(
    item: Node, where: str, resolver: Resolver, around: Surroundings
) -> dict[str, object]:
    path = _final_path(item, where, resolver)
    if path is None:
        return {}
    values = around.env_files.read(path)
    if isinstance(values, SpecError):
        if values.line:
            around.mistakes.report(values)
        else:
            cause = values.message.partition(": ")[2] or values.message
            around.mistakes.at(
                item,
                where,
                f"cannot read {path}: {cause}",
                "is the path relative to the spec file?",
            )
        return {}
    return {name: value.replace("$", "$$") for name, value in values.items()}


def _final_path(item: Node, where: str, resolver: Resolver) -> str | None:
    """Return the absolute path at a node, relative to the file that it is written in; None: not a path."""
    if not isinstance(item, Scalar) or is_null(item):
        return None
    text = resolver.text(item, item.text, where, "env_file", per_slot=False)
    return None if not text else os.path.normpath(os.path.join(item.file.folder, text))


# ---- the rest -------------------------------------------------------------------------------------


def _work_out_processes(data: dict[str, object], around: Surroundings) -> str:
    """Put the number in the place of a formula, and return that; empty where there is none."""
    try:
        formula = parse_formula(data.get("numprocesses"))
    except ValueError:
        return ""
    data["numprocesses"] = min(formula.of(around.processors), MAX_NUMPROCESSES)
    return formula.text


def _as_one_text(data: dict[str, object], whole: Map, resolver: Resolver, where: str) -> None:
    """With a shell, the command is one word: the shell splits it."""
    command = whole.get("cmd")
    if not _for_a_shell(whole) or not isinstance(command, Scalar):
        return
    text = resolver.text(command, command.text, f"{where}.cmd", "cmd", per_slot=True)
    if text is not None:
        data["cmd"] = [text]


def _drop_what_defaults_mean_for_others(
    data: dict[str, object], own: Map, *, is_plugin: bool
) -> None:
    """What `defaults` says for jobs is not said of services, what it says for plugins not of others, and so on."""
    others = rules.SERVICE_FIELDS if data.get("restart") == "never" else rules.JOB_FIELDS
    for name in others:
        if name not in own.entries:
            data.pop(name, None)
    if not is_plugin and "access" not in own.entries:
        data.pop("access", None)
    limits, said = data.get("limits"), own.get("limits")
    if data.get("restart") == "never" and isinstance(limits, dict):
        written = said.entries if isinstance(said, Map) else {}
        for name in {*rules.SERVICE_LIMITS} - {*written}:
            limits.pop(name, None)


def _make_paths_absolute(data: dict[str, object], whole: Map, folder: str) -> None:
    """Paths are relative to the folder of the file that defines the watcher; those of `env_file` to their own."""
    escaped = folder.replace("$", "$$")
    directory = data.get("working_dir")
    if directory is None:
        data["working_dir"] = escaped
    make_absolute(data, escaped, "working_dir", "virtualenv", "pid_file")
    make_absolute(data.get("stdin"), escaped, "file")
    logs = data.get("logs")
    for stream in (logs.get("stdout"), logs.get("stderr")) if isinstance(logs, dict) else ():
        make_absolute(stream, escaped, "file")
    make_absolute(data.get("ready"), escaped, "unix")
    make_absolute(data.get("health"), escaped, "unix")
    make_all_absolute(data.get("watch"), folder, "paths")
    _make_secret_paths_absolute(data.get("secrets"), whole.get("secrets"))
    if "/" in str(data.get("shell")):
        make_absolute(data, folder, "shell")
    files, node = data.get("env_file"), whole.get("env_file")
    if isinstance(files, list) and isinstance(node, List):
        data["env_file"] = [
            os.path.normpath(os.path.join(at.file.folder, path)) if isinstance(path, str) else path
            for path, at in zip(files, node.items, strict=False)
        ]


def _make_secret_paths_absolute(secrets: object, node: Node | None) -> None:
    """Where a secret comes from is relative to the folder of the file that says it."""
    if not isinstance(secrets, dict) or not isinstance(node, Map):
        return
    for name, secret in secrets.items():
        at = node.get(name)
        if not isinstance(secret, dict) or not isinstance(at, Map):
            continue
        folder = at.file.folder
        if secret.get("cmd") is not None:
            secret["working_dir"] = secret.get("working_dir") or folder
        make_absolute(secret, folder, "file", "working_dir")


def make_absolute(block: object, folder: str, *names: str) -> None:
    """Make paths of a block absolute that are relative to a folder."""
    if isinstance(block, dict):
        for name in names:
            text = block.get(name)
            if isinstance(text, str) and text:
                block[name] = os.path.normpath(os.path.join(folder, text))


def make_all_absolute(block: object, folder: str, name: str) -> None:
    """Make the paths of a list in a block absolute that are relative to a folder."""
    paths = block.get(name) if isinstance(block, dict) else None
    if isinstance(block, dict) and isinstance(paths, list):
        block[name] = [
            os.path.normpath(os.path.join(folder, path)) if isinstance(path, str) and path else path
            for path in paths
        ]


def scalars(entries: Mapping[str, Entry]) -> dict[str, Scalar]:
    """Return what `${...}` can name of variables or extension keys."""
    return {name: entry.value for name, entry in entries.items() if isinstance(entry.value, Scalar)}
