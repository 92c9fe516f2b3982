"""The interactive shell: the same commands with completion and history, over one connection."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from reconciler.cli import completion, errors, options
from reconciler.cli.commands_table import COMMANDS
from reconciler.cli.connection import places
from reconciler.cli.main import guarded, invoke
from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Cell, Wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prompt_toolkit.document import Document

    from reconciler.cli.session import Session

LEAVE: Final = frozenset({"quit", "exit"})
NOT_HERE: Final = frozenset({"shell", "run", "up", "exec"})
"""Commands that would take over the terminal or the process."""


@click.command("shell")
@options.with_instance
def shell_command(session: Session) -> int:
    """Run commands interactively. quit or Ctrl-D leaves the shell and stops nothing."""
    if session.in_shell:
        terminal.stdout().write("this is already the shell\n")
        return errors.DONE
    return run_shell(session)


def run_shell(session: Session) -> int:
    """Show the status, then take commands until quit or the end of the input."""
    session.in_shell = True
    screen = terminal.stdout()
    guarded(lambda: invoke(["status"], session))
    screen.show(Wrapped((Cell("commands: ", "quiet"), Cell(", ".join(_commands()), "quiet"))))
    prompt: PromptSession[str] = PromptSession(
        history=_history(), completer=ShellCompleter(session), complete_while_typing=False
    )
    code = errors.DONE
    while True:
        try:
            line = prompt.prompt(f"{_prompt_name(session)}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
        words = _words(line)
        if words is None:
            continue
        if words and words[0] in LEAVE:
            break
        if words:
            code = run_line(words, session)
    for client in session.kept.values():
        client.close()
    return code if code != errors.INTERRUPTED else errors.DONE


def run_line(words: list[str], session: Session) -> int:
    """Run one command of the shell and return its exit code."""
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0] in NOT_HERE:
        terminal.stderr().write(f"reconcile: {words[0]} does not work in the shell\n")
        return errors.USAGE
    return guarded(lambda: invoke(words, session))


def _words(line: str) -> list[str] | None:
    try:
        words = shlex.split(line)
    except ValueError as error:
        terminal.stderr().write(f"reconcile: cannot read the line: {error}\n")
        return None
    # People paste whole command lines.
    return words[1:] if words[:1] == ["reconcile"] else words


def _commands() -> list[str]:
    return [*(name for name in COMMANDS if name not in NOT_HERE), "help", "quit"]


def _prompt_name(session: Session) -> str:
    try:
        return session.instance().name
    except errors.CommandError:
        return "reconcile"


def _history() -> History:
    """Return the history in the user's state folder, or none when that cannot be written."""
    folder = places.state_root()
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, "history")
        # What people typed may hold what only they should read.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


class ShellCompleter(Completer):
    """Completes what every shell does, without the commands that do not work in here."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what may stand in place of the word before the cursor."""
        before = document.text_before_cursor
        words = before.split()
        word = "" if not before or before[-1].isspace() else words.pop()
        for candidate in self._candidates(words, word):
            yield Completion(candidate, start_position=-len(word))

    def _candidates(self, words: list[str], word: str) -> Iterable[str]:
        if not words:
            return [each for each in _commands() if each.startswith(word)]
        if words == ["help"]:
            return [each for each in COMMANDS if each.startswith(word)]
        return completion.candidates(self._session, words, word)
