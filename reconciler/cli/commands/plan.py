"""Commands that compare the spec with what runs: plan and apply."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.commands.starting import prepared, start_in_background, valid
from reconciler.cli.commands.waiting import Outcome, show_outcome, wait_until_as_desired
from reconciler.cli.connection import instances, loading
from reconciler.cli.connection.launch import has_past, place
from reconciler.cli.connection.transport import Answer
from reconciler.cli.errors import DONE, FAILED, PENDING, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document, print_json
from reconciler.cli.views.plan import REMOVALS, plan_page
from reconciler.model.change import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.connection.loading import Loaded
    from reconciler.cli.connection.transport import Map
    from reconciler.cli.session import Session


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
    if instances.is_running(session.instance()):
        source = list(session.spec.paths) if session.spec else None
        answer = session.client().ask(Plan, "plan", {"source": source})
    else:
        answer = _plan_of_start(session, valid(session.spec or loading.find(())))
    plan = answer.value
    if output in DOCUMENTS:
        print_document(answer.document("revision", "changes", "drift"), output)
    else:
        terminal.stdout().show(*plan_page(plan.changes, plan.drift, time.time_ns()))
    return PENDING if plan.changes else DONE


def _plan_of_start(session: Session, loaded: Loaded) -> Answer[Plan]:
    """Return what a manager that does not run yet will do with a spec.

    An earlier one may have been killed; the new one adopts what still runs.
    """
    adopts = has_past(place(session.choice(), loaded).state_dir)
    message = "started, or taken over where it still runs" if adopts else "new"
    changes = [Change("socket", name, "bind", message) for name in loaded.block("sockets")]
    runs = loaded.next_runs
    changes += [
        Change("watcher", name, "create", message, next_runs=runs.get(name, ()))
        for name in loaded.block("watchers")
    ]
    return Answer(Plan(changes=tuple(changes)), {})


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
    asked: Map = {
        "source": list(session.spec.paths) if session.spec else None,
        "only": list(only) or None,
        "allow_removal": allow_removal or None,
        "replace_source": replace_source or None,
        "continue": goes_on or None,
    }
    client, loaded, revision = session.client(), None, None
    if instances.is_running(client.instance):
        planned = client.ask(Plan, "apply", asked | {"dry_run": True})
    else:
        _refuse_part(only, goes_on=goes_on)
        loaded = valid(session.spec or loading.find(()))
        planned = _plan_of_start(session, loaded)
    plan, document = planned.value, planned.document("revision", "changes", "drift")
    screen = terminal.stdout() if output == "text" else terminal.nowhere()
    screen.show(*plan_page(plan.changes, plan.drift, time.time_ns()))
    if dry_run:
        if output == "json":
            print_json(document | {"applied": False})
        return DONE
    if loaded is not None:
        start_in_background(session, prepared(session, loaded, "apply", screen), screen)
        client = session.client()
    elif yes or consents(plan.changes):
        applied = client.ask(Plan, "apply", asked | {"base": plan.revision})
        revision = applied.value.revision
    else:
        return FAILED
    outcome = Outcome(DONE)
    if wait:
        outcome = wait_until_as_desired(
            client, screen, timeout_ns, revision=revision, names=only, runs=wait_jobs
        )
    if output == "json":
        print_json(
            {
                "revision": revision,
                "changes": document["changes"],
                "applied": True,
                "waited": wait,
                "as_desired": outcome.exit_code == DONE if wait else None,
                "waiting": outcome.waiting,
                "verdict": outcome.verdict,
            }
        )
    elif wait:
        show_outcome(screen, client, outcome, timeout_ns)
    return outcome.exit_code


def _refuse_part(only: Sequence[str], *, goes_on: bool) -> None:
    """Refuse what a manager that is started cannot do: everything in the spec is new to it."""
    if only:
        msg = f"cannot apply only {', '.join(only)}: a new manager takes the whole spec"
        raise Refused(msg, "omit --only, or start it first with: reconcile up -d")
    if goes_on:
        msg = "cannot continue: no manager is running, so no revision is paused"
        raise Refused(msg, "omit --continue")


def consents(changes: Sequence[Change]) -> bool:
    """Ask before something is removed. Raises `Refused` where nobody can be asked."""
    removed = [change.name for change in changes if change.how in REMOVALS]
    if not removed:
        return True
    if not sys.stdin.isatty():
        msg = f"cannot remove {', '.join(removed)} without confirmation: standard input is not a terminal"
        raise Refused(msg, "confirm with --yes; nothing was changed")
    if click.confirm(f"remove {', '.join(removed)}?", default=False, err=True):
        return True
    terminal.stderr().write("nothing was changed\n")
    return False
