"""Starting a manager: in place of this process, or in the background."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler.cli.connection import ahead, instances, locate, places
from reconciler.cli.connection.instances import Choice, Instance
from reconciler.cli.connection.spec_head import loaded_head, read_head
from reconciler.cli.errors import Refused, TimedOut
from reconciler.model.value import Struct
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.source import Source
from reconciler.wire.manager_file import is_same_source, read_manager_file

if TYPE_CHECKING:
    from reconciler.cli.connection.loading import Loaded

READY_TIMEOUT_S: Final = 30.0
STATE_FILE: Final = "state.db"
LOG_FILE: Final = "reconcile.log"
HEARD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that a keeper takes as orders."""


class Start(Struct, frozen=True):
    """Everything that a manager is started with."""

    instance: Instance
    source: Source
    daemon: Mapping[str, object]
    """The `daemon` block of the spec, without what is at its default; empty when the spec is
    invalid."""
    reading: int | None = None
    """Descriptor of what the reader said of a valid spec, so that the controller need not read it
    again."""
    started_by: str = ""
    """How and by whom, such as `up by root`: the history says so."""
    exit_with: Sequence[str] = ()
    """Watchers with whose end everything ends, and with whose exit code."""

    def keeper_argv(self, *, viewed: bool = False, ready_fd: int | None = None) -> list[str]:
        """Return the command line of the keeper; what is left out is at its default there.

        `viewed` is what `up` shows in a terminal: its end stops everything, and so does the end of all jobs. A
        viewer tells the events, so the manager's own log goes to a file.
        """
        log, control = _map(self.daemon.get("log")), _map(self.daemon.get("control"))
        level = str(log.get("level", "info"))
        log_file = os.path.join(self.instance.state_dir, LOG_FILE) if viewed else None
        where = {
            "name": self.instance.name,
            "state_dir": self.instance.state_dir,
            "runtime_dir": self.instance.runtime_dir,
        }
        controller = where | {
            "source": list(self.source.paths),
            "until_done": viewed,
            "started_by": self.started_by,
            "exit_with": list(self.exit_with),
            "log_level": level,
            "log_format": log.get("format", "text"),
            "log_file": log.get("file") or log_file,
            "reading_fd": self.reading,
        }
        keeper = where | {
            **{f"control_{key}": value for key, value in control.items()},
            **{key: self.daemon[key] for key in ("cgroup", "umask") if key in self.daemon},
            "controller_argv": [*_CONTROLLER, json.dumps(controller)],
            "hup": "stop" if viewed else "reload",
            "ready_fd": ready_fd,
            "log_level": "warning" if viewed else level,
        }
        return [*ahead.KEEPER, json.dumps(keeper)]


_CONTROLLER: Final = (sys.executable, "-I", "-m", "reconciler.controller")
_STARTS_NOTHING: Final = (
    ("autostart", False, "remove autostart: false, or name another watcher"),
    ("numprocesses", 0, "write numprocesses: 1, or name another watcher"),
)
"""Fields of a watcher and their values with which it never runs by itself, and what to do about that."""


# ---- getting ready -------------------------------------------------------------------------------


def prepare(
    chosen: Choice,
    loaded: Loaded,
    started_by: str,
    *,
    replaces_source: bool = False,
    exit_with: Sequence[str] = (),
) -> Start:
    """Return what is to be started; `started_by` is the command, for the history.

    Raises `Refused` when that instance runs already, when its state is that of another spec, or when a valid spec
    has none of the watchers `exit_with`.
    """
    if loaded.spec is not None:
        _refuse_what_never_ends(exit_with, loaded.block("watchers"))
    instance = place(chosen, loaded)
    _refuse_second(chosen, instance, loaded.source)
    if not replaces_source:
        _refuse_state_of_another(instance, loaded.source)
    for folder in (instance.runtime_dir, instance.state_dir):
        places.make_root_of(folder)
    reading = _in_memory(loaded.answer) if loaded.spec is not None and loaded.answer else None
    who = f"{started_by} by {instances.user_name(os.geteuid())}"
    return Start(instance, loaded.source, loaded.block("daemon"), reading, who, exit_with)


def place(chosen: Choice, loaded: Loaded) -> Instance:
    """Return where the instance of a spec that was read is to be, by the rule of all commands."""
    head = (
        loaded_head(loaded.block("daemon")) if loaded.spec is not None else read_head(loaded.source)
    )
    return instances.place(chosen, head, loaded.source)


def has_past(state_dir: str) -> bool:
    """Tell whether a manager was here before: what it knew, and perhaps left running, is there."""
    return os.path.exists(os.path.join(state_dir, STATE_FILE))


def _in_memory(answer: bytes) -> int:
    """Return a descriptor of these bytes: in no folder, since a spec may hold secrets."""
    memory = os.memfd_create("spec") if ahead.waiting is None else ahead.waiting.memory
    with open(memory, "wb", closefd=False) as file:
        file.write(answer)
    return memory


def _refuse_what_never_ends(names: Sequence[str], known: Mapping[str, object]) -> None:
    """Refuse watchers that there are not, or of which nothing is started: nobody would ever see the end of them."""
    for name in names:
        if name not in known:
            msg = f"cannot exit with {name}: the spec has no such watcher"
            raise Refused(msg, did_you_mean(name, known, what="watchers"))
        watcher = known[name]
        assert isinstance(watcher, dict)
        for field, value, hint in _STARTS_NOTHING:
            if watcher.get(field) == value:
                written = json.dumps(value)
                msg = f"cannot exit with {name}: its {field} is {written}, so nothing of it is started"
                raise Refused(msg, hint)


def _refuse_second(chosen: Choice, instance: Instance, source: Source) -> None:
    """Refuse to start what runs; under another name, too, unless somebody asks for a second one by a name."""
    listener = instances.listener(instance)
    if listener is None:
        other = None if chosen.name or chosen.runtime_dir else locate.started_otherwise(source)
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
        raise locate.other_spec(answer.name or instance.name, answer.source, source.paths)
    user = instances.user_name(uid)
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


def hand_over(start: Start, *, viewed: bool = False) -> bool:
    """Give the keeper that was begun ahead its orders; False: none was. `viewed`: this process is to show its life."""
    sys.stdout.flush()
    sys.stderr.flush()
    return ahead.order(start.keeper_argv(viewed=viewed)[-1], stays=viewed)


def become(start: Start, *, viewed: bool = False) -> NoReturn:
    """Become the keeper, in the same process: whoever watches this pid watches the manager."""
    argv = start.keeper_argv(viewed=viewed)
    if start.reading is not None:
        os.set_inheritable(start.reading, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # What comes while the keeper is coming up waits until it can hear it; Python would die of it with a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    os.execv(argv[0], argv)


# ---- in the background ---------------------------------------------------------------------------


def start_detached(start: Start) -> None:
    """Start a keeper in a session of its own and wait until it is ready.

    Raises `Refused` with the end of its log when it dies before that, `TimedOut` when it takes
    too long.
    """
    import subprocess

    log_path = os.path.join(start.instance.state_dir, LOG_FILE)
    try:
        os.makedirs(start.instance.state_dir, mode=0o700, exist_ok=True)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        msg = f"cannot write {log_path}: {error.strerror}"
        raise Refused(msg, "choose another folder with --state-dir") from None
    begun_at = os.lseek(log, 0, os.SEEK_END)
    ready, ready_end = os.pipe()
    argv = start.keeper_argv(ready_fd=ready_end)
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
