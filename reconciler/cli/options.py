"""Options that several commands share."""

from __future__ import annotations

import contextlib
import os
import re
import time
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar

import click

from reconciler.cli.session import Session
from reconciler.model.units import parse_duration_ns
from reconciler.specfile.trust import ALLOW

if TYPE_CHECKING:
    from collections.abc import Callable


Decorated = TypeVar("Decorated", bound="Callable[..., object]")

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


# ---- how values are read -------------------------------------------------------------------------


def _read_labels(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    labels = {}
    for value in (part for each in values for part in each.split(",")):
        key, equals, text = value.partition("=")
        if not (key and equals):
            msg = f"expected KEY=VALUE, found {value!r}"
            raise click.BadParameter(msg)
        labels[key] = text
    return labels


def read_duration(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    """Return the nanoseconds of an option's duration, None when it was not given."""
    if value is None:
        return None
    try:
        # A bare number is taken as seconds, as sleep(1) and timeout(1) do.
        number: object = float(value) if value.replace(".", "", 1).isdigit() else value
        nanoseconds = parse_duration_ns(number, bare_seconds=True)
    except ValueError as error:
        msg = f"{error}, found {value!r}"
        raise click.BadParameter(msg) from None
    if nanoseconds == 0:
        waits = "; use --no-wait to return at once" if parameter.name == "timeout_ns" else ""
        msg = f"must be greater than zero{waits}"
        raise click.BadParameter(msg)
    return nanoseconds


def earliest(text: str) -> int:
    """Return the wall time that --since means: 10m ago, or 2026-01-02T03:04."""
    with contextlib.suppress(ValueError):
        return time.time_ns() - parse_duration_ns(text)
    if re.match(r"\d{4}-\d\d-\d\d", text):
        from datetime import datetime

        with contextlib.suppress(ValueError):
            return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
    msg = f"--since: expected 10m or a time such as 2026-01-02T03:04, found {text!r}"
    raise click.UsageError(msg)


def _allow_writable(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[ALLOW] = "1"


# ---- options -------------------------------------------------------------------------------------

spec = click.argument("spec", metavar="[SPEC]...", nargs=-1)
labels = click.option(
    "-l",
    "--label",
    "--selector",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_read_labels,
    help="Only watchers with these labels; repeatable, or a=1,b=2.",
)
reason = click.option("--reason", metavar="TEXT", help="Why; shown in status and events.")
timeout = click.option(
    "--timeout",
    "timeout_ns",
    metavar="DURATION",
    default="60s",
    show_default=True,
    callback=read_duration,
    help="How long to wait at most.",
)
dry_run = click.option("--dry-run", is_flag=True, help="Only show the plan.")
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask before something is removed.")
allow_removal = click.option(
    "--allow-removal", is_flag=True, help="Allow more removals than apply.max_removal."
)
replace_source = click.option(
    "--replace-source",
    is_flag=True,
    help="Make the instance, with its state and processes, follow SPEC from now on instead of its present spec.",
)
wait_jobs = click.option(
    "--wait-jobs",
    is_flag=True,
    help="Also wait for running jobs to end; exit code 3 when one fails.",
)
writable = click.option(
    "--allow-writable-specs",
    is_flag=True,
    expose_value=False,
    callback=_allow_writable,
    help=f"As root: accept spec files that other users may write [env {ALLOW}=1].",
)
"""Everything that is started from here inherits it."""


def output(*formats: str) -> Callable[[Decorated], Decorated]:
    """Return -o with the formats of a command, the first of them the default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def wait(help_: str, *, default: bool = True) -> Callable[[Decorated], Decorated]:
    """Return --wait and --timeout."""
    flag = click.option("--wait/--no-wait", default=default, show_default=True, help=help_)
    return lambda function: flag(timeout(function))


def instance(function: Decorated) -> Decorated:
    """Add --name, --runtime-dir and --state-dir."""
    for option, metavar, help_ in (
        ("--state-dir", "DIR", "Folder of logs and state [env RECONCILE_STATE_DIR]."),
        ("--runtime-dir", "DIR", "Folder of the control socket [env RECONCILE_RUNTIME_DIR]."),
        ("--name", "NAME", "Name of the instance [env RECONCILE_NAME]."),
    ):
        function = click.option(option, metavar=metavar, help=help_)(function)
    return function


def with_instance(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of the instance, all of them, and its session as first argument."""

    @click.pass_context
    @wraps(function)
    def command(
        context: click.Context,
        /,
        name: str | None,
        runtime_dir: str | None,
        state_dir: str | None,
        **given: object,
    ) -> int:
        # What a command says of its instance is for this command only, also in the shell.
        session = copy(context.ensure_object(Session))
        session.choose(name, runtime_dir, state_dir)
        return function(session, **given)

    return instance(command)
