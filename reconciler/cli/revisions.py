"""Commands about revisions of the applied spec: history, diff and rollback."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from reconciler.cli import completion, render, terminal
from reconciler.cli.desired import consents
from reconciler.cli.errors import DONE, FAILED
from reconciler.cli.layout import Cell, Table
from reconciler.cli.operate import reasoned
from reconciler.cli.options import (
    DOCUMENTS,
    output_option,
    print_document,
    print_json,
    timeout_option,
    with_instance,
)
from reconciler.cli.progress import show_outcome, wait_until_as_desired
from reconciler.model.answer import History
from reconciler.model.change import Difference, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.layout import Block, Line
    from reconciler.cli.session import Session
    from reconciler.model.answer import RevisionEntry


@click.command("history")
@output_option("table", "json", "yaml")
@with_instance()
def history_command(session: Session, output: str) -> int:
    """List the applied revisions, newest first: when, by whom, commit, and outcome."""
    answer = session.client().ask(History, "history", {})
    found = answer.value.revisions
    if output in DOCUMENTS:
        print_document(answer.document("revision", "revisions"), output)
    else:
        page: list[Block] = (
            [_table(found)] if found else [(Cell("no revision has been applied yet", "quiet"),)]
        )
        terminal.stdout().show(*page)
    return DONE


def _table(found: Sequence[RevisionEntry]) -> Table:
    now_ns = time.time_ns()
    rows: list[Line] = [
        (
            Cell(str(one.number)),
            Cell(f"{render.age(one.applied_ns, now_ns)} ago"),
            Cell(one.who),
            Cell(render.commit_text(one.commit, dirty=one.dirty) or "-"),
            Cell(one.outcome, render.OUTCOME_STYLES.get(one.outcome, "")),
            Cell(_note(one, now_ns)),
        )
        for one in found
    ]
    return Table(("REVISION", "APPLIED", "BY", "COMMIT", "OUTCOME", "NOTE"), rows, ("COMMIT",))


def _note(one: RevisionEntry, now_ns: int) -> str:
    again = f"the content of {one.restores} again" if one.restores else ""
    reason = one.reason
    if one.outcome == "pending":
        reason = render.verdict_text(one.due_ns, reason, now_ns)
    return "; ".join(part for part in (again, reason) if part)


@click.command("diff")
@click.argument(
    "old", metavar="[A", type=click.IntRange(0), required=False, shell_complete=completion.revisions
)
@click.argument(
    "new",
    metavar="[B]]",
    type=click.IntRange(0),
    required=False,
    shell_complete=completion.revisions,
)
@output_option("text", "json", "yaml")
@with_instance()
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
        terminal.stdout().show((Cell(head, "title"),), *render.plan_page(found.changes)[:-1])
    return DONE


@click.command("rollback")
@click.argument(
    "revision",
    metavar="[REVISION]",
    type=click.IntRange(1),
    required=False,
    shell_complete=completion.revisions,
)
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before something is removed.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until everything is as desired."
)
@timeout_option("60s")
@click.option("--allow-removal", is_flag=True, help="Allow more removals than apply.max_removal.")
@reasoned
@output_option("text", "json")
@with_instance()
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
        *render.plan_page(plan.changes, plan.drift, time.time_ns()),
    )
    if dry_run:
        if output == "json":
            print_json(document | {"applied": False})
        return DONE
    if not yes and not consents(plan.changes):
        terminal.stderr().write("nothing was changed\n")
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
    sys.stdout.flush()
    return code
