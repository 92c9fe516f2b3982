"""Options that several commands share."""

from __future__ import annotations

import os
import re
import time
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar

import click

from reconciler.cli.session import Session
from reconciler.model.units import SECOND_NS, parse_duration_ns
from reconciler.specfile.trust import ALLOW

if TYPE_CHECKING:
    from collections.abc import Callable


Decorated = TypeVar("Decorated", bound="Callable[..., object]")

CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def instance_options(function: Decorated) -> Decorated:
    """Add --name, --runtime-dir and --state-dir."""
    for option, metavar, help_ in (
        ("--state-dir", "DIR", "Folder of logs and state [env RECONCILE_STATE_DIR]."),
        ("--runtime-dir", "DIR", "Folder of the control socket [env RECONCILE_RUNTIME_DIR]."),
        ("--name", "NAME", "Name of the instance [env RECONCILE_NAME]."),
    ):
        function = click.option(option, metavar=metavar, help=help_)(function)
    return function


def with_instance() -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of the instance, all of them, and its session as first argument."""

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @click.pass_context
        @wraps(function)
        def command(context: click.Context, /, **given: object) -> int:
            own = {key: _text(given.pop(key, None)) for key in ("name", "runtime_dir", "state_dir")}
            # What a command says of its instance is for this command only, also in the shell.
            session = copy(context.ensure_object(Session))
            session.choose(own["name"], own["runtime_dir"], own["state_dir"])
            return function(session, **given)

        return instance_options(command)

    return decorate


def replace_source_option(function: Decorated) -> Decorated:
    """Add --replace-source."""
    return click.option(
        "--replace-source",
        is_flag=True,
        help="Make the instance, with its state and processes, follow SPEC from now on instead of its present spec.",
    )(function)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def output_option(*formats: str) -> Callable[[Decorated], Decorated]:
    """Add -o with the formats of a command, the first of them the default."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def labels_option(function: Decorated) -> Decorated:
    """Add -l, which selects watchers by labels."""
    return click.option(
        "-l",
        "--label",
        "--selector",
        "labels",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_read_labels,
        help="Only watchers with these labels; repeatable, or a=1,b=2.",
    )(function)


def timeout_option(default: str) -> Callable[[Decorated], Decorated]:
    """Add --timeout with a duration such as 30s; the value is in nanoseconds."""
    return click.option(
        "--timeout",
        "timeout_ns",
        metavar="DURATION",
        default=default,
        show_default=True,
        callback=read_duration,
        help="How long to wait at most.",
    )


def reason_option(function: Decorated) -> Decorated:
    """Add --reason."""
    return click.option("--reason", metavar="TEXT", help="Why; shown in status and events.")(
        function
    )


def wait_option(until: str, *, default: bool = True) -> Callable[[Decorated], Decorated]:
    """Add --wait and --timeout; `until` is what the help says it waits for."""

    def decorate(function: Decorated) -> Decorated:
        function = timeout_option("60s")(function)
        return click.option(
            "--wait/--no-wait", default=default, show_default=True, help=f"Wait until {until}."
        )(function)

    return decorate


def wait_jobs_option(function: Decorated) -> Decorated:
    """Add --wait-jobs."""
    return click.option(
        "--wait-jobs",
        is_flag=True,
        help="Also wait for running jobs to end; exit code 3 when one fails.",
    )(function)


def writable_option(function: Decorated) -> Decorated:
    """Add --allow-writable-specs, which everything that is started from here inherits."""
    return click.option(
        "--allow-writable-specs",
        is_flag=True,
        expose_value=False,
        callback=_allow_writable,
        help=f"As root: accept spec files that other users may write [env {ALLOW}=1].",
    )(function)


def _allow_writable(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[ALLOW] = "1"


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
    try:
        return time.time_ns() - parse_duration_ns(text)
    except ValueError:
        pass
    if re.match(r"\d{4}-\d\d-\d\d", text):
        from datetime import datetime

        try:
            return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
        except ValueError:
            pass
    msg = f"--since: expected 10m or a time such as 2026-01-02T03:04, found {text!r}"
    raise click.UsageError(msg)


def seconds(nanoseconds: int) -> float:
    """Return a duration in seconds, for the standard library."""
    return nanoseconds / SECOND_NS
