"""Commands about revisions of the applied spec: history, diff and rollback."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, options
from reconciler.cli.commands.plan import consents
from reconciler.cli.commands.waiting import show_outcome, wait_until_as_desired
from reconciler.cli.errors import DONE, FAILED
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import DOCUMENTS, print_document, print_json
from reconciler.cli.views.layout import Cell, table_or
from reconciler.cli.views.plan import plan_page
from reconciler.cli.views.revisions import history_table
from reconciler.model.answer import History
from reconciler.model.change import Difference, Plan

if TYPE_CHECKING:
    from reconciler.cli.session import Session


_revision = partial(click.argument, required=False, shell_complete=completion.revisions)


@click.command("history")
@options.output("table", "json", "yaml")
@options.with_instance
def history_command(session: Session, output: str) -> int:
    """List the applied revisions, newest first: when, by whom, commit, and outcome."""
    answer = session.client().ask(History, "history", {})
    if output in DOCUMENTS:
        print_document(answer.document("revision", "revisions"), output)
    else:
        table = history_table(answer.value.revisions, time.time_ns())
        terminal.stdout().show(table_or("no revision has been applied yet", table))
    return DONE


@click.command("diff")
@_revision("old", metavar="[A", type=click.IntRange(0))
@_revision("new", metavar="[B]]", type=click.IntRange(0))
@options.output("text", "json", "yaml")
@options.with_instance
def diff_command(session: Session, old: int | None, new: int | None, output: str) -> int:
    """Show what changed from revision A to revision B, field by field.

    Default for B: the current revision; for A: the one before it.
    """
    answer = session.client().ask(Difference, "diff", {"old": old, "new": new})
    found = answer.value
    if output in DOCUMENTS:
        print_document(answer.document("old", "new", "changes"), output)
    elif not found.changes:
        text = f"no difference between revisions {found.old} and {found.new}"
        terminal.stdout().show((Cell(text),))
    else:
        head = f"from revision {found.old} to {found.new}:"
        terminal.stdout().show((Cell(head, "title"),), *plan_page(found.changes)[:-1])
    return DONE


@click.command("rollback")
@_revision("revision", metavar="[REVISION]", type=click.IntRange(1))
@options.dry_run
@options.yes
@options.wait("Wait until everything is as desired.")
@options.allow_removal
@options.reason
@options.output("text", "json")
@options.with_instance
def rollback_command(
    session: Session,
    revision: int | None,
    dry_run: bool,
    yes: bool,
    wait: bool,
    timeout_ns: int,
    allow_removal: bool,
    reason: str | None,
    output: str,
) -> int:
    """Apply the content of an older revision again, as a new revision.

    Without REVISION, the newest good one before the present. The files are not touched: they say
    something else then, and count again once they change.
    """
    client = session.client()
    screen = terminal.stdout() if output == "text" else terminal.nowhere()
    answer = client.ask(Plan, "rollback", {"revision": revision, "dry_run": True})
    plan, document = answer.value, answer.document("revision", "restores", "changes")
    screen.show(
        (Cell(f"to the content of revision {plan.restores}:", "title"),),
        *plan_page(plan.changes, plan.drift, time.time_ns()),
    )
    if dry_run:
        if output == "json":
            print_json(document | {"applied": False})
        return DONE
    if not yes and not consents(plan.changes):
        return FAILED
    done = client.rollback(
        revision, base=plan.revision, allow_removal=allow_removal or None, reason=reason
    )
    code = DONE
    if wait:
        outcome = wait_until_as_desired(client, screen, timeout_ns, revision=done.revision)
        code = outcome.exit_code
        if output == "text":
            show_outcome(screen, client, outcome, timeout_ns)
    if output == "json":
        made = {"revision": done.revision, "restores": done.restores}
        print_json(document | made | {"applied": True})
    return code
