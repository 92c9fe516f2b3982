"""Processes: who they are, how they are launched, what is known of them, how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from reconciler.model.units import SECOND_NS, format_few, signal_number
from reconciler.model.value import Struct, Tagged, Word, field

MAIN: Final = "main"
"""Role of a watcher's own process; every other role is a hook or a helper of that slot."""
FAILURES: Final = frozenset(("vetoed", "not_ready", "unhealthy", "watchdog"))
"""Reasons to stop a process that count against it."""
MAX_NAMED: Final = 3
"""Of several survivors so many are named in a sentence."""

Scope: TypeAlias = Literal["process", "group", "tree"]
"""Who must be gone when a process is: itself, all of its group, or all that it has started."""
Reach: TypeAlias = Literal["process", "children", "group", "tree"]
"""Whom a signal reaches: the process, its children without it, its group, or all that it has started."""
Ask: TypeAlias = Literal["main", "all"]
"""Who is asked to end first: the main process alone, or all of the scope at once."""


PartInRoll = Word["", "successor", "again"]
GroupLimits: TypeAlias = Mapping[str, str]
"""What the files of a control group say, such as `memory.max`."""


class ProcessId(Struct, frozen=True):
    """The deterministic name of a process: watcher, slot from 1 on, and role."""

    owner: str
    slot: int
    role: str = MAIN

    def __str__(self) -> str:
        place = f"{self.owner}.{self.slot}" if self.slot else self.owner
        return place if self.role == MAIN else f"{place}:{self.role}"


NOT_KNOWN: Final = -1
"""In the place of a number: the account has a name whose number is not known."""


class Owned(Struct, frozen=True):
    """Permission bits, owner and group of a file; what is None or not known stays as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class FileSink(Tagged, frozen=True):
    """Output goes to a file that the keeper rotates by size and time; `max_size` and `rotate_ns` 0 mean never."""

    path: str
    timestamps: bool | str = False
    max_size: int = 10 * 2**20
    keep: int = 5
    compress: bool = False
    rotate_ns: int = 0
    owned: Owned = Owned()


class ManagerSink(Tagged, frozen=True):
    """Output goes to the manager's own standard output, whole lines after `prefix`."""

    prefix: str = ""
    timestamps: bool | str = False


LogDaemonName = Word["journal", "syslog"]


class DaemonSink(Tagged, frozen=True):
    """Output goes to a log daemon of the machine, each line as a message of this priority (syslog(3))."""

    to: LogDaemonName
    instance: str
    watcher: str
    slot: int
    priority: int = 6


class NullSink(Tagged, frozen=True):
    """Output goes to /dev/null."""


class CaptureSink(Tagged, frozen=True):
    """Output goes to a file, and its last `limit_bytes` are kept in the record: hooks."""

    path: str
    limit_bytes: int = 8192
    owned: Owned = Owned()


Sink: TypeAlias = FileSink | ManagerSink | DaemonSink | NullSink | CaptureSink


class Settings(Struct, frozen=True):
    """What is in force for a process and can be changed while it runs, with `Adjust`.

    It lies on the record, so that the plan compares it with the spec: an edit that nobody was there to see
    takes effect all the same.
    """

    scope: Scope = "tree"
    ask: Ask = "main"
    stop_signal: str = "TERM"
    stop_timeout_ns: int = 10 * SECOND_NS
    stdout: Sink = NullSink()
    stderr: Sink | None = None
    pid_file: str | None = None
    """When the main process has ended, the process that this file names goes on, if it is one of its descendants."""
    group_limits: GroupLimits = field(default_factory=dict)
    """What the files of its control group say: `memory.max` and so on."""


class FileInput(Tagged, frozen=True):
    """Standard input is a file, opened by the process itself, as its user."""

    path: str


class TerminalInput(Tagged, frozen=True):
    """Standard input is a terminal at which nobody types."""


class Launch(Struct, frozen=True):
    """Everything the keeper needs to start one process; no template text is left in it.

    `argv[0]` without a slash is looked up in the PATH of the new environment.
    `env` wins over what is inherited; None takes a variable away.
    `path_prefix` are folders put before PATH, however PATH comes about.
    `limits` are (soft, hard) by rlimit name, None is unlimited.
    `sockets` become descriptors 3, 4, ... in this order; the first `announced` of them (None: all) are told
    as LISTEN_FDS, the others by the command or environment itself.
    `stdin` None is `stdin_socket`, or /dev/null where there is none.
    `stderr` None joins standard output.
    `notify` gives it a socket for sd_notify(3), where it is to be heard of every `watchdog_ns` if there are any.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)
    inherit_env: bool | tuple[str, ...] = False
    path_prefix: tuple[str, ...] = ()
    working_dir: str | None = None
    umask: int | None = None
    user: str | int | None = None
    group: str | int | None = None
    limits: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    nice: int | None = None
    cpu_affinity: tuple[int, ...] | None = None
    oom_score_adj: int | None = None
    sockets: tuple[str, ...] = ()
    announced: int | None = None
    stdin_socket: str | None = None
    stdin: FileInput | TerminalInput | None = None
    stdout: Sink = NullSink()
    stderr: Sink | None = None
    scope: Scope = "tree"
    ask: Ask = "main"
    stop_signal: str = "TERM"
    stop_timeout_ns: int = 10 * SECOND_NS
    notify: bool = False
    watchdog_ns: int | None = None
    pid_file: str | None = None
    group_limits: GroupLimits = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Return what of it can be changed while the process runs."""
        return Settings(
            self.scope,
            self.ask,
            self.stop_signal,
            self.stop_timeout_ns,
            self.stdout,
            self.stderr,
            self.pid_file,
            self.group_limits,
        )


class LaunchError(Struct, frozen=True):
    """The step that failed before the program ran: its errno by name, and the path it concerned.

    Steps: exec, chdir, user, group, limits, stdin, output, notify, sockets, affinity, nice, fork ...
    `message` says the cause in words for people, `user` as whom it was tried, where that is not the manager's own,
    `searched` the PATH in which the program is not.
    """

    step: str
    errno: str
    path: str = ""
    message: str = ""
    user: str = ""
    searched: str = ""

    @property
    def is_shortage(self) -> bool:
        """Tell whether it may pass by itself: no pids, memory or descriptors just now."""
        return self.errno in {"EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "ENOSPC", "EDQUOT"}

    def __str__(self) -> str:
        """Return a sentence: what could not be done, as whom, and why."""
        cause = self.message or self.errno
        if self.searched:
            return f"no such program: {self.path} (for the PATH see status -o json)"
        tried = _TRIED.get(self.step, f"cannot launch ({self.step})")
        if not tried:
            return cause
        tried += f" {self.path}" if self.path else ""
        # Whoever wants for descriptors wants for them everywhere: what was tried is not the reason.
        if self.errno in {"EMFILE", "ENFILE"}:
            return f"{cause}: {tried}"
        return f"{tried}{f' as user {self.user}' if self.user else ''}: {cause}"


_TRIED: Final = {
    "exec": "cannot execute",
    "chdir": "cannot chdir to",
    "output": "cannot open the output",
    "stdin": "cannot open the standard input",
    "notify": "cannot open the notify socket",
    "fork": "cannot make a process",
    "cgroup": "cannot use the control group",
    "nice": "cannot set nice",
    "affinity": "cannot set cpu_affinity",
    "oom_score_adj": "cannot set oom_score_adj",
    "sockets": "cannot pass the sockets on",
    "limits": "cannot set the limit",
    # These say all by themselves.
    "user": "",
    "group": "",
}


Oom = Word["", "certain", "probable"]
"""Whether the kernel killed a process for want of memory: no, or nobody knows; yes; it seems so."""


class Exit(Struct, frozen=True):
    """How a process ended: by exit code, by signal (a name without SIG), or without ever running.

    All three None: unknown (the kernel could not tell).
    """

    code: int | None = None
    signal: str | None = None
    core: bool = False
    error: LaunchError | None = None
    oom: Oom = ""

    def __str__(self) -> str:
        if self.error is not None:
            return str(self.error)
        if self.signal is not None:
            more = _OF_MEMORY.get(self.oom, "") or (" (core dumped)" if self.core else "")
            return f"killed by SIG{self.signal}{more}"
        return "exit status unknown" if self.code is None else f"exit {self.code}"

    @property
    def as_code(self) -> int:
        """Return the exit code that a shell would give: 128+n for a signal, 127 or 126 for what could not be executed.

        1 where nobody knows.
        """
        if self.error is not None:
            return 127 if (self.error.step, self.error.errno) == ("exec", "ENOENT") else 126
        if self.signal is not None:
            return 128 + (signal_number(self.signal) or 0)
        return 1 if self.code is None else self.code


_OF_MEMORY: Final = {"certain": " (out of memory)", "probable": " (probably out of memory)"}


class LogPlace(Struct, frozen=True):
    """A place in a log file: `inode` 0 and its beginning where there was none yet."""

    path: str
    inode: int = 0
    offset: int = 0


class Memory(Struct, frozen=True):
    """What a later decision about this process needs to know; the keeper keeps it and never looks inside.

    It survives the controller, which is why nothing of it lies in the controller.
    """

    attempt: int = 0
    """Quick deaths in a row before this start."""
    last_failure: str = ""
    """What the last of them was, in words."""
    restarts: int = 0
    """Starts of this slot that nobody planned: after a process that ended by itself."""
    deaths_ns: tuple[int, ...] = ()
    """When the slot died, newest last, as many as max_restarts counts."""
    generation: int = 0
    """Of a job: the generation that this run belongs to."""
    replacements: int = 0
    """Starts of this slot in place of a process that was stopped on purpose: an edit, a restart, its age."""
    in_a_row: int = 0
    """Of these the last ones that came soon after another, though spec and restarts were the same all the while."""
    roll: PartInRoll = ""
    """`successor`: it was started in place of a running process that was to be replaced; `again`: in place of such a
    one that ended by itself before it had taken over."""
    took_over_ns: int = 0
    """When it was seen ready as such."""
    edits: int = 0
    """Of these the last ones that came soon after another, for edits of watched files."""
    edited_at_ns: int = 0
    """When a process of this slot took the place of one that other watched files had made, the last time."""
    renewed: str = ""
    """Why it was started in place of another one of the same template, as a sentence goes on: `was restarted`."""
    signalled: str = ""
    """The signal that an operator had sent to it last, or which reload, at `signalled_at_ns`."""
    signalled_at_ns: int = 0
    failed_at_ns: int = 0
    """When the slot's former process, of the same template, did not stay up, as `core.verdict` judges it."""
    about: int = 0
    """Of a hook: what it was run for (an incarnation, a start, a generation, the time of a request)."""
    start: int = 0
    """When the watcher's present start began (monotonic); tells one start from the next."""
    fresh: bool = False
    """after_start is still to come for this start."""
    retry: bool = False
    """An operator wants the next start now, whatever the backoff says."""
    woken_at_ns: int | None = None
    """Since when the client waited for whose sake it was started; and how long until it was ready."""
    cold_start_ns: int | None = None
    rested: bool = False
    """It was started by a client after nobody had come for so long that the one before it was stopped."""
    after_spawn_passed: bool = False
    """after_spawn has passed or there was none."""
    after_ready_ended: bool = False
    """after_ready has run, or there was none."""
    reaped: bool = False
    """The reap hooks have run or there were none."""
    reloaded: int = 0
    """The newest reload, by its number, that this process has carried out, or began after."""
    reload_trouble: str = ""
    """Why that reload failed; empty when it did not."""
    stopping_since_ns: int | None = None
    stop_reason: str = ""
    """Why it is stopped: replaced, surplus, stopped, removed, timeout, expired, idle, dependency, vetoed, not_ready,
    watchdog, announced (it went on after STOPPING=1), shutdown, over …"""
    trouble: str = ""
    """What stands against it: that it is unhealthy, or why it is stopped for a failure. Of a probe its last words."""
    probed: bool = False
    """It was started under a spec with `ready`: it is ready when it has shown that, and not by its age."""
    ready_at_ns: int | None = None
    """When it had shown all that makes it ready, once and for all."""
    log_places: tuple[LogPlace, ...] = ()
    """Where its life begins in its logs; noted where `ready.log` is looked for in them."""
    passed: int = 0
    """Of a probe: how often in a row it had passed before this run; `attempt` is how often it had failed."""
    asked: bool = False
    """The stop signal was sent, or the stop command started."""
    asked_rest: bool = False
    """What was left of it when the main process had ended was asked to end, too."""
    killed_at_ns: int | None = None
    """When SIGKILL was sent last."""
    adjusted_at_ns: int = 0
    """When it was last told to take other settings."""

    @property
    def killed(self) -> bool:
        """Tell whether SIGKILL was sent."""
        return self.killed_at_ns is not None

    @property
    def is_failure(self) -> bool:
        """Tell whether it is being stopped because it is no good: that counts as if it had ended by itself."""
        return self.stopping_since_ns is not None and self.stop_reason in FAILURES


class Requested(Tagged, frozen=True):
    """Asked of the keeper, not answered yet. Exists in the controller's picture only.

    `after` is the incarnation that it replaces: news of that one, still on its way, are old news.
    """

    at_ns: int
    after: int = 0


class Starting(Tagged, frozen=True):
    """Forked; whether the program could be executed is not known yet."""

    pid: int
    at_ns: int


class Running(Tagged, frozen=True):
    """The program runs."""

    pid: int
    started_at_ns: int


class Survivor(Struct, frozen=True):
    """A process that has outlived the one that started it; `name` is its command's, up to 15 bytes (proc(5))."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def several(survivors: Sequence[Survivor]) -> str:
    """Return processes as people are told of them, the first few by name."""
    return format_few(survivors, MAX_NAMED)


class Orphan(Survivor, frozen=True):
    """A survivor that belongs to no record.

    If that is certain its owner left it on purpose and is gone; else it is one of those that may have left it.
    """

    owners: tuple[ProcessId, ...] = ()
    is_certain: bool = False


class Exited(Tagged, frozen=True):
    """The process is dead, its output is drained. `pid` is None when it never ran.

    `survivors` are those of its tree that still live and must be gone, `left` those that its scope leaves alone.
    `output` is the end of a captured output.
    """

    at_ns: int
    exit: Exit
    pid: int | None = None
    started_at_ns: int | None = None
    survivors: tuple[Survivor, ...] = ()
    output: bytes = b""
    cpu_ns: int = 0
    max_rss_bytes: int = 0
    left: tuple[Survivor, ...] = ()
    successor: int = 0
    """Which of its descendants was named as the main process from here on; 0: none that lives."""

    @property
    def lived_ns(self) -> int:
        """Return how long it ran; 0 where nobody knows, or it never did."""
        return 0 if self.started_at_ns is None else self.at_ns - self.started_at_ns

    def goes_on_as(self, pid: int) -> Running:
        """Return how its record is when another process goes on for it: as if it had been that one all the time."""
        return Running(pid, self.at_ns if self.started_at_ns is None else self.started_at_ns)

    @property
    def is_unseen(self) -> bool:
        """Tell whether the keeper was killed around its start, so that nobody knows if it ever ran."""
        return self.pid is None and self.exit.error is None


class Notified(Struct, frozen=True):
    """What a process has said of itself by sd_notify(3). Times are monotonic, None: it has not."""

    watchdog_ns: int | None = None
    """How often it is to be heard of at least; None: it need not."""
    is_heard: bool = False
    """It has said something."""
    ready_at_ns: int | None = None
    status: str = ""
    stopping_at_ns: int | None = None
    reloading_at_ns: int | None = None
    """Since when it takes changes, which began after it was ready."""
    late_at_ns: int | None = None
    """When it should have been heard of and was not, or said itself that it fails."""
    fails: bool = False
    """It has said so itself (`WATCHDOG=trigger`)."""
    extended_until_ns: int | None = None
    """How long it has asked not to be given up while it starts or ends."""
    main_pid: int = 0
    """Whom it has named as the main process instead of itself: not looked at before it has ended."""


SUCCESSION_NS: Final = 10 * SECOND_NS
"""So long after the end of a main process a file is looked at again that names nobody of those that are left."""

Phase: TypeAlias = Requested | Starting | Running | Exited


class ProcessRecord(Struct, frozen=True):
    """What the keeper knows of one process. `incarnation` is its number in the keeper's life, never reused."""

    id: ProcessId
    incarnation: int
    template_hash: str
    memory: Memory
    phase: Phase
    settings: Settings = Settings()
    """What is in force for it now."""
    notified: Notified | None = None
    """What it has said of itself; None: it has no socket for that."""

    @property
    def ended_before_stop(self) -> bool:
        """Tell whether the process was dead when its stop began: who began that had not been told yet."""
        since_ns = self.memory.stopping_since_ns
        return (
            since_ns is not None and isinstance(self.phase, Exited) and self.phase.at_ns < since_ns
        )

    @property
    def had_to_be_killed(self) -> bool:
        """Tell whether the SIGKILL that was sent to it ended it; where nobody knows how it ended, by the time.

        SIGKILL is also sent to one that has ended in time and whose last output still comes.
        """
        killed_at_ns = self.memory.killed_at_ns
        if killed_at_ns is None or not isinstance(self.phase, Exited):
            return False
        is_unknown = self.phase.exit == Exit()
        return self.phase.exit.signal == "KILL" or (is_unknown and self.phase.at_ns >= killed_at_ns)


def began_ns(phase: Phase) -> int:
    """Return when a process was started; as long as it does not run, when it was asked for."""
    if isinstance(phase, Requested | Starting):
        return phase.at_ns
    if isinstance(phase, Running):
        return phase.started_at_ns
    return phase.at_ns if phase.started_at_ns is None else phase.started_at_ns


def pid_of(phase: Phase) -> int | None:
    """Return the live pid, or None when there is none."""
    return phase.pid if isinstance(phase, Starting | Running) else None
