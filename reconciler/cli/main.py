"""The command `reconcile`: which commands there are, and how each of them ends.

A command's module is imported when the command is called, so that `reconcile status` pays for
nothing else. The one-line helps therefore stand here. Whatever goes wrong becomes a message and
an exit code at one place, `guarded`; a traceback is a defect of ours and never the answer to a
mistake of the user.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from reconciler.cli import errors, options, outcomes
from reconciler.cli.commands_table import COMMANDS, GROUPS, module_of, suggestion
from reconciler.cli.session import Session
from reconciler.cli.views import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Commands(click.Group):
    """The group of all commands; loads the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(module_of(cmd_name))
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, by what they are for, without importing them."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name, each.help) for name, each in commands.items()], col_max=16
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called; an unknown one is answered with near names."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"] if args[1:] else ["--help"]
            if args == ["--help"]:
                click.echo(ctx.get_help())
                ctx.exit()
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            msg = f"no command {args[0]!r}; {suggestion(args[0])}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)


@click.group(
    "reconcile",
    cls=Commands,
    context_settings=options.CONTEXT_SETTINGS,
    invoke_without_command=True,
    epilog=(
        "Exit codes: 0 done; 1 refused or failed; 2 changes pending (plan); 3 not as desired; "
        "4 no manager running; 5 timed out; 64 wrong usage."
    ),
)
@options.instance
@click.option(
    "-V", "-v", "--version", "shows_version", is_flag=True, help="Print the version and exit."
)
@click.pass_context
def reconcile(
    context: click.Context,
    name: str | None,
    runtime_dir: str | None,
    state_dir: str | None,
    shows_version: bool,
) -> None:
    """Keep the processes and sockets of this machine as YAML files describe them.

    Without a command: the interactive shell on a terminal, otherwise this help.
    """
    if shows_version:
        import_module("reconciler.cli.commands.about").show_version()
        context.exit()
    session = context.ensure_object(Session)
    session.choose(name, runtime_dir, state_dir)
    if context.invoked_subcommand is not None:
        return
    if session.in_shell or not terminal.is_conversation():
        click.echo(context.get_help())
        return
    context.exit(int(import_module("reconciler.cli.commands.shell").run_shell(session)))


# ---- how it ends ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if sys.stderr is None:  # closed by who called us
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (until the end)
    if sys.stdout is None:
        sys.stderr.write("reconcile: cannot write the answer: standard output is closed\n")
        return errors.FAILED
    return guarded(lambda: invoke(given, Session()))


def invoke(arguments: Sequence[str], session: Session) -> int:
    """Run one command line in a session; raises what went wrong."""
    result = reconcile.main(
        list(arguments), prog_name="reconcile", standalone_mode=False, obj=session
    )
    return result if isinstance(result, int) else errors.DONE


def guarded(run: Callable[[], int]) -> int:
    """Run and turn every mistake of the user or the world into a message and an exit code."""
    try:
        return outcomes.guarded(run)
    except click.UsageError as error:
        usage = error.ctx.get_usage() + "\n" if error.ctx is not None else ""
        terminal.stderr().write(usage)
        return outcomes.fail(error.format_message(), code=errors.USAGE)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return outcomes.fail(error.format_message(), code=error.exit_code)
    except click.Abort:
        # click has put the shell's next prompt on a line of its own already.
        return errors.INTERRUPTED
