"""Which commands there are: in groups for the help, and what people type who know other tools.

Standard library only: everything that is typed starts here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """The module of a command, and its line in the help."""

    module: str
    help: str


GROUPS: Final[dict[str, dict[str, Command]]] = {
    "Run": {
        "up": Command("launch", "Start, apply and stream the logs; Ctrl-C stops everything in order."),
        "run": Command("launch", "Run the manager in the foreground, for systemd and containers."),
        "shutdown": Command("shutdown", "Stop everything in order and end the manager."),
        "upgrade": Command("upgrade", "Replace the manager's own code; no process is restarted."),
        "ls": Command("instances", "List the instances on this machine."),
    },
    "Change": {
        "validate": Command("spec", "Report every mistake of the spec with its place; needs no manager."),
        "plan": Command("plan", "Show what apply would do and why; exit 2 when there are changes."),
        "apply": Command("plan", "Validate, show the plan, apply it and wait until it has taken effect."),
        "history": Command("revisions", "List the revisions of the spec and how each turned out."),
        "diff": Command("revisions", "Show what changed between two revisions."),
        "rollback": Command("revisions", "Apply the content of an older revision again."),
    },
    "Look": {
        "status": Command("status", "Show desired and observed state, and why they differ."),
        "stats": Command("stats", "Show processor time and memory of processes and all they have started."),
        "top": Command("stats", "Show what uses most, on the whole terminal."),
        "why": Command("why", "Say why a watcher is as it is, what it waits for, and what happens next."),
        "logs": Command("logs", "Show the output of the processes."),
        "events": Command("events", "Show what has happened, in order."),
        "runs": Command("runs", "List the runs of a job: when, why, and how they ended."),
        "list": Command("listing", "List watchers, or the pids of one."),
        "numprocesses": Command("listing", "Print how many processes run."),
        "options": Command("listing", "Show every field of a watcher as it is in force."),
        "listsockets": Command("listing", "List the sockets that the manager holds."),
        "wait": Command("wait", "Wait until watchers are ready, have succeeded, or have stopped."),
    },
    "Operate": {
        "start": Command("orders", "Start watchers."),
        "stop": Command("orders", "Stop watchers and keep them stopped."),
        "restart": Command("orders", "Replace processes one by one."),
        "reload": Command("orders", "Reload as the watcher's `reload` field says."),
        "signal": Command("orders", "Send a signal to processes."),
        "scale": Command("orders", "Set the number of processes."),
        "incr": Command("orders", "Run more processes of a watcher."),
        "decr": Command("orders", "Run fewer processes of a watcher."),
        "resume": Command("orders", "Drop manual overrides (stop, start, scale) and follow the spec again."),
        "rerun": Command("orders", "Run a job again."),
        "exec": Command("exec", "Run a command as a process of a watcher would be run."),
    },
    "Set up": {
        "explain": Command("about", "Explain a field of the spec."),
        "schema": Command("about", "Print the JSON Schema of the spec, for editors."),
        "doctor": Command("doctor", "Say what this machine allows, what is amiss, and what to do."),
        "install-service": Command("service", "Write a systemd unit that runs the manager."),
        "completion": Command("about", "Print the completion script for bash, zsh or fish."),
        "shell": Command("shell", "Run these commands interactively."),
        "version": Command("about", "Print the version of reconcile."),
    },
}  # fmt: skip
COMMANDS: Final = {name: each for group in GROUPS.values() for name, each in group.items()}


def module_of(command: str) -> str:
    """Return the name of the module that a command lies in."""
    return f"reconciler.cli.commands.{COMMANDS[command].module}"


CHANGES: Final = frozenset(
    ("up", "run", "shutdown", "upgrade", "apply", "rollback", *GROUPS["Operate"], "install-service")
)
"""Commands that change something: suggested only for a word that is very close."""

_USE: Final = {
    "status": "ps info",
    "status -w": "monitor monit watch",
    "top": "htop",
    "status -o wide": "describe show tree",
    "status -o json": "inspect",
    "logs": "journal log",
    "logs -f": "attach tail",
    "signal KILL NAME": "kill",
    "start NAME": "enable",
    "stop NAME": "disable",
    "options NAME": "get",
    "shutdown": "down exit quit",
    "run": "daemon",
    "apply": "daemon-reload deploy reloadconfig sync update",
    "plan": "reread",
    "rollback": "undo",
    "ls": "instances",
    "validate": "check lint test",
    "doctor": "diagnose health troubleshoot",
    "explain": "config fields",
}
OTHER_WORDS: Final = {
    **{word: f"use: reconcile {use}" for use, words in _USE.items() for word in words.split()},
    "init": "write a reconcile.yaml, then: reconcile validate",
    "edit": "edit the files; reconcile plan shows what would change",
    "clear": "log files are rotated by themselves (logs.max_size)",
}
"""What is typed for kubectl, docker compose, systemctl, supervisorctl, circusctl or pm2, and what answers here.

Who only looks is never sent to a command that changes something.
"""


def suggestion(word: str) -> str:
    """Return what to type instead of a word that is no command."""
    if word.lower() in OTHER_WORDS:
        return OTHER_WORDS[word.lower()]
    from difflib import SequenceMatcher

    def likeness(name: str) -> float:
        return SequenceMatcher(None, word.lower(), name).ratio()

    near = [name for name in COMMANDS if likeness(name) >= (0.8 if name in CHANGES else 0.7)]
    near.sort(key=likeness, reverse=True)
    return f"did you mean {' or '.join(near[:2])}?" if near else "see: reconcile --help"
