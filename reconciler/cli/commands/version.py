"""The command version."""

from __future__ import annotations

import platform

import click

from reconciler import __version__
from reconciler.cli import options
from reconciler.cli.errors import DONE
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json


def show_version() -> None:
    """Write the version of reconcile and of the Python that runs it."""
    terminal.stdout().write(f"reconcile {__version__} (Python {platform.python_version()})\n")


@click.command("version")
@options.output("text", "json")
def version_command(output: str) -> int:
    """Print the version of reconcile and of the Python that runs it."""
    if output == "json":
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        show_version()
    return DONE
