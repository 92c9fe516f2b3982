"""What the user wants: every field of the language with type, default, meaning and change effect, once.

Validation, the JSON Schema, the reference page, `explain`, `plan` and `template_hash` are all made from
these declarations. The effect of a field says what an edit of it does to what runs:

`none`     nothing runs differently
`live`     applied in place
`restart`  processes are replaced one by one; a job gets a new generation
`rebind`   the socket is bound anew and its users are replaced

Text that may differ from slot to slot (`${slot}`, `${sockets.NAME}`) is marked `PER_SLOT`: it stays as a
template, with `$$` for a dollar sign, until `core.template` expands it for one slot. All other text is final.
"""

# Annotations are not postponed here: msgspec and `declared_fields` would each evaluate all of them once more.
from collections.abc import Mapping
from functools import cache, partial
from types import UnionType
from typing import Annotated, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from reconciler.model.address import LISTEN, Address
from reconciler.model.probe import (
    ENDPOINT,
    LOCALHOST,
    PATTERN,
    PORT,
    STATUS,
    UNIX_PATH,
    URL,
    URL_PATH,
)
from reconciler.model.units import (
    BYTES,
    CPU_PERCENT,
    DURATION,
    FORMULA,
    MILLISECOND_NS,
    MODE,
    PERCENT,
    PERIOD,
    SECOND_NS,
    SECONDS,
    SHARE,
    SIGNAL,
    SIZE,
    TIMESTAMPS,
    Between,
)
from reconciler.model.value import Struct, Tagged, field

Effect = Literal["none", "live", "restart", "rebind"]


class About(Struct, frozen=True):
    """What people and programs need to know of a field: its change effect and its meaning."""

    effect: Effect
    doc: str


PER_SLOT: Final = object()
"""Marks text that stays a template until a slot is known."""
WORKED_OUT: Final = object()
"""Marks what the loader notes of how a value came about: no field of the language."""
WORDS: Final = object()
"""Marks the words of a list that may be written as one text, split as a shell would."""

_none = partial(About, "none")
_live = partial(About, "live")
_restart = partial(About, "restart")
_rebind = partial(About, "rebind")

MAX_NUMPROCESSES: Final = 10_000

Text: TypeAlias = Annotated[str, PER_SLOT]
DurationNs: TypeAlias = Annotated[int, DURATION]
SecondsNs: TypeAlias = Annotated[int, SECONDS]
"""A duration that also accepts a bare number of seconds, as Circus did."""
SizeBytes: TypeAlias = Annotated[int, SIZE]
CpuPercent: TypeAlias = Annotated[int, CPU_PERCENT]
"""A share of one processor; it may be more than 100."""
Mode: TypeAlias = Annotated[int, MODE]
SignalName: TypeAlias = Annotated[str, SIGNAL]
Command: TypeAlias = tuple[Text, ...]
"""Written as one string, split as a shell would (not run by one), or as a list."""
Environment: TypeAlias = Mapping[str, Text | None]
"""Variables by name; None takes one away that would be inherited. Empty text is a value."""
Words: TypeAlias = tuple[Annotated[str, WORDS], ...]
"""Like a command, but the same for all slots."""
Processes: TypeAlias = Annotated[int, Between(0, MAX_NUMPROCESSES)] | Annotated[int, FORMULA]
"""Written as a number or as a formula; the loader makes a number of it."""
UserOrGroup: TypeAlias = str | int
Overlap: TypeAlias = Literal["skip", "queue", "replace"]
Share: TypeAlias = Annotated[int | str, SHARE]
"""A number, or the text of a percentage; see `units.share_of`."""
Extensions: TypeAlias = Mapping[str, object]

KEEP_RUNS: Final = 50
MAX_ACCESS: Final = 100
"""Entries of `daemon.access`: each is looked at for each request."""
OVERFLOW_ID: Final = 65534
"""What the kernel shows for users and groups that do not exist in this user namespace; it may be anybody."""


# ---- the instance ---------------------------------------------------------------------------------


class ControlSpec(Struct, frozen=True):
    """The control socket, `<runtime_dir>/control.sock`."""

    mode: Annotated[
        Mode | None,
        _live(
            "Permission bits of the control socket; null: 0600, or 0666 when `access` has entries."
        ),
    ] = None
    owner: Annotated[UserOrGroup | None, _none("User who owns the control socket.")] = None
    group: Annotated[UserOrGroup | None, _none("Group of the control socket.")] = None


Role: TypeAlias = Literal["view", "operate", "admin"]


class AccessSpec(Struct, frozen=True):
    """One user or one group that may use the control socket. The owner and root always may."""

    role: Annotated[
        Role,
        _live(
            "view: look at everything; operate: also start, stop, scale, signal …; admin: also apply and shut down."
        ),
    ]
    user: Annotated[UserOrGroup | None, _live("User, name or number.")] = None
    group: Annotated[
        UserOrGroup | None, _live("Group, name or number, that the calling process is in.")
    ] = None
    labels: Annotated[
        Mapping[str, str],
        _live("With operate: only watchers that have all these labels may be operated."),
    ] = field(default_factory=dict)


class PluginAccess(Struct, frozen=True):
    """What the processes of a plugin may do on the control socket."""

    role: Annotated[Role, _live("As in `daemon.access`.")] = "view"
    labels: Annotated[
        Mapping[str, str],
        _live("With operate: only watchers that have all these labels may be operated."),
    ] = field(default_factory=dict)


class DaemonLogSpec(Struct, frozen=True):
    """The manager's own log."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], _live("Lowest level that is written.")
    ] = "info"
    file: Annotated[str | None, _none("File to append to; null writes to stderr.")] = None
    format: Annotated[Literal["text", "json"], _live("One line of text, or one JSON object.")] = (
        "text"
    )


class DaemonSpec(Struct, frozen=True):
    """How the manager itself runs. An edit here never restarts a watcher."""

    name: Annotated[
        str | None,
        _none("Name of the instance; null takes the name of the folder that holds the spec."),
    ] = None
    control: Annotated[
        ControlSpec, _live("The control socket; owner and group take effect at the next start.")
    ] = ControlSpec()
    access: Annotated[
        tuple[AccessSpec, ...], _live("Who may use the control socket besides the owner and root.")
    ] = ()
    state_dir: Annotated[
        str | None,
        _none(
            "Folder of logs and state; null: /var/lib/reconcile/NAME or the user's state folder."
        ),
    ] = None
    runtime_dir: Annotated[
        str | None,
        _none(
            "Folder of the control socket; null: /run/reconcile/NAME or the user's runtime folder."
        ),
    ] = None
    cgroup: Annotated[
        str | None,
        _none(
            "Folder of control groups (cgroup2) in which each process of stop.scope tree gets its own, so "
            "that nothing escapes a stop; null: one that was given to the manager (systemd's Delegate=yes, "
            "a container), else none. Takes effect at the next start."
        ),
    ] = None
    on_exit: Annotated[
        Literal["stop", "leave"],
        _none(
            "What happens to everything when the manager ends: it is stopped in order, or runs on"
            " until the next manager takes it over. `shutdown --now` stops it in any case."
        ),
    ] = "stop"
    umask: Annotated[Mode, _none("File mode mask of the manager and of watchers without one.")] = (
        0o022
    )
    max_concurrent_restarts: Annotated[
        Annotated[int, Between(1, 10_000)] | None,
        _live(
            "Slots of all watchers that may be in the middle of a replacement at a time; null: any number. Starts, "
            "restarts after a crash and `restart --all` do not wait."
        ),
    ] = None
    log: Annotated[DaemonLogSpec, _live("The manager's own log.")] = DaemonLogSpec()


class ApplySpec(Struct, frozen=True):
    """How edits of the files are applied."""

    auto: Annotated[
        bool, _live("Apply saved files automatically; false waits for `reconcile apply`.")
    ] = True
    quiet_period: Annotated[
        DurationNs, _live("How long the files must be unchanged after the last write.")
    ] = 500 * MILLISECOND_NS
    confirm_after: Annotated[
        DurationNs, _live("How long every changed process must stay up before a revision is good.")
    ] = 10 * SECOND_NS
    on_failure: Annotated[
        Literal["pause", "rollback", "keep"],
        _live(
            "What happens to a revision that is not good: its rolls stop where they are, the newest good"
            " one comes back, or it stays in force."
        ),
    ] = "pause"
    max_removal: Annotated[
        int,
        PERCENT,
        _live("Refuse an edit that removes a larger share of the running watchers (two or more)."),
    ] = 50


# ---- sockets --------------------------------------------------------------------------------------


class SocketSpec(Struct, frozen=True):
    """A socket that the keeper binds and holds, so that it outlives its workers."""

    listen: Annotated[
        Address,
        LISTEN,
        _rebind(
            "host:port, [v6]:port, unix:/path or a bare port, which means 0.0.0.0:port: all IPv4 interfaces, "
            "no IPv6; port 0 lets the kernel choose."
        ),
    ]
    type: Annotated[
        Literal["stream", "dgram", "seqpacket"], _rebind("Kind of socket; udp is dgram.")
    ] = "stream"
    backlog: Annotated[
        int, Between(1, 65535), _live("Connections that may wait to be accepted.")
    ] = 2048
    interface: Annotated[str | None, _rebind("Network interface to bind to (SO_BINDTODEVICE).")] = (
        None
    )
    reuseport: Annotated[
        bool, _rebind("One socket per slot, the kernel spreads connections (SO_REUSEPORT).")
    ] = False
    ipv6_only: Annotated[bool, _rebind("An IPv6 socket refuses IPv4 (IPV6_V6ONLY).")] = False
    blocking: Annotated[
        bool, _restart("Handed over blocking, as systemd does; false sets O_NONBLOCK.")
    ] = True
    nodelay: Annotated[bool, _live("Send small packets at once (TCP_NODELAY).")] = True
    keepalive: Annotated[bool, _live("Probe idle connections (SO_KEEPALIVE).")] = True
    mode: Annotated[
        Mode | None, _live("Permission bits of a Unix socket's file; null: by the umask.")
    ] = None
    owner: Annotated[UserOrGroup | None, _live("User who owns a Unix socket's file.")] = None
    group: Annotated[UserOrGroup | None, _live("Group of a Unix socket's file.")] = None


# ---- watchers -------------------------------------------------------------------------------------


class BackoffSpec(Struct, frozen=True):
    """Restart delay of a process that died quickly. Never gives up by itself."""

    burst: Annotated[
        int, Between(0, 1000), _live("Quick deaths in a row that restart at once.")
    ] = 3
    initial: Annotated[DurationNs, _live("First delay after the burst.")] = 500 * MILLISECOND_NS
    factor: Annotated[float, _live("Each further delay is this many times longer.")] = 2.0
    max: Annotated[DurationNs, _live("Longest delay.")] = 30 * SECOND_NS
    reset_after: Annotated[
        DurationNs, _live("A process that lives this long is healthy and resets the count.")
    ] = 10 * SECOND_NS
    jitter: Annotated[int, PERCENT, _live("Random share that is added to a delay.")] = 10


class MaxRestartsSpec(Struct, frozen=True):
    """When to give up a slot. Its siblings keep running."""

    count: Annotated[int, Between(1, 1000), _live("Restarts allowed within the window.")]
    window: Annotated[DurationNs, _live("Length of the window.")] = 60 * SECOND_NS
    then: Annotated[Literal["hold"], _live("What happens then: the slot stays down.")] = "hold"
    retry_in: Annotated[
        DurationNs | None, _live("Try again after this long; null: only on request.")
    ] = None


class StopSpec(Struct, frozen=True):
    """How a process is asked to end."""

    signal: Annotated[SignalName, _live("Signal that asks the process to end.")] = "TERM"
    ask: Annotated[
        Literal["main", "all"],
        _live(
            "Who gets the signal: the main process, which knows its workers, and when it has ended whatever is "
            "left of the scope; or all of the scope at once."
        ),
    ] = "main"
    timeout: Annotated[SecondsNs, _live("Grace period; then all that is left gets SIGKILL.")] = (
        10 * SECOND_NS
    )
    cmd: Annotated[
        Command | None,
        _live("Command to run instead of sending the signal; RECONCILE_PID is the process to end."),
    ] = None
    scope: Annotated[
        Literal["process", "group", "tree"],
        _live(
            "Who must be gone, and is killed when the grace period is over: the process, its group, or all its "
            "descendants. What is left running on purpose is shown by `status -o wide`."
        ),
    ] = "tree"


class ReloadBySignal(Tagged, frozen=True):
    """Running processes take changes on this signal."""

    signal: Annotated[SignalName, _live("Signal that `reconcile reload` sends.")]


class ReloadByCommand(Tagged, frozen=True):
    """Running processes take changes after this command."""

    cmd: Annotated[
        Command,
        _live(
            "Command that `reconcile reload` runs, once per slot, for at most 30 s; RECONCILE_PID is its process."
        ),
    ]


class StdinSpec(Tagged, frozen=True):
    """A file as standard input."""

    file: Annotated[
        Text, _restart("File to read from, opened when the process starts, as its user.")
    ]


Reload: TypeAlias = Literal["replace"] | ReloadBySignal | ReloadByCommand


class RolloutSpec(Struct, frozen=True):
    """How many running processes are replaced at a time: after an edit, by `restart`, at their age."""

    max_unavailable: Annotated[
        Share | None,
        _live(
            "How many slots may be without a ready process for that: a number, or a percentage of all slots, rounded "
            "down and at least 1. Default: 1, with `max_surge` 0."
        ),
    ] = None
    max_surge: Annotated[
        Share,
        _live(
            "How many more slots may run meanwhile, and serve in place of those that are replaced: a number, or a "
            "percentage of all slots, rounded down and at least 1 unless it is 0."
        ),
    ] = 0
    pause: Annotated[
        DurationNs,
        _live(
            "How long a slot is left alone once its new process is ready, before the next one's turn."
        ),
    ] = 0


class SoftHard(Struct, frozen=True):
    """A kernel limit with its two values."""

    soft: Annotated[int | Literal["unlimited"], _restart("Limit in force.")]
    hard: Annotated[
        int | Literal["unlimited"], _restart("Limit up to which the process may raise it.")
    ]


class SoftHardBytes(SoftHard, frozen=True):
    """The same for a limit in bytes."""

    soft: Annotated[Annotated[int, BYTES] | Literal["unlimited"], _restart("Limit in force.")]
    hard: Annotated[
        Annotated[int, BYTES] | Literal["unlimited"],
        _restart("Limit up to which the process may raise it."),
    ]


Rlimit: TypeAlias = int | Literal["unlimited"] | SoftHard
ByteLimit: TypeAlias = Annotated[int, BYTES] | Literal["unlimited"] | SoftHardBytes
"""A limit in bytes: a whole number, or a size with its unit."""


class GroupLimitsSpec(Struct, frozen=True):
    """Limits of a process with all that it started, by the kernel: files of its control group, by their names."""

    memory_max: Annotated[
        SizeBytes | None, _live("Most memory; beyond it the kernel kills one of them.")
    ] = None
    memory_high: Annotated[
        SizeBytes | None, _live("Memory beyond which they are slowed down and have to give back.")
    ] = None
    memory_swap_max: Annotated[SizeBytes | None, _live("Most swap space.")] = None
    cpu_max: Annotated[
        CpuPercent | None, _live("Most processor time, as a share of one processor.")
    ] = None
    cpu_weight: Annotated[
        Annotated[int, Between(1, 10_000)] | None,
        _live("Share of the processors where others want them too; the kernel's default is 100."),
    ] = None
    io_weight: Annotated[
        Annotated[int, Between(1, 10_000)] | None,
        _live("Share of the disks where others want them too; the kernel's default is 100."),
    ] = None
    pids_max: Annotated[
        Annotated[int, Between(1, 2**22)] | None, _live("Most processes and threads.")
    ] = None


class LimitsSpec(Struct, frozen=True):
    """Limits of the kernel by rlimit name (getrlimit(2)), scheduling, and (max_*) limits that the manager watches."""

    as_: Annotated[ByteLimit | None, _restart("Address space.")] = None
    core: Annotated[ByteLimit | None, _restart("Size of a core file.")] = None
    cpu: Annotated[Rlimit | None, _restart("Processor time in seconds.")] = None
    data: Annotated[ByteLimit | None, _restart("Data segment.")] = None
    fsize: Annotated[ByteLimit | None, _restart("Size of a file it may create.")] = None
    memlock: Annotated[ByteLimit | None, _restart("Locked memory.")] = None
    msgqueue: Annotated[ByteLimit | None, _restart("POSIX message queues.")] = None
    nofile: Annotated[Rlimit | None, _restart("Open files.")] = None
    nproc: Annotated[Rlimit | None, _restart("Processes of the user.")] = None
    rtprio: Annotated[Rlimit | None, _restart("Real-time priority.")] = None
    sigpending: Annotated[Rlimit | None, _restart("Queued signals.")] = None
    stack: Annotated[ByteLimit | None, _restart("Stack.")] = None
    nice: Annotated[
        Annotated[int, Between(-20, 19)] | None, _restart("Scheduling priority, -20 to 19.")
    ] = None
    cpu_affinity: Annotated[
        tuple[Annotated[int, Between(0, 4095)], ...] | None,
        _restart("Processors to run on."),
    ] = None
    oom_score_adj: Annotated[
        Annotated[int, Between(-1000, 1000)] | None,
        _restart("OOM killer score adjustment: -1000 never, 1000 first."),
    ] = None
    max_memory: Annotated[
        SizeBytes | None,
        _live(
            "Replace a process that uses more memory, with all that it started; what they share counts once. The "
            "manager looks every 2s."
        ),
    ] = None
    max_cpu: Annotated[
        CpuPercent | None,
        _live("The same for processor time, as a share of one processor."),
    ] = None
    max_count: Annotated[
        int,
        Between(1, 100_000),
        _live("Samples in a row that must be above max_memory or max_cpu before it is replaced."),
    ] = 3
    cgroup: Annotated[
        GroupLimitsSpec,
        _live(
            "Limits of a control group (cgroups(7), version 2), where the manager has a place for them; else they are "
            "not in force, and the status says so. For stop.scope: tree."
        ),
    ] = GroupLimitsSpec()


class StdoutSpec(Struct, frozen=True):
    """Where standard output goes."""

    file: Annotated[Text | None, _restart("File; null: <state_dir>/logs/NAME-SLOT.log.")] = None
    to: Annotated[
        Literal["manager", "journal", "syslog", "devnull"] | None,
        _restart(
            "Instead of a file: the manager's own output, the systemd journal, the local syslog daemon, or discard."
        ),
    ] = None


class StderrSpec(Struct, frozen=True):
    """Where standard error goes."""

    file: Annotated[Text | None, _restart("File of its own.")] = None
    to: Annotated[
        Literal["stdout", "manager", "journal", "syslog", "devnull"] | None,
        _restart(
            "Instead of a file: with standard output (the default), the manager's own output, the systemd journal or "
            "the local syslog daemon (there with priority err), or discard."
        ),
    ] = None


class LogsSpec(Struct, frozen=True):
    """What happens to the output of the processes."""

    stdout: Annotated[StdoutSpec, _restart("Where standard output goes.")] = StdoutSpec()
    stderr: Annotated[StderrSpec, _restart("Where standard error goes.")] = StderrSpec()
    timestamps: Annotated[
        bool | str,
        TIMESTAMPS,
        _live(
            "Put the time before each line: true or iso (UTC), local (with the offset from UTC), unix (seconds), or "
            "a format of strftime(3) in local time, with %f for microseconds."
        ),
    ] = False
    max_size: Annotated[SizeBytes, _live("Rotate a file when it is larger; 0: never.")] = 10 * 2**20
    rotate: Annotated[
        Annotated[int, PERIOD] | None,
        _live(
            "Rotate a file also by the clock, unless it is empty: hourly, daily, weekly (on Mondays), whole days, or a "
            "part of a day such as 6h; in UTC, or in local time where timestamps are; null: by its size alone."
        ),
    ] = None
    keep: Annotated[int, Between(0, 1000), _live("Rotated files to keep.")] = 5
    compress: Annotated[bool, _live("Compress rotated files with gzip.")] = False
    mode: Annotated[
        Mode | None,
        _live(
            "Permission bits of log files, also of those of hooks; null: as they are, of new ones 0644 less the "
            "manager's umask. Rotated files keep those that they had."
        ),
    ] = None
    owner: Annotated[
        UserOrGroup | None,
        _live(
            "User who owns log files, name or number; null: as they are. Only root gives files away."
        ),
    ] = None
    group: Annotated[
        UserOrGroup | None, _live("Group of log files, name or number; null: as they are.")
    ] = None


class HookSpec(Struct, frozen=True):
    """User code that runs at a transition, in a process of its own: `python` or `cmd`, one of the two."""

    python: Annotated[str | None, _live("Dotted path of a callable: package.module.function.")] = (
        None
    )
    cmd: Annotated[
        Command | None,
        _live(
            "Command; exit code 0 passes. RECONCILE_HOOK and RECONCILE_HOOK_* hold its arguments."
        ),
    ] = None
    timeout: Annotated[
        SecondsNs, _live("The hook is killed after this long, which counts as an error.")
    ] = 30 * SECOND_NS
    on_error: Annotated[
        Literal["abort", "ignore"],
        _live("Whether an error vetoes the transition or is only reported."),
    ] = "abort"


class HooksSpec(Struct, frozen=True):
    """Hooks by the transition at which they run. A hook can veto only where its field says so."""

    before_start: Annotated[
        HookSpec | None, _live("Once, before the watcher starts; veto: it does not start.")
    ] = None
    after_start: Annotated[
        HookSpec | None,
        _live("Once, when all its processes run; veto: all stop, and start again later."),
    ] = None
    before_spawn: Annotated[
        HookSpec | None, _live("Before each process; veto: it is not started.")
    ] = None
    after_spawn: Annotated[
        HookSpec | None,
        _live("After each process has started; veto: it stops, and starts again later."),
    ] = None
    after_ready: Annotated[
        HookSpec | None,
        _live("When a process has become ready; it goes on whatever the hook says."),
    ] = None
    before_signal: Annotated[
        HookSpec | None,
        _live("Before a signal to a process; veto: it is not sent (SIGKILL always is)."),
    ] = None
    after_signal: Annotated[HookSpec | None, _live("After a signal to a process.")] = None
    before_stop: Annotated[
        HookSpec | None, _live("Before the watcher stops, and when a job is complete.")
    ] = None
    after_stop: Annotated[
        HookSpec | None, _live("After the watcher stopped, and when a job is complete.")
    ] = None
    before_reap: Annotated[HookSpec | None, _live("When a process has died.")] = None
    after_reap: Annotated[HookSpec | None, _live("After before_reap, with the exit status.")] = None
    after_complete: Annotated[
        HookSpec | None, _live("When a job is complete, with its outcome.")
    ] = None


class HttpSpec(Struct, frozen=True):
    """An HTTP request (GET) to a process: `url`, or `port` and what differs from the defaults."""

    url: Annotated[Annotated[str, PER_SLOT, URL] | None, _live("The whole URL.")] = None
    port: Annotated[
        Annotated[str, PER_SLOT, PORT] | None,
        _live("Port; `${slot+7999}` is another for each slot."),
    ] = None
    host: Annotated[Text, _live("Name or number of the machine.")] = LOCALHOST
    path: Annotated[Annotated[str, PER_SLOT, URL_PATH], _live("Path, with its query.")] = "/"
    status: Annotated[
        Annotated[str, STATUS], _live("Status codes that pass: 200, 200-399 or 200-299, 401.")
    ] = "200-399"
    headers: Annotated[
        Mapping[str, Text], _live("Further headers; they are shown, and hold no secrets.")
    ] = field(default_factory=dict)


class ProbeSpec(Struct, frozen=True):
    """What is asked of a process that runs: one of the kinds, and when."""

    http: Annotated[
        HttpSpec | Annotated[str, PER_SLOT, URL] | None,
        _live("A URL that answers with a status from 200 to 399, or a block that says more."),
    ] = None
    tcp: Annotated[
        Annotated[str, PER_SLOT, ENDPOINT] | None,
        _live("A port, or HOST:PORT, that accepts connections."),
    ] = None
    unix: Annotated[
        Annotated[str, PER_SLOT, UNIX_PATH] | None,
        _live("Path of a Unix socket that accepts connections."),
    ] = None
    exec: Annotated[
        Command | None,
        _live("Command that exits with 0; RECONCILE_PID is the pid of the process."),
    ] = None
    initial_delay: Annotated[DurationNs, _live("Time before the first probe.")] = 0
    interval: Annotated[DurationNs, _live("Time from one probe to the next.")] = SECOND_NS
    timeout: Annotated[DurationNs, _live("A probe that takes longer has failed.")] = SECOND_NS
    successes: Annotated[
        int, Between(1, 1000), _live("Probes in a row that must pass before it counts.")
    ] = 1

    @property
    def patience(self) -> int:
        """Return how many probes in a row have to fail before that counts."""
        return 1


class ReadySpec(ProbeSpec, frozen=True):
    """When a process that runs counts as ready: once its probe, one of the kinds, has passed."""

    notify: Annotated[
        bool,
        _restart(
            "The process says so itself: READY=1 of sd_notify(3), on the socket in NOTIFY_SOCKET. With a probe beside"
            " it both count."
        ),
    ] = False
    log: Annotated[
        Annotated[str, PATTERN] | None,
        _live(
            "Regular expression (of Python) that matches in a line of the process's output, as its log file has it."
        ),
    ] = None
    delay: Annotated[
        DurationNs | None, _live("No probe: the process is ready when it has run this long.")
    ] = None
    deadline: Annotated[
        DurationNs | None,
        _live(
            "A process that is not ready so long after its start has failed: it is stopped, and started again after"
            " the restart delay; null: it may take for ever."
        ),
    ] = 60 * SECOND_NS


class HealthSpec(ProbeSpec, frozen=True):
    """Whether a process that is ready goes on to serve: asked for as long as it runs, by one of the kinds."""

    interval: Annotated[DurationNs, _live("Time from one probe to the next.")] = 10 * SECOND_NS
    failures: Annotated[
        int, Between(1, 1000), _live("Probes in a row that must fail before it is unhealthy.")
    ] = 3
    action: Annotated[
        Literal["restart", "stop", "none"],
        _live(
            "What happens to an unhealthy process. restart: it is stopped and started again, which counts as a failure,"
            " one slot after the other unless none serves; stop: its slot stays down until somebody starts it; none:"
            " it is only told."
        ),
    ] = "restart"

    @property
    def patience(self) -> int:
        """Return how many probes in a row have to fail before that counts."""
        return self.failures


class SecretSpec(Struct, frozen=True):
    """Where the value of a secret comes from: `file` or `cmd`, one of the two."""

    file: Annotated[
        str | None, _restart("File that holds the value; one line break at its end is dropped.")
    ] = None
    cmd: Annotated[
        Words | None, _restart("Command that writes the value; it runs as the manager does.")
    ] = None
    working_dir: Annotated[
        str | None, _restart("Folder that `cmd` runs in; null: the folder of the spec.")
    ] = None
    timeout: Annotated[SecondsNs, _restart("Longest time that `cmd` may take.")] = 30 * SECOND_NS
    refresh: Annotated[
        DurationNs | None,
        _live(
            "Run `cmd` again after this long, or a little earlier; another value replaces the processes. null: only "
            "when a process starts and the value is not at hand, and at each apply."
        ),
    ] = None


class OnDemandSpec(Struct, frozen=True):
    """When processes that a client has started are stopped again."""

    idle_timeout: Annotated[
        DurationNs | None,
        _live(
            "Stop them when nobody was connected at the end of this time since the last start, or since somebody "
            "was; null: they stay."
        ),
    ] = None


DependencyCondition: TypeAlias = Literal["started", "ready", "succeeded", "completed"]


class DependencySpec(Struct, frozen=True):
    """What has to be so of another watcher before a process of this one is started."""

    condition: Annotated[
        DependencyCondition | None,
        _live(
            "started: all its processes run, of a job have been executed; ready: enough of them are ready; "
            "succeeded, completed: its newest run has ended well, has ended. null: succeeded of a job, "
            "ready of a service."
        ),
    ] = None
    required: Annotated[
        bool,
        _live(
            "false: one that is stopped by hand, is not started by itself or has failed for good is passed over."
        ),
    ] = True
    on_restart: Annotated[
        Literal["ignore", "restart"],
        _live(
            "restart: replace the processes of this watcher when a process of the dependency was replaced or "
            "restarted, and all of it is ready again."
        ),
    ] = "ignore"
    timeout: Annotated[
        DurationNs | None,
        _live(
            "How long to wait until the slots count as failed; they start all the same once the condition is "
            "true. null: for ever."
        ),
    ] = None


class ScheduleSpec(Struct, frozen=True):
    """When the clock fires a job: `cron` or `every`, one of the two."""

    cron: Annotated[
        str | None,
        _live(
            'Minute, hour, day of the month, month and weekday: "0 3 * * *"; or @hourly, @daily, @weekly, @monthly, '
            "@yearly. Names such as mon and jan, lists, ranges and steps; L is the last day of the month."
        ),
    ] = None
    every: Annotated[
        DurationNs | None,
        _live("Period, counted from 1970-01-01 00:00 UTC: 15m fires at :00, :15, :30 and :45."),
    ] = None
    timezone: Annotated[str, _live("Time zone in which `cron` is read, such as Europe/Berlin.")] = (
        "UTC"
    )
    jitter: Annotated[
        DurationNs,
        _live("Fire up to this much later: how much differs from job to job and from run to run."),
    ] = 0
    catch_up: Annotated[
        Literal["skip", "once"],
        _live(
            "What becomes of runs that were missed, since the manager did not run or the clock was set forward: none, "
            "or one for all of them."
        ),
    ] = "skip"
    run_at_start: Annotated[
        bool,
        _live(
            "Also fire like a job without schedule: when it is first applied, and as `rerun_on` says."
        ),
    ] = False

    @property
    def timing(self) -> str:
        """Return what tells its instants from those of another schedule."""
        return f"every {self.every}" if self.every is not None else f"{self.cron} {self.timezone}"


class WatchSpec(Struct, frozen=True):
    """Files whose change makes processes outdated: they are replaced one by one, as after an edit of the spec."""

    paths: Annotated[
        tuple[str, ...],
        _restart(
            "Files and folders with all that is in them; where a link leads is a part of what it is."
        ),
    ]
    ignore: Annotated[
        tuple[str, ...],
        _restart(
            "Globs of what does not count: of names in any folder, or with a slash of paths below `paths`. Caches, "
            "repositories and editors' temporary files never count."
        ),
    ] = ()
    quiet_period: Annotated[
        DurationNs, _live("How long the files must be unchanged after the last write.")
    ] = 300 * MILLISECOND_NS


class WatcherSpec(Struct, frozen=True):
    """One entry with N processes: a service that is kept alive, or (`restart: never`) a one-shot job."""

    cmd: Annotated[
        Command, _restart("Program and arguments: a string split as a shell would, or a list.")
    ]
    description: Annotated[str, _none("For people.")] = ""
    labels: Annotated[Mapping[str, str], _none("Free key-value pairs for selecting watchers.")] = (
        field(default_factory=dict)
    )
    shell: Annotated[bool | str, _restart("Run `cmd` with /bin/sh, or with the shell named.")] = (
        False
    )
    working_dir: Annotated[
        Text | None, _restart("Folder to start in; null: the folder of the spec.")
    ] = None
    virtualenv: Annotated[
        Text | None,
        _restart("Python environment: its bin comes first in PATH, and VIRTUAL_ENV is set."),
    ] = None
    user: Annotated[UserOrGroup | None, _restart("User to run as, name or number.")] = None
    group: Annotated[
        UserOrGroup | None,
        _restart("Group to run as; null: the user's own. A user without an account needs one."),
    ] = None
    umask: Annotated[Mode | None, _restart("File mode mask; null: the manager's.")] = None
    inherit_env: Annotated[
        bool | tuple[str, ...],
        _restart(
            "Environment taken from the manager: all, a list of names, or PATH, LANG and TZ. Named variables are "
            "passed on unchanged. HOME, USER, LOGNAME and SHELL are otherwise those of the user's account; HOME is "
            "the manager's for its own user."
        ),
    ] = False
    env: Annotated[
        Environment, _restart("Environment variables; null: the process has no such variable.")
    ] = field(default_factory=dict)
    env_file: Annotated[
        tuple[str, ...],
        _restart("Files of NAME=value lines, taken literally; `env` takes precedence."),
    ] = ()
    secrets: Annotated[
        Mapping[str, SecretSpec],
        _restart(
            "Environment variables whose values are never stored or shown; they win over `env`."
        ),
    ] = field(default_factory=dict)
    numprocesses: Annotated[
        Processes,
        _live(
            "Number of processes, or a formula: cpus, which is how many processors the manager may use (by its "
            "affinity and by the quota of its control group), times or divided by a whole number, plus or minus one: "
            "cpus, cpus*2, cpus/2, cpus-1, cpus*2+1. It is rounded down, at least 1, and worked out when the spec is "
            "read."
        ),
    ] = 1
    numprocesses_formula: Annotated[str, WORKED_OUT] = ""
    """What `numprocesses` was worked out from; empty when it was written as a number."""
    autostart: Annotated[
        bool,
        _live(
            "Start with the manager; false: a service starts with `reconcile start`, a job with `rerun`."
        ),
    ] = True
    priority: Annotated[
        int,
        Between(-1_000_000, 1_000_000),
        _live(
            "Higher starts first, without waiting, and stops last: when several stop, it is asked to end only when all "
            "lower ones are gone."
        ),
    ] = 0
    restart: Annotated[
        Literal["always", "on-failure", "never"],
        _live(
            "When a process that ended is started again; never: a one-shot job. `respawn: false` is never."
        ),
    ] = "always"
    depends_on: Annotated[
        Mapping[str, DependencySpec | DependencyCondition] | tuple[str, ...],
        _live(
            "Watchers that come first: a list of names, {db: ready} or {db: {condition: ready, ...}}. Each start, "
            "also of a successor, waits for them; what runs goes on. They stop after this one."
        ),
    ] = field(default_factory=dict)
    success_exit_codes: Annotated[
        tuple[Annotated[int, Between(0, 255)], ...], _live("Exit codes that count as success.")
    ] = (0,)
    backoff: Annotated[BackoffSpec, _live("Restart delays after quick deaths.")] = BackoffSpec()
    max_restarts: Annotated[
        MaxRestartsSpec | None, _live("When a slot fails permanently; null: never.")
    ] = None
    on_exit: Annotated[
        Literal["shutdown"] | None,
        _live(
            "shutdown: when it ends by itself, everything is stopped in order and the manager exits with its code "
            "(128+n for a signal). A service ends with the first of its processes, which is not started again then, "
            "or, with `restart: on-failure`, with one that has succeeded or is given up; a job when all of it has run."
        ),
    ] = None
    on_failure: Annotated[
        Literal["shutdown"] | None,
        _live(
            "shutdown: the same when it fails. A service fails with the first process that ends by itself with "
            "anything but a success code, or, with `max_restarts`, with a slot that is given up; a job with a run that "
            "does not succeed."
        ),
    ] = None
    max_retry: Annotated[
        int,
        Between(0, 1000),
        _live("Jobs: further attempts when the program cannot be executed at all."),
    ] = 5
    spawn_interval: Annotated[SecondsNs, _live("Pause between the starts of two slots.")] = 0
    stop: Annotated[StopSpec, _live("How a process is asked to end.")] = StopSpec()
    use_sockets: Annotated[
        tuple[str, ...] | bool,
        _restart(
            "Sockets passed as LISTEN_FDS, in this order; true: all, false: none. One named by ${sockets.NAME}"
            " follows them."
        ),
    ] = ()
    stdin_socket: Annotated[str | None, _restart("Socket to pass as standard input.")] = None
    on_demand: Annotated[
        bool | OnDemandSpec,
        _live(
            "Start with the first connection to a socket of this watcher: true, or {idle_timeout: 10m} to stop again "
            "when nobody uses it."
        ),
    ] = False
    ready: Annotated[
        ReadySpec | None,
        _live(
            "When a process counts as ready, what rolls and `--wait` wait for; null: when it has lived a second."
            " An edit counts for processes that are not ready yet."
        ),
    ] = None
    watchdog: Annotated[
        DurationNs | None,
        _restart(
            "How often a process must be heard of, by WATCHDOG=1 of sd_notify(3); one that is silent for longer has"
            " failed: it is stopped, and started again after the restart delay. It gets WATCHDOG_USEC, WATCHDOG_PID and"
            " NOTIFY_SOCKET; null: it need not be heard of."
        ),
    ] = None
    pid_file: Annotated[
        Text | None,
        _live(
            "File in which a program writes its main process. When the one that was started ends by itself and the file"
            " names a descendant of it, that one goes on in its slot: for programs that replace themselves or go into"
            " the background."
        ),
    ] = None
    health: Annotated[
        HealthSpec | None,
        _live("Whether a process that is ready goes on to serve; null: nobody asks."),
    ] = None
    reload: Annotated[
        Reload, _live("What `reconcile reload` does: replace, {signal: HUP} or {cmd: ...}.")
    ] = "replace"
    rollout: Annotated[RolloutSpec, _live("How many running processes are replaced at a time.")] = (
        RolloutSpec()
    )
    watch: Annotated[
        WatchSpec | None,
        _restart("Files whose change replaces the processes, and fires a job again; null: none."),
    ] = None
    max_age: Annotated[SecondsNs | None, _live("Replace a process that has run this long.")] = None
    max_age_variance: Annotated[
        SecondsNs, _live("Random time up to this much, added to max_age per process.")
    ] = 0
    limits: Annotated[
        LimitsSpec, _restart("Kernel limits, scheduling, and limits that the manager watches.")
    ] = LimitsSpec()
    logs: Annotated[LogsSpec, _live("What happens to the output.")] = LogsSpec()
    stdin: Annotated[
        Literal["devnull", "pty"] | StdinSpec,
        _restart(
            "Standard input: empty, a terminal at which nobody types (for programs that end with their input, or want "
            "a terminal there), or {file: PATH}. Output goes where logs: says in any case."
        ),
    ] = "devnull"
    hooks: Annotated[HooksSpec, _live("User code at transitions.")] = HooksSpec()
    rerun_on: Annotated[
        tuple[Literal["spec_change", "boot", "daemon_start"], ...],
        _live("Jobs: what fires them again."),
    ] = ("spec_change", "boot")
    schedule: Annotated[
        ScheduleSpec | None,
        _live("Jobs: when the clock fires them; null: only what `rerun_on` says does."),
    ] = None
    timeout: Annotated[DurationNs | None, _live("Jobs: stop a run that takes longer.")] = None
    overlap: Annotated[
        Overlap,
        _live(
            "Jobs: what a rerun or the schedule does with a slot that still runs: skip it, run it again once it has "
            "ended (queue), or stop it and run it again (replace)."
        ),
    ] = "skip"
    on_lost: Annotated[
        Literal["fail", "rerun"],
        _live("Jobs: whether a run whose end nobody saw has failed or runs again."),
    ] = "fail"
    keep_runs: Annotated[
        int,
        Between(1, 10_000),
        _live("Jobs: runs of each slot that `reconcile runs` can show; the newest is always kept."),
    ] = KEEP_RUNS
    access: Annotated[
        PluginAccess | None,
        _live(
            "Plugins: what their processes may do on the control socket; {role: view} by default."
        ),
    ] = None
    x: Annotated[Extensions, _none("All x-* keys.")] = field(default_factory=dict)

    @property
    def given_texts(self) -> tuple[str, ...]:
        """Return the texts that the process itself is given: its command, and the values of its environment."""
        return (*self.cmd, *(value for value in self.env.values() if value is not None))

    @property
    def processes_text(self) -> str:
        """Return the number of processes and, where it was worked out, from what: `cpus*2 = 8`."""
        number = str(self.numprocesses)
        return f"{self.numprocesses_formula} = {number}" if self.numprocesses_formula else number

    @property
    def demand(self) -> OnDemandSpec | None:
        """Return how it runs on demand; None: it runs all the time."""
        if isinstance(self.on_demand, bool):
            return OnDemandSpec() if self.on_demand else None
        return self.on_demand

    @property
    def dependencies(self) -> Mapping[str, DependencySpec]:
        """Return what is waited for, by name; of a spec that was loaded all conditions are known."""
        if isinstance(self.depends_on, tuple):
            return {name: DependencySpec() for name in self.depends_on}
        return {
            name: DependencySpec(each) if isinstance(each, str) else each
            for name, each in self.depends_on.items()
        }

    @property
    def is_heard(self) -> bool:
        """Tell whether its processes get a socket to say how they are."""
        return self.watchdog is not None or (self.ready is not None and self.ready.notify)

    @property
    def is_job(self) -> bool:
        """Tell whether this is a one-shot job; everything else is a service."""
        return self.restart == "never"

    @property
    def waits_for_schedule(self) -> bool:
        """Tell whether nothing but its schedule and operators fire this job."""
        return self.schedule is not None and not self.schedule.run_at_start


# ---- the whole ------------------------------------------------------------------------------------


class Document(Struct, frozen=True):
    """A spec file as users write it; `specfile` resolves it into a `Spec`."""

    version: Annotated[Literal[1], _none("Version of this language.")] = 1
    daemon: Annotated[DaemonSpec, _none("How the manager itself runs.")] = DaemonSpec()
    apply: Annotated[ApplySpec, _live("How edits of the files are applied.")] = ApplySpec()
    include: Annotated[tuple[str, ...], _none("Further files: globs relative to this file.")] = ()
    overrides: Annotated[
        tuple[str, ...],
        _none(
            "Files that say what is different on some machines: globs relative to this file, merged last in their "
            "order, the later wins. One that is named by a variable (hosts/${hostname}.yaml) or a wildcard may be "
            "missing."
        ),
    ] = ()
    vars: Annotated[Mapping[str, str], _none("Values for ${name} in this spec.")] = field(
        default_factory=dict
    )
    env: Annotated[
        Environment, _restart("Environment variables of every watcher; null: none has it.")
    ] = field(default_factory=dict)
    defaults: Annotated[
        Mapping[str, object], _none("Watcher fields for all watchers that do not set them.")
    ] = field(default_factory=dict)
    sockets: Annotated[
        Mapping[str, SocketSpec], _rebind("Sockets that the manager binds and holds.")
    ] = field(default_factory=dict)
    watchers: Annotated[Mapping[str, WatcherSpec], _live("What should run.")] = field(
        default_factory=dict
    )
    plugins: Annotated[
        Mapping[str, object],
        _live(
            "Watchers whose processes speak the control protocol: the same fields, and `access`. They get the path of "
            "the control socket in RECONCILE_CONTROL_SOCKET."
        ),
    ] = field(default_factory=dict)
    x: Annotated[Extensions, _none("All x-* keys.")] = field(default_factory=dict)


class Spec(Struct, frozen=True):
    """What shall be, resolved: includes, defaults, variables and environment files are worked in.

    Plugins are among the watchers: those with `access`. A watcher's `env` is complete but for what it inherits
    from the manager, its `use_sockets` names each socket that it gets, in the order of the descriptors from 3 on, those
    that `cmd` or `env` name last, and its paths are absolute.
    """

    daemon: DaemonSpec = DaemonSpec()
    apply: ApplySpec = ApplySpec()
    sockets: Mapping[str, SocketSpec] = field(default_factory=dict)
    watchers: Mapping[str, WatcherSpec] = field(default_factory=dict)
    x: Extensions = field(default_factory=dict)
    looked_for: tuple[str, ...] = ()
    """Paths and patterns at which further files may appear that would belong to it."""


# ---- what the declarations say --------------------------------------------------------------------


class Field(Struct, frozen=True):
    """One declared field: `name` as users write it, `type` without our markers, and its markers."""

    name: str
    attribute: str
    type: object
    markers: tuple[object, ...]
    about: About
    default: object
    required: bool


def bare(hint: object) -> tuple[object, tuple[object, ...]]:
    """Return a type without its markers, and those."""
    markers: tuple[object, ...] = ()
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        markers += tuple(more)
    return hint, markers


def _markers_of_nullable(hint: object) -> tuple[object, ...]:
    """Return the markers of the one type that a value has which is not null; () where there are several."""
    others = [each for each in get_args(hint) if each is not type(None)]
    is_nullable = get_origin(hint) in (Union, UnionType) and len(others) < len(get_args(hint))
    return bare(others[0])[1] if is_nullable and len(others) == 1 else ()


def rlimits() -> tuple[Field, ...]:
    """Return the fields of the limits of setrlimit(2): those that can have a soft and a hard one."""
    return tuple(
        each
        for each in declared_fields(LimitsSpec)
        if any(isinstance(one, type) and issubclass(one, SoftHard) for one in get_args(each.type))
    )


@cache
def declared_fields(cls: type) -> tuple[Field, ...]:
    """Return the declared fields of one of the classes above, in the order of declaration."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for declared in msgspec.structs.fields(cls):
        hint, markers = bare(hints[declared.name])
        if WORKED_OUT in markers:
            continue
        markers += _markers_of_nullable(hint)
        about = next((m for m in markers if isinstance(m, About)), About("none", ""))
        default: object = None if declared.default is msgspec.NODEFAULT else declared.default
        if declared.default_factory is not msgspec.NODEFAULT:
            default = declared.default_factory()
        name = declared.name.removesuffix("_")
        found.append(Field(name, declared.name, hint, markers, about, default, declared.required))
    return tuple(found)
