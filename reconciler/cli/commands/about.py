"""Commands about reconcile itself, which need no manager: explain, schema, completion, version."""

from __future__ import annotations

import click

from reconciler import __version__
from reconciler.cli import completion, options, version
from reconciler.cli.errors import DONE, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.documents import print_json


@click.command("explain")
@click.argument("field", default="", shell_complete=completion.fields)
def explain_command(field: str) -> int:
    """Explain a field of the spec: reconcile explain watchers.stop.

    The end of a path is enough: stop.timeout. Without FIELD: all fields.
    """
    from reconciler.specfile.reference import explain

    try:
        text = explain(field)
    except LookupError as error:
        raise Refused(str(error.args[0]), "for a list of all fields: reconcile explain") from None
    terminal.stdout().write(text)
    return DONE


@click.command("schema")
def schema_command() -> int:
    """Print the JSON Schema of the spec, for editors and other tools."""
    from reconciler.specfile.schema import json_schema

    print_json(json_schema())
    return DONE


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL: commands, options, names, signals, revisions, fields.

    In ~/.bashrc or ~/.zshrc: eval "$(reconcile completion bash)". For fish: reconcile completion fish
    >~/.config/fish/completions/reconcile.fish
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import reconcile

    found = get_completion_class(shell)
    assert found is not None
    terminal.stdout().write(found(reconcile, {}, "reconcile", completion.VARIABLE).source() + "\n")
    return DONE


def show_version() -> None:
    """Write the version of reconcile and of the Python that runs it."""
    terminal.stdout().write(version.text(__version__))


@click.command("version")
@options.output("text", "json")
def version_command(output: str) -> int:
    """Print the version of reconcile and of the Python that runs it."""
    if output == "json":
        print_json({"version": __version__, "python": version.python()})
    else:
        show_version()
    return DONE
