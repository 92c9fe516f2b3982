"""Which instance is meant, for every command in the same way.

What `instances.place` says is where one is started. Who looks for one that runs needs more: a spec is known to
its manager, so the one that answers is compared with the one that was meant, and a manager that was started
elsewhere (`up --name box`) is found by its spec or state folder.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Final

from reconciler.cli.connection import places
from reconciler.cli.connection.instances import (
    CONTROL_SOCKET,
    Choice,
    Instance,
    choice,
    is_running,
    place,
    running,
)
from reconciler.cli.connection.spec_head import Head, loaded_head, read_head
from reconciler.cli.errors import CommandError, NoManager, Refused
from reconciler.model.errors import RequestError
from reconciler.model.value import replace
from reconciler.wire.manager_file import is_same_source, read_manager_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.model.answer import Hello
    from reconciler.specfile.source import Source

_ANSWER_S: Final = 2.0
"""How long a manager is asked who it is; one that does not answer is taken for the one that is meant."""


def asked(instance: Instance) -> Hello | None:
    """Ask a manager who it is; None when it does not say, for whatever reason."""
    from reconciler.cli.connection.transport import Transport

    try:
        with Transport(instance, _ANSWER_S) as transport:
            return transport.hello()
    except (CommandError, RequestError):
        return None


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

    `spec` is one that the command names, None looks for it in this folder and above. A plugin means its own manager
    unless it says otherwise. An instance that is
    found by its spec is asked whether it runs that spec, unless `is_compared` is False. Raises `Refused`
    when it runs another, and `NoManager` when nothing says which one is meant.
    """
    chosen = choice(name, runtime_dir, state_dir)
    if spec is None and not chosen.says_something and (own := _own_manager()) is not None:
        return own
    source = spec or _source_here()
    if chosen.runtime_dir:
        return place(chosen, read_head(source) if source is not None else Head(), source)
    if chosen.name:
        return _by_name(chosen, source)
    if source is not None:
        return _by_spec(chosen, source, is_compared=is_compared)
    if chosen.state_dir:
        last = read_manager_file(chosen.state_dir)
        if last is not None:
            return Instance(last.name, last.runtime_dir, os.path.abspath(chosen.state_dir))
    return _the_only_one()


def _own_manager() -> Instance | None:
    """Return the manager of this process, which a plugin and a hook are told; None for all others."""
    socket_path = os.environ.get("RECONCILE_CONTROL_SOCKET", "")
    if os.path.basename(socket_path) != CONTROL_SOCKET:
        return None
    return Instance(os.environ.get("RECONCILE_INSTANCE", ""), os.path.dirname(socket_path))


def _by_name(chosen: Choice, source: Source | None) -> Instance:
    """Return the one of this name that runs: where the spec here or the platform puts it, or where it was started."""
    plain = place(chosen, Head(), source)
    for expected in (plain,) if source is None else _expected(chosen, source):
        if expected != plain and is_running(expected):
            answer = asked(expected)
            if answer is None or (answer.name or expected.name) == chosen.name:
                return expected
        for instance in chain((plain,), _elsewhere(plain), _elsewhere(expected)):
            if is_running(instance):
                return instance
    return expected


def _by_spec(chosen: Choice, source: Source, *, is_compared: bool) -> Instance:
    """Return the one that runs this spec. Raises `Refused` when there is another one in its place."""
    strangers = []
    for expected in _expected(chosen, source):
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


def _expected(chosen: Choice, source: Source) -> Iterator[Instance]:
    """Yield where the instance of a spec is by its first lines, and if need be by all that it says."""
    head = read_head(source)
    yield place(chosen, head, source)
    if not head.is_sure:
        from reconciler.cli.connection import loading

        loaded = loading.load(source)
        if loaded.spec is not None:
            yield place(chosen, loaded_head(loaded.block("daemon")), source)


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
    if not found:
        return None
    one = _single(found, f"run {', '.join(source.paths)}")
    return replace(one, remark=f"using {one.name}, the manager that runs {', '.join(source.paths)}")


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
    one = _single(found, "are running")
    answer = asked(one)
    runs = f" ({', '.join(answer.source)})" if answer is not None and answer.source else ""
    return replace(one, remark=f"using {one.name}{runs}, the only running manager")


def _single(found: Sequence[Instance], what: str) -> Instance:
    """Return the only one. Raises `NoManager` for several, with `what` they do."""
    if len(found) > 1:
        msg = f"{len(found)} managers {what}: {', '.join(one.name for one in found)}"
        raise NoManager(msg, "choose one with --name NAME")
    return found[0]


def _source_here() -> Source | None:
    from reconciler.specfile.source import Source, find_source

    try:
        found = find_source(None, places.working_dir())
    except Refused:
        return None  # this folder has been removed; whoever names an instance does not need it
    return found if isinstance(found, Source) else None
