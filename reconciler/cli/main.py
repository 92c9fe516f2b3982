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
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli import errors, terminal
from reconciler.cli.layout import Block, Cell, Wrapped
from reconciler.cli.options import CONTEXT_SETTINGS, Session, instance_options, remember_instance
from reconciler.model.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("launch", "Start, apply and stream the logs; Ctrl-C stops everything in order."),
    "run": ("launch", "The manager in the foreground, for systemd and friends."),
    "apply": ("desired", "Validate, show the plan, make it so and wait until it is."),
    "plan": ("desired", "What apply would do and why; exit 2 when there are changes."),
    "history": ("revisions", "The revisions of the applied spec, and what came of each."),
    "diff": ("revisions", "What one revision says otherwise than another."),
    "rollback": ("revisions", "Apply the content of an older revision once more."),
    "validate": ("offline", "Every mistake of the spec with its place; needs no manager."),
    "status": ("look", "What is wanted, what is, and why they differ."),
    "logs": ("look", "The output of the processes."),
    "events": ("look", "What has happened, in order."),
    "start": ("operate", "Start watchers or slots."),
    "stop": ("operate", "Stop watchers or slots and keep them stopped."),
    "restart": ("operate", "Replace processes one by one."),
    "reload": ("operate", "Do what the field `reload` of a watcher says."),
    "signal": ("operate", "Send a signal."),
    "scale": ("operate", "Set the number of processes."),
    "resume": ("operate", "Let the spec count again after stop, start or scale by hand."),
    "rerun": ("operate", "Fire a job again."),
    "runs": ("runs", "The runs of a job: when, why, and how they ended."),
    "upgrade": ("upgrade", "Replace the manager's own code; every process stays."),
    "shutdown": ("operate", "Stop everything in order and end the manager."),
    "ls": ("look", "The instances on this machine."),
    "install-service": ("service", "Write a systemd unit that runs the manager."),
    "schema": ("offline", "The JSON Schema of the spec, for editors."),
    "explain": ("offline", "What a field of the spec means."),
    "shell": ("shell", "These commands, interactively."),
    "version": ("offline", "The version of reconcile."),
}


class Commands(click.Group):
    """The group of all commands; loads the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"reconciler.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called; an unknown one is answered with near names."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else "see: reconcile --help"
            msg = f"no command {args[0]!r}; {hint}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)


@click.group(
    "reconcile",
    cls=Commands,
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
    epilog=(
        "Exit codes: 0 done; 1 refused or failed; 2 usage, or changes pending for plan; "
        "3 not as wanted; "
        "4 no manager running; 5 timed out."
    ),
)
@instance_options
@click.pass_context
def reconcile(
    context: click.Context, name: str | None, runtime_dir: str | None, state_dir: str | None
) -> None:
    """Keep the processes and sockets of this machine as a set of YAML files says.

    Without a command: the interactive shell on a terminal, else this help.
    """
    session = context.ensure_object(Session)
    remember_instance(session, name, runtime_dir, state_dir)
    if context.invoked_subcommand is not None:
        return
    if session.in_shell or not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo(context.get_help())
        return
    context.exit(int(import_module("reconciler.cli.shell").run_shell(session)))


# ---- how it ends ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
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
        code = run()
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.format_message(), "", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        # click has put the shell's next prompt on a line of its own already.
        return errors.INTERRUPTED
    except errors.CommandError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except RequestError as error:
        return _request_failed(error)
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.FAILED
    return code


def _usage(error: click.UsageError) -> int:
    usage = error.ctx.get_usage() + "\n" if error.ctx is not None else ""
    terminal.stderr().write(usage)
    return _fail(error.format_message(), "", errors.USAGE)


def _request_failed(error: RequestError) -> int:
    mistakes = error.details.get("errors")
    if isinstance(mistakes, list) and mistakes:
        from reconciler.cli import render, shapes

        found = shapes.spec_errors(mistakes)
        terminal.stderr().show(*render.spec_error_blocks(found, folder=os.getcwd()))
        return _fail(
            f"{render.mistakes(len(found))} in the spec, nothing was changed", "", errors.FAILED
        )
    code = errors.TIMED_OUT if error.code == "timeout" else errors.FAILED
    return _fail(error.message, str(error.details.get("hint", "")), code)


def _fail(message: str, hint: str, code: int) -> int:
    page: list[Block] = [Wrapped((Cell("reconcile: ", "bad"), Cell(message)))]
    if hint:
        page.append(Wrapped((Cell("  hint: ", "cyan"), Cell(hint))))
    terminal.stderr().show(*page)
    return code


if __name__ == "__main__":
    sys.exit(main())
