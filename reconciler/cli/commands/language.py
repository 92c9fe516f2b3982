"""Commands about the language of the spec: explain, schema."""

from __future__ import annotations

import click

from reconciler.cli import completion
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
