"""Commands that become or start a manager: run, up."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import click

from reconciler.cli import loading, locate, terminal
from reconciler.cli.errors import DONE, FAILED, Refused, TimedOut
from reconciler.cli.layout import Cell
from reconciler.cli.locate import Instance
from reconciler.cli.options import Session, timeout_option, with_instance, writable_option
from reconciler.cli.shapes import Map
from reconciler.specfile.source import Source, instance_name

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
    daemon: Map
    """The `daemon` block of the spec, without what is at its default; empty when the spec is
    invalid."""
    reading: int | None = None
    """Descriptor of what the reader said of a valid spec, so that the controller need not read it
    again."""

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
@writable_option
@with_instance(starts=True)
def run_command(session: Session, spec: tuple[str, ...]) -> int:
    """Run the manager in the foreground, with no output but its own log.

    For systemd and other supervisors. TERM or INT stops everything in order, HUP reads the spec
    again. When the spec has mistakes and an earlier one was applied, that one is kept running.
    """
    loaded = loading.load(loading.find(spec))
    show_warnings(loaded)
    start = prepare(session, loaded)
    if loaded.spec is None:
        show_mistakes(loaded)
        if not has_past(session, loaded):
            return FAILED
        terminal.stderr().write("reconcile: going on with the spec that was applied last\n")
    return _become(start, start.keeper_argv(hup="reload", until_done=False))


@click.command("up")
@click.argument("spec", metavar="[SPEC]...", nargs=-1)
@click.option(
    "-d", "--detach", is_flag=True, help="In the background; returns when everything is as wanted."
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="With -d: wait until everything is as wanted.",
)
@timeout_option("60s")
@writable_option
@with_instance(starts=True)
def up_command(
    session: Session, spec: tuple[str, ...], detach: bool, wait: bool, timeout_ns: int
) -> int:
    """Start, apply, show the status once everything is as wanted, then stream the logs.

    Ctrl-C stops everything in order. With one-shot jobs only, ends when all are done. --timeout
    is how long the status waits for everything to be as wanted.
    """
    if not wait and not detach:
        msg = "--no-wait says something only with --detach"
        raise click.UsageError(msg)
    loaded = loading.load(loading.find(spec))
    if loaded.spec is None:
        return show_mistakes(loaded)
    show_warnings(loaded)
    start = prepare(session, loaded)
    if not detach:
        _fork_viewer(start.instance, timeout_ns)
        _become(start, start.keeper_argv(hup="stop", until_done=True, viewed=True))
    screen = terminal.stdout()
    start_detached(start)
    screen.show((Cell(f"started the manager {start.instance.name} in the background"),))
    if not wait:
        return DONE
    from reconciler.cli.progress import show_outcome, wait_until_as_wanted

    session.name, session.runtime_dir = start.instance.name, start.instance.runtime_dir
    client = session.client()
    outcome = wait_until_as_wanted(client, screen, timeout_ns)
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
    """Write what is doubtful about a spec."""
    screen = terminal.stderr()
    for warning in loaded.warnings:
        screen.show((Cell("warning: ", "busy"), Cell(warning["message"])))
        screen.show((Cell("  hint: ", "cyan"), Cell(warning["hint"])))


# ---- getting ready -------------------------------------------------------------------------------


def prepare(session: Session, loaded: Loaded) -> Start:
    """Return what to start: options go before the environment, that before the spec, that before
    the platform.

    Raises `Refused` when that instance runs already.
    """
    daemon = loaded.daemon()
    name = name_of(session, loaded)
    default = locate.named(name)
    runtime_dir = (
        session.runtime_dir
        or os.environ.get("RECONCILE_RUNTIME_DIR")
        or _text(daemon.get("runtime_dir"))
    )
    if runtime_dir is None:
        runtime_dir = os.path.join(_own_root(), name)
    instance = locate.Instance(default.name, os.path.abspath(runtime_dir))
    _refuse_second(instance)
    reading = _in_memory(loaded.answer) if loaded.spec is not None and loaded.answer else None
    return Start(instance, _state_dir(session, loaded), loaded.source, daemon, reading)


def has_past(session: Session, loaded: Loaded) -> bool:
    """Tell whether a manager was here before: what it knew, and perhaps left running, is there."""
    return os.path.exists(os.path.join(_state_dir(session, loaded), STATE_FILE))


def _state_dir(session: Session, loaded: Loaded) -> str:
    return os.path.abspath(
        session.state_dir
        or os.environ.get("RECONCILE_STATE_DIR")
        or _text(loaded.daemon().get("state_dir"))
        or os.path.join(locate.state_root(), name_of(session, loaded))
    )


def name_of(session: Session, loaded: Loaded) -> str:
    """Return the name of the instance that would be started."""
    return (
        session.name
        or os.environ.get("RECONCILE_NAME")
        or _text(loaded.daemon().get("name"))
        or (locate.instance_of(loaded.source).name if loaded.spec is None else None)
        or instance_name(None, loaded.source)
    )


def _in_memory(answer: bytes) -> int:
    """Return a descriptor of these bytes: in no folder, since a spec may hold secrets."""
    memory = os.memfd_create("spec")
    with open(memory, "wb", closefd=False) as file:
        file.write(answer)
    return memory


def _own_root() -> str:
    """Return the folder of this user's runtime folders, made if need be, and certainly ours."""
    root = locate.runtime_root()
    try:
        os.makedirs(
            root, mode=0o755 if root == locate.SYSTEM_RUNTIME_ROOT else 0o700, exist_ok=True
        )
        found = os.stat(root, follow_symlinks=False)
    except OSError as error:
        msg = f"cannot create {root}: {error.strerror}"
        raise Refused(msg, "say where with --runtime-dir") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        msg = f"cannot use {root}: it is not a folder that only this user can write to"
        raise Refused(msg, "remove it, or say another place with --runtime-dir")
    return root


def _refuse_second(instance: Instance) -> None:
    listener = locate.listener(instance)
    if listener is None:
        return
    pid, uid = listener
    msg = f"cannot start {instance.name}: already running, started by {_user_name(uid)}, pid {pid}"
    raise Refused(
        msg,
        "apply edits with: reconcile apply; end it with: reconcile shutdown; or take a --name",
    )


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


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
        raise Refused(msg, "say another place with --state-dir") from None
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
    cause = said[-1] if said else "it ended without a word"
    msg = f"cannot start {start.instance.name}: {cause}"
    raise Refused(msg, f"its log: {log_path}")


def _map(value: object) -> Map:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
