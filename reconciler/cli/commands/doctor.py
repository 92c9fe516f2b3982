"""The command doctor: what this machine allows, and what is amiss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.checks import groups, instance, machine, places, platform, resources
from reconciler.cli.checks.needs import Needs, needs_of
from reconciler.cli.errors import DONE, FAILED, CommandError, NoManager, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.doctor import report
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.model.errors import RequestError
from reconciler.model.finding import Finding

if TYPE_CHECKING:
    from reconciler.cli.session import Session
    from reconciler.model.status import Status


@click.command("doctor")
@options.spec
@options.output("table", "json", "yaml")
@options.writable
@options.with_instance
def doctor_command(session: Session, spec: tuple[str, ...], output: str) -> int:
    """Say what this machine allows, what is amiss, what that means and what to do.

    Needs neither a manager nor a spec. With a spec (SPEC, or the one in this folder or above) it
    is held against what that needs; a running manager is asked, too. Nothing is changed. Exit code 1
    when there is a problem; warnings alone are 0.
    """
    about_spec, needs = _spec(session, spec)
    about_manager, status = _manager(session)
    pid = None if status is None else status.keeper_pid
    facts = machine.this_machine()
    if pid is not None:
        facts = machine.as_seen_by(facts, pid)
    findings = [
        *platform.platform(facts, needs),
        *resources.resources(facts, needs),
        *groups.groups(facts, needs, pid, None if status is None else status.containment),
        *_places(session, facts),
        *about_spec,
        *about_manager,
    ]
    if output in DOCUMENTS:
        print_document(findings, output)
    else:
        terminal.stdout().show(*report(findings))
    return FAILED if any(each.level == "problem" for each in findings) else DONE


def _spec(session: Session, given: tuple[str, ...]) -> tuple[list[Finding], Needs]:
    """Read the spec; none at all is no trouble unless one was named."""
    from reconciler.cli.connection import loading

    try:
        source = loading.find(given)
    except Refused as refused:
        if given:
            raise
        return [Finding("spec", "ok", refused.message)], Needs()
    session.spec = source
    loaded = loading.load(source)
    watchers = None if loaded.spec is None else len(loaded.block("watchers"))
    found = instance.spec(source.paths, watchers, loaded.errors, loaded.warnings)
    return [found], needs_of(loaded.spec or {})


def _manager(session: Session) -> tuple[list[Finding], Status | None]:
    try:
        status = session.client().status()
    except NoManager:
        return [Finding("manager", "ok", "none runs here")], None
    except (CommandError, RequestError) as error:
        found = getattr(error, "message", str(error))
        meaning = "what it says of itself is not known"
        return [Finding("manager", "warning", found, meaning, "reconcile ls")], None
    return instance.manager(status), status


def _places(session: Session, facts: machine.Machine) -> list[Finding]:
    """Look at the folders of the instance that is meant; at none, when nothing says which one that is."""
    try:
        where = session.instance()
    except CommandError:
        return []
    return places.places(facts, where.state_dir, where.runtime_dir)
