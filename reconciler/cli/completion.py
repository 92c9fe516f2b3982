"""What may stand next on a command line: one completer for bash, zsh, fish and the shell of our own.

click knows commands, options and the values of choices; here are the names that only a manager or the language
knows. Completion does not wait: a manager that does not answer at once completes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from reconciler.cli import errors
from reconciler.cli.session import Session
from reconciler.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import click

    from reconciler.cli.connection.client import Client
    from reconciler.cli.connection.instances import Instance


VARIABLE: Final = "_RECONCILE_COMPLETE"
_TIMEOUT_S: Final = 1.0
_STAY_FRESH_S: Final = 2.0
_asked: dict[tuple[str, Instance], tuple[float, list[str]]] = {}
"""What managers answered last, by the question: the keys of a word come quickly."""


def candidates(session: Session, words: list[str], word: str) -> list[str]:
    """Return what may stand in place of `word`, after `words`."""
    from click.shell_completion import ShellComplete

    from reconciler.cli.main import reconcile

    complete = ShellComplete(reconcile, {"obj": session}, "reconcile", VARIABLE)
    found = [each.value for each in complete.get_completions(words, word) if each.type == "plain"]
    return [each for each in found if each.startswith(word)]


def names(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return watchers and, of those with several processes, slots."""
    return _asked_of(context, "names", _names_of, word)


def watchers_to_scale(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return `NAME=` of each watcher."""
    found = _asked_of(context, "names", _names_of, word)
    return [f"{name}=" for name in found if "." not in name]


def revisions(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return the numbers of the revisions that are kept, the newest first."""
    return _asked_of(context, "revisions", _revisions_of, word)


def signals(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return the names of signals."""
    from reconciler.model.units import SIGNAL_NAMES

    return [name for name in sorted(SIGNAL_NAMES) if name.startswith(word.upper())]


def fields(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return the fields of the language, by their paths without the names of watchers."""
    from reconciler.specfile.words import all_fields

    found = [each.name.replace(".NAME", "") for each in all_fields()]
    return [name for name in found if name.startswith(word)]


def _asked_of(
    context: click.Context, what: str, ask: Callable[[Client], Iterable[str]], word: str
) -> list[str]:
    try:
        instance = _session(context).instance()
    except errors.CommandError:
        return []
    at_s, found = _asked.get((what, instance), (float("-inf"), []))
    if time.monotonic() - at_s > _STAY_FRESH_S:
        found = _answer(instance, ask)
        _asked[what, instance] = time.monotonic(), found
    return [each for each in found if each.startswith(word)]


def _session(context: click.Context) -> Session:
    """Return the session of the line so far: which instance it means."""
    session = context.find_object(Session) or Session()
    at: click.Context | None = context
    while at is not None:
        session.name = session.name or at.params.get("name")
        session.runtime_dir = session.runtime_dir or at.params.get("runtime_dir")
        at = at.parent
    return session


def _answer(instance: Instance, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    from reconciler.cli.connection import instances
    from reconciler.cli.connection.client import Client

    if not instances.is_running(instance):
        return []
    try:
        with Client(instance=instance, timeout=_TIMEOUT_S) as client:
            return list(ask(client))
    except (errors.CommandError, RequestError):
        return []


def _names_of(client: Client) -> Iterable[str]:
    for watcher in client.status().watchers:
        yield watcher.name
        if len(watcher.slots) > 1:
            yield from (f"{watcher.name}.{slot.slot}" for slot in watcher.slots)


def _revisions_of(client: Client) -> Iterable[str]:
    return (str(each.number) for each in client.history())
