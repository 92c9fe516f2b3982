"""Commands that compare the spec with what runs: plan and apply."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from reconciler.cli import options
from reconciler.cli.commands.launch import prepared, without_home
from reconciler.cli.commands.waiting import Outcome, show_outcome, wait_until_as_desired
from reconciler.cli.connection import instances, loading, places
from reconciler.cli.connection.launch import has_past, place, start_detached
from reconciler.cli.errors import DONE, FAILED, PENDING, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document, print_json
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.mistakes import show_mistakes
from reconciler.cli.views.plan import REMOVALS, plan_page
from reconciler.model.change import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reconciler.cli.connection.client import Client
    from reconciler.cli.session import Session
    from reconciler.cli.views.terminal import Terminal
    from reconciler.specfile.source import Source


@click.command("plan")
@options.spec
@options.output("text", "json", "yaml")
@options.with_instance
def plan_command(session: Session, spec: tuple[str, ...], output: str) -> int:
    """Show what apply would do, why, and how. Exit code 0: no changes; 2: changes.

    SPEC is a file or folder; default: the spec that the manager runs. Without a manager: what it
    would start.
    """
    session.spec = loading.find(spec) if spec else None
    if not instances.is_running(session.instance()):
        return _plan_of_start(session, output)
    source = list(session.spec.paths) if session.spec else None
    answer = session.client().ask(Plan, "plan", {"source": source})
    plan = answer.value
    if output in DOCUMENTS:
        print_document(answer.document("revision", "changes", "drift"), output)
    else:
        terminal.stdout().show(*plan_page(plan.changes, plan.drift, time.time_ns()))
    return PENDING if plan.changes else DONE


def _plan_of_start(session: Session, output: str) -> int:
    """Show what `apply` or `up` would start, where no manager is running."""
    loaded = loading.load(session.spec or loading.find(()))
    if loaded.spec is None:
        show_mistakes(loaded.errors)
        return FAILED
    changes = created_by(loaded.spec, has_past=has_past(place(session.choice(), loaded).state_dir))
    if output in DOCUMENTS:
        print_document({"revision": 0, "changes": changes, "drift": []}, output)
    else:
        terminal.stdout().show(*plan_page(changes))
    return PENDING if changes else DONE


class _Request(NamedTuple):
    """What `apply` was asked for."""

    spec: Source | None
    dry_run: bool
    yes: bool
    wait: bool
    timeout_ns: int
    only: tuple[str, ...]
    allow_removal: bool
    replace_source: bool
    goes_on: bool
    runs: bool
    output: str

    def params(self) -> dict[str, object]:
        """Return the parameters for the manager; None is not sent."""
        return {
            "source": list(self.spec.paths) if self.spec else None,
            "only": list(self.only) or None,
            "allow_removal": self.allow_removal or None,
            "replace_source": self.replace_source or None,
            "continue": self.goes_on or None,
        }


@click.command("apply")
@options.spec
@options.dry_run
@options.yes
@options.wait("Wait until everything is as desired.")
@click.option(
    "--only",
    metavar="NAME",
    multiple=True,
    help="Apply the changes of this watcher or socket only; repeatable.",
)
@options.allow_removal
@options.replace_source
@click.option(
    "--continue",
    "goes_on",
    is_flag=True,
    help="Continue a paused revision, or retry one that was rolled back.",
)
@options.wait_jobs
@options.output("text", "json")
@options.with_instance
def apply_command(
    session: Session,
    spec: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    wait: bool,
    timeout_ns: int,
    only: tuple[str, ...],
    allow_removal: bool,
    replace_source: bool,
    goes_on: bool,
    wait_jobs: bool,
    output: str,
) -> int:
    """Validate, show the plan, apply it and wait until it has taken effect.

    SPEC is a file or folder; default: the spec that the manager runs. Starts a manager in the
    background when none is running.
    """
    session.spec, session.replaces_source = loading.find(spec) if spec else None, replace_source
    request = _Request(
        session.spec,
        dry_run,
        yes,
        wait,
        timeout_ns,
        only,
        allow_removal,
        replace_source,
        goes_on,
        wait_jobs,
        output,
    )
    if instances.is_running(session.instance()):
        return _apply_to_running(session, request)
    return _apply_by_starting(session, request)


def _apply_to_running(session: Session, request: _Request) -> int:
    client, screen = session.client(), terminal.stdout()
    answer = client.ask(Plan, "apply", request.params() | {"dry_run": True})
    plan, document = answer.value, answer.document("revision", "changes", "drift")
    if request.output == "text":
        screen.show(*plan_page(plan.changes, plan.drift, time.time_ns()))
    if request.dry_run:
        if request.output == "json":
            print_json(document | {"applied": False})
        return DONE
    if not request.yes and not consents(plan.changes):
        terminal.stderr().write("nothing was changed\n")
        return FAILED
    applied = client.ask(Plan, "apply", request.params() | {"base": plan.revision}).value
    return _finish(client, screen, request, document["changes"], applied.revision)


def consents(changes: Sequence[Change]) -> bool:
    """Ask before something is removed. Raises `Refused` where nobody can be asked."""
    removed = [change.name for change in changes if change.how in REMOVALS]
    if not removed:
        return True
    if not sys.stdin.isatty():
        msg = f"cannot remove {', '.join(removed)} without confirmation: standard input is not a terminal"
        raise Refused(msg, "confirm with --yes; nothing was changed")
    return click.confirm(f"remove {', '.join(removed)}?", default=False, err=True)


def _apply_by_starting(session: Session, request: _Request) -> int:
    """Start a manager in the background; everything in the spec is new to it."""
    if request.only:
        msg = f"cannot apply only {', '.join(request.only)}: a new manager takes the whole spec"
        raise Refused(msg, "omit --only, or start it first with: reconcile up -d")
    if request.goes_on:
        msg = "cannot continue: no manager is running, so no revision is paused"
        raise Refused(msg, "omit --continue")
    loaded = loading.load(request.spec or loading.find(()))
    if loaded.spec is None:
        show_mistakes(loaded.errors)
        return FAILED
    screen = terminal.stdout()
    changes = created_by(loaded.spec, has_past=has_past(place(session.choice(), loaded).state_dir))
    if request.output == "text":
        screen.show(*plan_page(changes))
    if request.dry_run:
        if request.output == "json":
            print_json({"revision": 0, "changes": changes, "applied": False})
        return DONE
    start = prepared(session, loaded, "apply")
    start_detached(start)
    if request.output == "text":
        if places.is_temporary(start.state_dir):
            screen.show((Cell(without_home(start.state_dir)),))
        screen.show((Cell(f"started the manager {start.instance.name} in the background"),))
    session.name, session.runtime_dir = start.instance.name, start.instance.runtime_dir
    return _finish(session.client(), screen, request, changes, None)


def created_by(spec: Mapping[str, object], *, has_past: bool) -> list[Change]:
    """Return the plan of a spec for a manager that does not run yet.

    `has_past`: an earlier one may have been killed; the new one adopts what still runs.
    """
    message = "started, or taken over where it still runs" if has_past else "new"
    watchers, sockets = spec.get("watchers"), spec.get("sockets")
    found = [Change("socket", name, "bind", message) for name in _names(sockets)]
    return found + [Change("watcher", name, "create", message) for name in _names(watchers)]


def _names(entries: object) -> Iterable[str]:
    return entries if isinstance(entries, dict) else ()


def _finish(
    client: Client, screen: Terminal, request: _Request, changes: object, revision: int | None
) -> int:
    """Wait if asked to, and show how it ended."""
    outcome = Outcome(DONE)
    if request.wait:
        live = screen if request.output == "text" else terminal.nowhere()
        outcome = wait_until_as_desired(
            client,
            live,
            request.timeout_ns,
            revision=revision,
            names=request.only,
            runs=request.runs,
        )
    if request.output == "json":
        fields = {"revision": revision, "changes": changes, "applied": True, "waited": request.wait}
        print_json(
            fields
            | {
                "as_desired": outcome.exit_code == DONE if request.wait else None,
                "waiting": outcome.waiting,
                "verdict": outcome.verdict,
            }
        )
    elif request.wait:
        show_outcome(screen, client, outcome, request.timeout_ns)
    return outcome.exit_code
