"""Commands that become or start a manager: run, up."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import click

from reconciler.cli import loading, locate, places, terminal
from reconciler.cli.errors import DONE, FAILED, Refused, TimedOut
from reconciler.cli.layout import Cell
from reconciler.cli.locate import Instance
from reconciler.cli.options import (
    Session,
    replace_source_option,
    timeout_option,
    wait_jobs_option,
    with_instance,
    writable_option,
)
from reconciler.cli.spec_head import loaded_head, read_head
from reconciler.specfile.source import Source
from reconciler.wire.manager_file import is_same_source, read_manager_file

if TYPE_CHECKING:
    from reconciler.cli.loading import Loaded

READY_TIMEOUT_S: Final = 30.0
DEFAULT_CONTROL_MODE: Final = 0o600
DEFAULT_UMASK: Final = 0o022
STATE_FILE: Final = "state.db"
LOG_FILE: Final = "reconcile.log"


@dataclass(frozen=True, slots=True)
class Start:
    """Everything that a manager is started with."""

    instance: Instance
    state_dir: str
    source: Source
    daemon: Mapping[str, object]
    """The `daemon` block of the spec, without what is at its default; empty when the spec is
    invalid."""
    reading: int | None = None
    """Descriptor of what the reader said of a valid spec, so that the controller need not read it
    again."""
    started_by: str = ""
    """How and by whom, such as `up by root`: the history says so."""

    def keeper_argv(
        self,
        *,
        hup: Literal["reload", "stop"],
        until_done: bool,
        ready_fd: int | None = None,
        viewed: bool = False,
    ) -> list[str]:
        """Return the command line of the keeper.

        `viewed` says that a viewer shows the events: the manager's own log then goes to a file.
        """
        log = _map(self.daemon.get("log"))
        level = str(log.get("level", "info"))
        file = log.get("file") or (os.path.join(self.state_dir, LOG_FILE) if viewed else None)
        controller = {
            "name": self.instance.name,
            "state_dir": self.state_dir,
            "runtime_dir": self.instance.runtime_dir,
            "source": list(self.source.paths),
            "until_done": until_done,
            "started_by": self.started_by,
            "log_level": level,
            "log_format": log.get("format", "text"),
            "log_file": file,
            "reading_fd": self.reading,
        }
        control = _map(self.daemon.get("control"))
        keeper = {
            "name": self.instance.name,
            "state_dir": self.state_dir,
            "runtime_dir": self.instance.runtime_dir,
            "control_mode": control.get("mode", DEFAULT_CONTROL_MODE),
            "control_owner": control.get("owner"),
            "control_group": control.get("group"),
            "cgroup": self.daemon.get("cgroup"),
            "umask": self.daemon.get("umask", DEFAULT_UMASK),
            "controller_argv": [
                sys.executable,
                "-I",
                "-m",
                "reconciler.controller",
                json.dumps(controller),
            ],
            "hup": hup,
            "ready_fd": ready_fd,
            "log_level": "warning" if viewed else level,
        }
        return [sys.executable, "-I", "-m", "reconciler.keeper", json.dumps(keeper)]


@click.command("run")
@click.argument("spec", metavar="[SPEC]...", nargs=-1)
@replace_source_option
@writable_option
@with_instance()
def run_command(session: Session, spec: tuple[str, ...], replace_source: bool) -> int:
    """Run the manager in the foreground, with no output but its own log.

    For systemd and other supervisors. SIGTERM or SIGINT stops everything in order, SIGHUP reads the spec
    again. If the spec has mistakes and an earlier one was applied, that one keeps running.
    """
    session.replaces_source = replace_source
    loaded = loading.load(loading.find(spec))
    show_warnings(loaded)
    start = prepare(session, loaded, "run")
    if places.is_temporary(start.state_dir):
        terminal.stderr().write(f"reconcile: {without_home(start.state_dir)}\n")
    if loaded.spec is None:
        show_mistakes(loaded)
        if not has_past(start.state_dir):
            return FAILED
        terminal.stderr().write("reconcile: continuing with the spec that was applied last\n")
    return _become(start, start.keeper_argv(hup="reload", until_done=False))


@click.command("up")
@click.argument("spec", metavar="[SPEC]...", nargs=-1)
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Run in the background; return when everything is as desired.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="With -d: wait until everything is as desired.",
)
@timeout_option("60s")
@replace_source_option
@wait_jobs_option
@writable_option
@with_instance()
def up_command(
    session: Session,
    spec: tuple[str, ...],
    detach: bool,
    wait: bool,
    timeout_ns: int,
    replace_source: bool,
    wait_jobs: bool,
) -> int:
    """Start, apply, show the status once everything is as desired, then stream the logs.

    Ctrl-C stops everything in order. With one-shot jobs only, ends when all are done. --timeout
    limits how long it waits before it shows the status.
    """
    if (not wait or wait_jobs) and not detach:
        msg = f"{'--wait-jobs' if wait_jobs else '--no-wait'} has an effect only with --detach"
        raise click.UsageError(msg)
    session.replaces_source = replace_source
    loaded = loading.load(loading.find(spec))
    if loaded.spec is None:
        return show_mistakes(loaded)
    show_warnings(loaded)
    start = prepare(session, loaded, "up")
    screen = terminal.stdout()
    if places.is_temporary(start.state_dir):
        screen.show((Cell(without_home(start.state_dir)),))
    if not detach:
        _fork_viewer(start.instance, timeout_ns)
        _become(start, start.keeper_argv(hup="stop", until_done=True, viewed=True))
    start_detached(start)
    screen.show((Cell(f"started the manager {start.instance.name} in the background"),))
    if not wait:
        return DONE
    from reconciler.cli.progress import show_outcome, wait_until_as_desired

    session.name, session.runtime_dir = start.instance.name, start.instance.runtime_dir
    client = session.client()
    outcome = wait_until_as_desired(client, screen, timeout_ns, runs=wait_jobs)
    show_outcome(screen, client, outcome, timeout_ns)
    return outcome.exit_code


def show_mistakes(loaded: Loaded) -> int:
    """Write the mistakes of a spec with excerpts and return the exit code."""
    from reconciler.cli import render

    screen = terminal.stderr()
    screen.show(*render.spec_error_blocks(loaded.errors, folder=os.getcwd()))
    screen.write(f"reconcile: {render.mistakes(len(loaded.errors))} in the spec\n")
    return FAILED


def show_warnings(loaded: Loaded) -> None:
    """Write what is doubtful about a spec, with its places."""
    if loaded.warnings:
        from reconciler.cli import render

        blocks = render.spec_error_blocks(loaded.warnings, folder=os.getcwd(), warnings=True)
        terminal.stderr().show(*blocks)


# ---- getting ready -------------------------------------------------------------------------------


def prepare(session: Session, loaded: Loaded, command: str) -> Start:
    """Return what `command` is to start.

    Raises `Refused` when that instance runs already, or when its state is that of another spec.
    """
    instance = place(session, loaded)
    _refuse_second(session, instance, loaded.source)
    if not session.replaces_source:
        _refuse_state_of_another(instance, loaded.source)
    for folder in (instance.runtime_dir, instance.state_dir):
        places.make_root_of(folder)
    for other, user in locate.of_others():
        if other.name == instance.name:
            warning = f"{user} runs a manager named {other.name}, too ({other.runtime_dir})"
            terminal.stderr().show((Cell("warning: ", "busy"), Cell(warning)))
    reading = _in_memory(loaded.answer) if loaded.spec is not None and loaded.answer else None
    who = f"{command} by {locate.user_name(os.geteuid())}"
    return Start(instance, instance.state_dir, loaded.source, loaded.daemon(), reading, who)


def place(session: Session, loaded: Loaded) -> Instance:
    """Return where the instance of a spec that was read is to be, by the rule of all commands."""
    given = locate.said(session.name, session.runtime_dir, session.state_dir)
    head = loaded_head(loaded.daemon()) if loaded.spec is not None else read_head(loaded.source)
    return locate.place(given, head, loaded.source)


def has_past(state_dir: str) -> bool:
    """Tell whether a manager was here before: what it knew, and perhaps left running, is there."""
    return os.path.exists(os.path.join(state_dir, STATE_FILE))


def without_home(state_dir: str) -> str:
    """Return what is to be known by a user whose state lies where it does not stay for long."""
    return (
        f"logs and state are in {state_dir}: uid {os.geteuid()} has no writable home folder; "
        "choose another place with --state-dir"
    )


def _in_memory(answer: bytes) -> int:
    """Return a descriptor of these bytes: in no folder, since a spec may hold secrets."""
    memory = os.memfd_create("spec")
    with open(memory, "wb", closefd=False) as file:
        file.write(answer)
    return memory


def _refuse_second(session: Session, instance: Instance, source: Source) -> None:
    """Refuse to start what runs; under another name, too, unless somebody asks for a second one by a name."""
    listener = locate.listener(instance)
    if listener is None:
        given = locate.said(session.name, session.runtime_dir, session.state_dir)
        other = None if given.name or given.runtime_dir else locate.started_otherwise(source)
        if other is not None:
            msg = (
                f"cannot start {instance.name}: {other.name} already runs {', '.join(source.paths)}"
            )
            raise Refused(
                msg, "apply edits with: reconcile apply; or start a second one with --name"
            )
        return
    pid, uid = listener
    answer = locate.asked(instance)
    if answer is not None and answer.source and not is_same_source(answer.source, source.paths):
        raise locate.other_spec(answer.name, answer.source, source.paths)
    user = locate.user_name(uid)
    msg = f"cannot start {instance.name}: already running, started by {user}, pid {pid}"
    raise Refused(
        msg,
        "apply edits with: reconcile apply; end it with: reconcile shutdown; or take a --name",
    )


def _refuse_state_of_another(instance: Instance, source: Source) -> None:
    """Refuse a state folder in which another spec has its history, logs, jobs and manual orders.

    A spec that is nowhere any more has moved or was replaced: this one is taken for its heir.
    """
    last = read_manager_file(instance.state_dir)
    if last is None or is_same_source(last.source, source.paths):
        return
    if not any(map(os.path.exists, last.source)):
        return
    msg = (
        f"cannot start {instance.name}: {instance.state_dir} holds the state of "
        f"{', '.join(last.source)}, not of {', '.join(source.paths)}"
    )
    hint = "give this spec a name of its own with --name or daemon.name; or take the state over with --replace-source"
    raise Refused(msg, hint)


def _become(start: Start, argv: list[str]) -> NoReturn:
    """Become the keeper, in the same process: whoever watches this pid watches the manager."""
    if start.reading is not None:
        os.set_inheritable(start.reading, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], argv)


def _fork_viewer(instance: Instance, timeout_ns: int) -> None:
    """Start the process that shows status and logs. It owns nothing: its death stops nothing."""
    keeper_pid = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return
    code = FAILED
    try:
        from reconciler.cli.viewer import view

        code = view(instance, keeper_pid, timeout_ns)
    except Exception:
        # The end below would leave no trace of it.
        import traceback

        text = "cannot show status and logs any more; the manager keeps running, see: reconcile logs -f"
        print(f"{text}\n{traceback.format_exc()}", end="", file=sys.stderr, flush=True)
    finally:
        # Never back into the code of the process that is about to be the keeper.
        os._exit(code)


# ---- in the background ---------------------------------------------------------------------------


def start_detached(start: Start) -> None:
    """Start a keeper in a session of its own and wait until it is ready.

    Raises `Refused` with the end of its log when it dies before that, `TimedOut` when it takes
    too long.
    """
    import subprocess

    log_path = os.path.join(start.state_dir, LOG_FILE)
    try:
        os.makedirs(start.state_dir, mode=0o700, exist_ok=True)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        msg = f"cannot write {log_path}: {error.strerror}"
        raise Refused(msg, "choose another folder with --state-dir") from None
    begun_at = os.lseek(log, 0, os.SEEK_END)
    ready, ready_end = os.pipe()
    argv = start.keeper_argv(hup="reload", until_done=False, ready_fd=ready_end)
    with open(ready, "rb", buffering=0) as pipe:
        try:
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ready_end, *(() if start.reading is None else (start.reading,))),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(ready_end)
            os.close(log)
        _wait_until_ready(pipe.fileno(), start, log_path, begun_at)


def _wait_until_ready(pipe: int, start: Start, log_path: str, begun_at: int) -> None:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(READY_TIMEOUT_S * 1000):
        msg = f"cannot start {start.instance.name}: not ready after {READY_TIMEOUT_S:.0f}s"
        raise TimedOut(msg, f"its log: {log_path}")
    if os.read(pipe, 64):
        return
    with open(log_path, "rb") as file:
        file.seek(begun_at)
        said = file.read().decode("utf-8", "backslashreplace").strip().splitlines()
    raise Refused(refusal(start.instance.name, said), f"its log: {log_path}")


def refusal(name: str, said: list[str]) -> str:
    """Return why a manager did not start, from the last lines of its log: it may have said so itself."""
    begins = f"cannot start {name}: "
    cause = said[-1] if said else "it exited without printing an error"
    return cause if cause.startswith(begins) else begins + cause


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
