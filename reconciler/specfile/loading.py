"""Paths to a `Spec`, or to every mistake in all of its files.

Read, compose, merge, override, resolve, validate: each step reports what it finds and goes on with the rest, so
that one run shows everything that is to be mended.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from reconciler.model.errors import SpecError
from reconciler.model.spec import ApplySpec, DaemonSpec, SocketSpec, Spec, WatcherSpec
from reconciler.model.value import Part, Struct, field, replace
from reconciler.specfile import dependencies, rules
from reconciler.specfile.dependencies import Written
from reconciler.specfile.env_files import EnvFiles
from reconciler.specfile.given import Given
from reconciler.specfile.later import read_later
from reconciler.specfile.machine import Machine, this_machine
from reconciler.specfile.merge import (
    OF_ONE_FILE,
    Definition,
    Merged,
    is_null,
    merge_documents,
    place_of,
    with_restart,
)
from reconciler.specfile.mistakes import Mistakes, list_of
from reconciler.specfile.overrides import override
from reconciler.specfile.reading import FileRead, Reader
from reconciler.specfile.resolve import Resolver
from reconciler.specfile.shapes import block
from reconciler.specfile.source import is_temporary, spec_files
from reconciler.specfile.substitute import Scope, SubstitutionError, expand
from reconciler.specfile.trust import ALLOW
from reconciler.specfile.validate import validated
from reconciler.specfile.watchers import (
    Surroundings,
    block_at,
    check_defaults,
    make_absolute,
    scalars,
    watcher,
)
from reconciler.specfile.yaml_text import (
    MAX_SIZE,
    Entry,
    List,
    Map,
    Node,
    Scalar,
    compose,
    size_of,
    value_of,
)

T = TypeVar("T", bound=Struct)

MAX_WATCHERS: Final = 10_000
MAX_FILES: Final = 10_000


class Outcome(Struct, frozen=True):
    """What a reading gave: a spec, or mistakes; and all files that were read."""

    spec: Spec | None
    errors: tuple[SpecError, ...]
    files: Mapping[str, FileRead]
    warnings: tuple[SpecError, ...] = ()


def read_spec(
    paths: Sequence[str], environ: Mapping[str, str], machine: Machine | None = None
) -> Outcome:
    """Return the spec that files and folders make, or their mistakes; `environ` is what `${env.NAME}` means.

    `machine` is where it shall run; None: here.
    """
    reader = Reader(allow_writable=bool(environ.get(ALLOW)))
    work = _Work(environ, reader, machine or this_machine())
    given, included = work.documents([os.path.abspath(path) for path in paths])
    overriding = work.overriding([*given, *included])
    merged = merge_documents(given, included, work.mistakes)
    for root in overriding:
        override(merged, root, work.mistakes)
    spec = work.spec(merged)
    work.check_what_is_read_later(spec)
    errors = tuple(work.mistakes.all())
    files = dict(sorted(work.reader.files.items()))
    return Outcome(
        None if errors else spec, errors, files, (*work.reader.warnings, *work.mistakes.warnings())
    )


class _Work(Part):
    """One reading."""

    environ: Mapping[str, str]
    reader: Reader
    machine: Machine
    mistakes: Mistakes = field(default_factory=Mistakes)
    looked_for: list[str] = field(default_factory=list)
    """Paths and patterns at which files may appear that would belong to the spec."""
    seen: set[str] = field(default_factory=set)
    """The files that were read, by what their paths lead to."""

    # ---- files ----

    def documents(self, paths: list[str]) -> tuple[list[Map], list[Map]]:
        """Return the roots of the files that were given, and of those that they include."""
        waiting = [file for path in paths for file in self._files_of(path)]
        given = len(waiting)
        roots: tuple[list[Map], list[Map]] = ([], [])
        for index, path in enumerate(waiting):
            identity = os.path.realpath(path)
            if identity in self.seen:
                continue
            self.seen.add(identity)
            if len(self.seen) > MAX_FILES:
                self.mistakes.report(
                    SpecError(path, 0, 0, "", f"the spec has more than {MAX_FILES} files")
                )
                break
            root = self._document(path)
            if root is not None:
                roots[index >= given].append(root)
                waiting += [path for path, _ in self._named(root, "include")]
        return roots

    def overriding(self, roots: list[Map]) -> list[Map]:
        """Return the roots of the files that say what is different, in their order: the later wins."""
        found: list[Map] = []
        for path, item in (each for root in roots for each in self._named(root, "overrides")):
            identity = os.path.realpath(path)
            if identity in self.seen:
                message = f"{path} is a file of the spec already"
                hint = "keep what overrides in a folder of its own, each file named once"
                self.mistakes.at(item, "overrides", message, hint)
                continue
            self.seen.add(identity)
            root = self._document(path)
            found += [root] if root is not None else []
        return found

    def _files_of(self, path: str) -> tuple[str, ...]:
        try:
            files = spec_files(path)
        except OSError as error:
            message = f"cannot read the folder: {(error.strerror or str(error)).lower()}"
            self.mistakes.report(SpecError(path, 0, 0, "", message))
            return ()
        if not files:
            self.mistakes.report(SpecError(path, 0, 0, "", "the folder holds no *.yaml or *.yml"))
            return ()
        return files if files == (path,) or self._trusts(path, lists_it=True) else ()

    def _trusts(self, path: str, *, lists_it: bool = False) -> bool:
        """Tell, and report, whether nobody else could have written a file or folder."""
        distrusted = self.reader.distrusted(path, lists_it=lists_it)
        if distrusted is not None:
            self.mistakes.report(distrusted)
        return distrusted is None

    def _document(self, path: str) -> Map | None:
        text = self.reader.read(path)
        if isinstance(text, SpecError):
            self.mistakes.report(text)
            return None
        self.mistakes.knows(text)
        root = compose(text, self.mistakes.report)
        if root is None or is_null(root):
            return None
        self.mistakes.knows(text, root)
        if not isinstance(root, Map):
            self.mistakes.unexpected(root, "", "a map", "a spec begins with: watchers:")
            return None
        return root

    def _named(self, root: Map, field: str) -> list[tuple[str, Scalar]]:
        """Return the files that a file names in `include` or `overrides`, each with the place where it does."""
        node = root.get(field)
        if node is None or is_null(node):
            return []
        if not isinstance(node, List):
            hint = f"write: {list_of(node.text)}" if isinstance(node, Scalar) else ""
            self.mistakes.unexpected(node, field, "a list", hint)
            return []
        resolver = Resolver(self._scope(Merged({"vars": _map_at(root, "vars")}), {}), self.mistakes)
        files: list[tuple[str, Scalar]] = []
        for index, item in enumerate(node.items):
            where = f"{field}[{index}]"
            if not isinstance(item, Scalar) or not isinstance(value_of(item), str):
                self.mistakes.unexpected(item, where, "text")
                continue
            pattern = resolver.text(item, item.text, where, field, per_slot=False)
            if pattern is not None:
                # A file of overrides is for some machines only, when its name says so.
                may_lack = field == "overrides" and "${" in item.text
                pattern = os.path.normpath(os.path.join(root.file.folder, pattern))
                found = self._matching(item, pattern, where, may_lack=may_lack)
                files += [(each, item) for each in found]
        return files

    def _matching(self, item: Scalar, pattern: str, where: str, *, may_lack: bool) -> list[str]:
        """Return the files of one pattern, by name; a path without wildcards must exist, unless it `may_lack`."""
        is_pattern = glob.has_magic(pattern)
        if (is_pattern or may_lack) and not glob.has_magic(os.path.dirname(pattern)):
            self.looked_for.append(pattern)
        if not is_pattern:
            if not os.path.exists(pattern):
                if may_lack:
                    return []
                message = f"cannot read {pattern}: no such file or folder"
                self.mistakes.at(item, where, message, "it is relative to this file")
                return []
            return list(self._files_of(pattern))
        names = sorted(
            each for each in glob.glob(pattern) if not is_temporary(os.path.basename(each))
        )
        files = [os.path.normpath(each) for each in names if not os.path.isdir(each)]
        for folder in dict.fromkeys(map(os.path.dirname, files)):
            distrusted = self.reader.distrusted(folder, lists_it=True)
            if distrusted is not None:
                self.mistakes.at(item, where, distrusted.message, distrusted.hint)
        return files

    def check_what_is_read_later(self, spec: Spec) -> None:
        """Report files of secrets and hooks that somebody else could have written."""
        for path in dict.fromkeys(read_later(spec)):
            self._trusts(path)

    # ---- meaning ----

    def _scope(self, merged: Merged, sockets: Mapping[str, object]) -> Scope:
        variables, extensions = scalars(merged.entries("vars")), scalars(merged.extensions)
        hostname = self.machine.hostname
        return Scope(variables, self.environ, extensions, sockets, hostname=hostname)

    def spec(self, merged: Merged) -> Spec:
        """Return the spec of the merged document; what has mistakes is missing from it."""
        mistakes = self.mistakes
        named = merged.entries("sockets")
        scope = self._scope(merged, named)
        rules.check_names(named, "sockets", "socket", mistakes)
        entries = self._all_watchers(merged)
        self._check_variables(merged, scope)
        resolver = Resolver(scope, mistakes)
        daemon = self._block(DaemonSpec, "daemon", merged, resolver)
        apply = self._block(ApplySpec, "apply", merged, resolver)
        sockets = {name: self._socket(name, entry, resolver) for name, entry in named.items()}
        rules.check_addresses(sockets, named, mistakes)
        watchers = self._watchers(merged, entries, scope)
        rules.check_own_sockets(sockets, watchers, entries, mistakes)
        rules.check_on_demand(sockets, watchers, entries, mistakes)
        return Spec(
            daemon or DaemonSpec(),
            apply or ApplySpec(),
            {name: each for name, each in sockets.items() if each is not None},
            {name: each for name, each in watchers.items() if each is not None},
            {name: value_of(entry.value) for name, entry in merged.extensions.items()},
            tuple(dict.fromkeys(self.looked_for)),
        )

    def _all_watchers(self, merged: Merged) -> dict[str, Definition]:
        """Return watchers and plugins by their names, which they share."""
        watchers, plugins = merged.definitions("watchers"), merged.definitions("plugins")
        rules.check_names(watchers, "watchers", "watcher", self.mistakes)
        rules.check_names(plugins, "plugins", "plugin", self.mistakes)
        for name in plugins.keys() & watchers.keys():
            at = place_of(watchers[name].key)
            message = f"'{name}' is the name of a watcher, too, at {at}"
            self.mistakes.at(plugins[name].key, plugins[name].where, message, "rename one of them")
        return {**plugins, **watchers}

    def _check_variables(self, merged: Merged, scope: Scope) -> None:
        """Report what is wrong with a variable even when nobody uses it."""
        entries = merged.entries("vars")
        rules.check_variables(entries, self.mistakes)
        within = replace(scope, watcher="watcher")
        for name, entry in entries.items():
            if not isinstance(entry.value, Scalar):
                self.mistakes.unexpected(entry.value, f"vars.{name}", "text")
                continue
            try:
                expand(entry.value.text, within, per_slot=True, sockets=True)
            except SubstitutionError as error:
                self.mistakes.at(entry.value, f"vars.{name}", error.message, error.hint)

    def _block(self, cls: type[T], name: str, merged: Merged, resolver: Resolver) -> T | None:
        node = merged.maps.get(name)
        if node is None:
            return None
        data = resolver.block(block(cls), node, name)
        if cls is DaemonSpec:
            rules.check_daemon(Given(data, node, name, self.mistakes))
            _make_daemon_paths_absolute(data, node)
        key = Scalar(node.file, node.line, node.column, 0, 0, name, plain=True)
        return validated(cls, data, Entry(key, node), name, self.mistakes)

    def _socket(self, name: str, entry: Entry, resolver: Resolver) -> SocketSpec | None:
        where = f"sockets.{name}"
        node = block_at(entry, where, "write: {listen: 127.0.0.1:8000}", self.mistakes)
        if node is None:
            return None
        data = resolver.block(block(SocketSpec), node, where)
        rules.check_socket(Given(data, node, where, self.mistakes))
        return validated(SocketSpec, data, entry, where, self.mistakes)

    def _is_too_much(self, merged: Merged, watchers: Mapping[str, Entry]) -> bool:
        """Tell, and report, that the watchers together hold too much: each has all defaults."""
        maps = [
            *merged.maps.items(),
            *(e for each in merged.included.values() for e in each.items()),
        ]
        shared = [e for name, each in maps if name in OF_ONE_FILE for e in each.entries.values()]
        own = sum(size_of(each.value) for each in watchers.values())
        total = own + len(watchers) * sum(size_of(each.value) for each in shared)
        if total <= MAX_SIZE or not watchers:
            return False
        message = "with their defaults the watchers hold more than 32 MiB, which is the limit"
        self.mistakes.at(
            next(iter(watchers.values())).key, "watchers", message, "make defaults: or env: smaller"
        )
        return True

    def _watchers(
        self, merged: Merged, entries: Mapping[str, Definition], scope: Scope
    ) -> dict[str, WatcherSpec | None]:
        mistakes = self.mistakes
        if len(entries) > MAX_WATCHERS:
            last = list(entries.values())[MAX_WATCHERS]
            message = f"the spec has {len(entries)} watchers, at most {MAX_WATCHERS} are allowed"
            mistakes.at(
                last.key, "watchers", message, "raise numprocesses instead of copying watchers"
            )
            return {}
        if self._is_too_much(merged, entries):
            return {}
        for maps in (merged.maps, *merged.included.values()):
            if "defaults" in maps:
                maps["defaults"] = with_restart(maps["defaults"], "defaults", mistakes)
        files = EnvFiles(self.reader, mistakes)
        around = Surroundings(merged, scope, files, self.machine.processors, mistakes)
        check_defaults(around)
        specs = {name: watcher(name, entry, around) for name, entry in entries.items()}
        for name, plugin in merged.definitions("plugins").items():
            if plugin.where != entries[name].where:  # its name is that of a watcher, too
                watcher(name, plugin, around)
        written = {
            name: Written(
                spec,
                entries[name].where,
                _dependency_nodes(entries[name], around) if spec.depends_on else (),
            )
            for name, spec in specs.items()
            if spec is not None
        }
        return {**specs, **dependencies.check(written, entries, mistakes)}


def _dependency_nodes(entry: Entry, around: Surroundings) -> tuple[Node, ...]:
    """Return where a watcher's `depends_on` may be written; the watcher itself last."""
    own = entry.value
    maps = (own, around.defaults(own.file))
    nodes = (each.get("depends_on") for each in maps if isinstance(each, Map))
    return (*(node for node in nodes if node is not None), own)


def _map_at(root: Map, name: str) -> Map:
    node = root.get(name)
    return node if isinstance(node, Map) else Map(root.file, root.line, root.column, {})


def _make_daemon_paths_absolute(data: dict[str, object], node: Map) -> None:
    """Paths of the manager are relative to the folder of the file that gives them."""
    own, log = ("state_dir", "runtime_dir", "cgroup"), node.get("log")
    for block_, at, names in ((data, node, own), (data.get("log"), log, ("file",))):
        for name, entry in at.entries.items() if isinstance(at, Map) else ():
            if name in names:
                make_absolute(block_, entry.value.file.folder, name)
