"""The command completion."""

from __future__ import annotations

from typing import Final

import click

from reconciler.cli import errors
from reconciler.cli.completion import VARIABLE

SHELLS: Final = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL: commands, options, names, signals, revisions, fields.

    In ~/.bashrc or ~/.zshrc: eval "$(reconcile completion bash)". For fish: reconcile completion fish
    >~/.config/fish/completions/reconcile.fish
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import reconcile
    from reconciler.cli.views import terminal

    found = get_completion_class(shell)
    assert found is not None
    terminal.stdout().write(found(reconcile, {}, "reconcile", VARIABLE).source() + "\n")
    return errors.DONE
