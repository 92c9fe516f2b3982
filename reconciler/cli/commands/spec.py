"""The command validate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.errors import DONE, FAILED
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.mistakes import (
    github_annotation,
    mistakes,
    show_warnings,
    spec_error_blocks,
)
from reconciler.cli.views.schedule import next_runs_line
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from reconciler.cli.connection.loading import Loaded
    from reconciler.cli.views.terminal import Terminal


@click.command("validate")
@options.spec
@options.output("text", "json", "github")
@options.writable
def validate_command(spec: tuple[str, ...], output: str) -> int:
    """Report every mistake of the spec with its place, the source line and what to try.

    SPEC is a file or folder; without it, reconcile.yaml or specs/ in this folder or above.
    `github` writes annotations for GitHub Actions.
    """
    from reconciler.cli.connection import loading

    loaded = loading.load(loading.find(spec))
    if output == "json":
        print_json(
            {
                "valid": loaded.spec is not None,
                "errors": loaded.errors,
                "warnings": loaded.warnings,
                "files": loaded.files,
            }
        )
    elif output == "github":
        found = [(each, "error") for each in loaded.errors]
        found += [(each, "warning") for each in loaded.warnings]
        lines = [github_annotation(each, os.getcwd(), level) for each, level in found]
        terminal.stdout().write("".join(f"{line}\n" for line in lines))
    else:
        _show_verdict(terminal.stdout(), loaded)
        show_warnings(loaded.warnings)
    return FAILED if loaded.spec is None else DONE


def _show_verdict(screen: Terminal, loaded: Loaded) -> None:
    if loaded.spec is None:
        screen.show(*spec_error_blocks(loaded.errors, folder=os.getcwd()))
        screen.show((Cell(f"{mistakes(len(loaded.errors))} found", "bad"),))
        return
    counts = (format_count(len(loaded.block(f"{noun}s")), noun) for noun in ("watcher", "socket"))
    screen.show((Cell("valid: ", "good"), Cell(", ".join(counts))))
    for name, runs in loaded.next_runs.items():
        screen.show(next_runs_line(name, runs))
