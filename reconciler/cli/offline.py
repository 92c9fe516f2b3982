"""Commands that need no manager: validate, schema, explain, version."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import click

from reconciler import __version__
from reconciler.cli import completion, render, terminal
from reconciler.cli.errors import DONE, FAILED, Refused
from reconciler.cli.layout import Cell
from reconciler.cli.options import output_option, print_json, writable_option
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from reconciler.cli.connection.loading import Loaded
    from reconciler.cli.terminal import Terminal


@click.command("validate")
@click.argument("spec", metavar="[SPEC]...", nargs=-1)
@output_option("text", "json", "github")
@writable_option
def validate_command(spec: tuple[str, ...], output: str) -> int:
    """Report every mistake of the spec with its place, the source line and what to try.

    SPEC is a file or folder; without it, reconcile.yaml or specs/ in this folder or above.
    `github` writes annotations for GitHub Actions.
    """
    from reconciler.cli.connection import loading
    from reconciler.cli.launch import show_warnings

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
        lines = [render.github_annotation(each, os.getcwd(), level) for each, level in found]
        terminal.stdout().write("".join(f"{line}\n" for line in lines))
    else:
        _show_verdict(terminal.stdout(), loaded)
        show_warnings(loaded)
    return FAILED if loaded.spec is None else DONE


def _show_verdict(screen: Terminal, loaded: Loaded) -> None:
    if loaded.spec is None:
        screen.show(*render.spec_error_blocks(loaded.errors, folder=os.getcwd()))
        screen.show((Cell(f"{render.mistakes(len(loaded.errors))} found", "bad"),))
        return
    watchers, sockets = (len(_entries(loaded.spec.get(key))) for key in ("watchers", "sockets"))
    counts = f"{format_count(watchers, 'watcher')}, {format_count(sockets, 'socket')}"
    screen.show((Cell("valid: ", "good"), Cell(counts)))


def _entries(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


@click.command("explain")
@click.argument("field", default="", shell_complete=completion.fields)
def explain_command(field: str) -> int:
    """Explain a field of the spec: reconcile explain watchers.stop.

    The end of a path is enough: stop.timeout. Without FIELD: all fields.
    """
    from reconciler.specfile import explain

    try:
        text = explain(field)
    except LookupError as error:
        raise Refused(str(error.args[0]), "for a list of all fields: reconcile explain") from None
    terminal.stdout().write(text)
    return DONE


@click.command("schema")
def schema_command() -> int:
    """Print the JSON Schema of the spec, for editors and other tools."""
    from reconciler.specfile import json_schema

    print_json(json_schema())
    return DONE


def show_version() -> None:
    """Write the version of reconcile and of the Python that runs it."""
    terminal.stdout().write(f"reconcile {__version__} (Python {platform.python_version()})\n")


@click.command("version")
@output_option("text", "json")
def version_command(output: str) -> int:
    """Print the version of reconcile and of the Python that runs it."""
    if output == "json":
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        show_version()
    return DONE
