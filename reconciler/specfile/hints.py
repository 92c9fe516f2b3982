"""What to try: near names, and the words of other tools in one table."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import Document, WatcherSpec, declared_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT_BUILT: Final = "not built yet: leave it out"

_PROBE_WORDS: Final = {
    "write: http: {port: 8000, path: /healthz}": "httpGet http_get url path",
    "write: tcp": "port tcpSocket tcp_socket",
    "write: exec": "cmd command",
    "write: initial_delay": "initialDelaySeconds initial_delay_seconds start_period",
    "write: interval": "periodSeconds period_seconds period",
    "write: timeout": "timeoutSeconds timeout_seconds",
    "write: successes": "successThreshold success_threshold",
    "which of several processes takes connections from a shared socket cannot be known: write http or tcp": "accept",
}

_WORDS_BY_ANSWER: Final = {
    "Document": {
        "write: watchers": "services processes programs apps watcher",
        "write: watchers, with restart: never for a one-shot job": "jobs",
        "write: daemon": "circus supervisord settings",
        "write: vars": "variables",
        "write: env": "environment",
        "write: sockets": "socket",
        "write: include": "includes imports",
        "write: include: [conf.d/*.yaml]": "include_dir",
        "write: defaults": "default",
        "a watcher needs a name: watchers: {NAME: {cmd: ...}}": "cmd",
        "write: overrides": "override hosts",
        "write: plugins": "plugin",
        "write: daemon: {access: [...]}": "access",
    },
    "WatcherSpec": {
        "write: cmd": "command exec program run ExecStart entrypoint script",
        "write the arguments into cmd": "args",
        "write: numprocesses": "replicas instances numprocs processes workers scale count",
        "write: numprocesses: 1": "singleton",
        "write: stop: {signal: TERM}": "stop_signal stopsignal kill_signal KillSignal",
        "write: stop: {timeout: 10s}": (
            "graceful_timeout stopwaitsecs stop_timeout stop_grace_period kill_timeout kill_delay "
            "terminationGracePeriodSeconds kill-delay TimeoutStopSec"
        ),
        "write: stop: {signal: TERM, timeout: 10s}": "shutdown",
        "write: stop: {ask: all}; without it only the main process is asked to end, and what is left of its "
        "tree is asked and killed after it": "stop_children",
        "write: stop: {ask: all, scope: group}": "stopasgroup",
        "leave it out: what is left of the tree is killed at stop.timeout in any case": "killasgroup",
        "write: stop: {ask: main} for mixed, {ask: all} for control-group, {scope: process} for process": "KillMode",
        "write: reload: {signal: HUP}": "send_hup",
        "write: inherit_env: true": "copy_env",
        "PATH is always set; write env: {PYTHONPATH: ...} where it is needed": "copy_path",
        "write: env": "environment environ envs Environment",
        "write: env_file": "env_files EnvironmentFile",
        "write: user": "uid username User",
        "write: group": "gid Group",
        "write: working_dir": "cwd chdir directory dir workdir workingDir WorkingDirectory",
        "write: virtualenv": "venv",
        "write: restart: always, on-failure or never": "autorestart restartPolicy restart_policy Restart",
        "write: autostart: true or false": "startup enabled",
        "write: autostart: false": "disabled",
        "write: max_restarts: {count: 10, window: 60s}": "startretries backoffLimit flapping",
        "write: backoff: {reset_after: 10s}": "startsecs min_uptime",
        "write: backoff: {initial: 500ms}": (
            "restart_delay restart_sec RestartSec backoff-delay exp_backoff_restart_delay"
        ),
        "write: success_exit_codes: [0]": "exitcodes exit_codes",
        "write: spawn_interval: 1s": "warmup_delay",
        "write: use_sockets": "sockets socket",
        "write: logs: {stdout: {file: ...}}": "stdout_logfile stdout_stream stdout logfile log_location out_file",
        "write: logs: {stderr: {file: ...}}": "stderr_logfile stderr_stream error_file",
        "write: logs: {stderr: {to: stdout}}, which is the default": "redirect_stderr",
        "write: logs: {stderr: {to: stdout}}": "stderr StandardError",
        "write: logs": "log",
        "write: logs: {stdout: {to: devnull}}": "close_child_stdout",
        "write: logs: {stderr: {to: devnull}}": "close_child_stderr",
        "write: limits: {nofile: 1024}": "rlimits ulimits nofile LimitNOFILE",
        "write: limits": "resources",
        "write: limits: {nice: 10}": "nice Nice",
        "write: restart: never": "oneshot",
        "write restart: never for a one-shot job; everything else is kept alive": "type",
        "the name is the key above: watchers: {NAME: {cmd: ...}}": "name",
        "write: labels: {name: value}": "tags",
        "write: hooks": "hook",
        "write: on_demand: true": "socket_activation lazy",
        "write: depends_on: [NAME]": "after requires wants needs",
        "write: ready": "readiness_probe wait_ready",
        "write: ready: {deadline: 60s}": "listen_timeout TimeoutStartSec",
        "write: watchdog: 30s": "WatchdogSec",
        "write: pid_file: PATH": "pidfile PIDFile",
        "write: health": "liveness_probe healthcheck",
        "write: health: {action: restart}": "on-check-failure",
        "write: watch: {paths: [...], ignore: [...]}": "ignore_watch watch_paths watch_delay watch_options",
        NOT_BUILT: "env_rules",
        "write: rollout: {max_unavailable: 1}": "update_config maxUnavailable max_unavailable rolling_update",
        "write: rollout: {max_surge: 1}": "maxSurge max_surge start-first",
        'write: restart: never, schedule: {cron: "0 3 * * *"}': "cron timer OnCalendar",
        "write: restart: never, schedule: {every: 15m}": "interval every OnUnitActiveSec",
        "write: schedule: {timezone: Europe/Berlin}": "timezone timeZone",
        "write: schedule: {catch_up: once}": "Persistent startingDeadlineSeconds",
        "write: schedule: {jitter: 5m}": "RandomizedDelaySec",
        "write: overlap: skip, queue or replace": "concurrencyPolicy",
        "write: restart: always, on-failure or never; max_restarts: {count: 5}; backoff: {initial: 1s}": "availability",
        "run the program in the foreground, and leave this out": "is_daemon",
        "write: logs: {max_size: 10MiB, keep: 5}": "log_configuration logging",
        "output is kept as the process writes it: leave it out": "disable_ansi_colors",
        "write: labels: {namespace: NAME}": "namespace",
        "write: restart: on-failure, which rests after a success; always starts again": "on-success",
        "write: restart: on-failure": "on-failure",
        "write: backoff: {factor: 2}": "backoff-factor",
        "write: backoff: {max: 30s}": "backoff-limit",
        "a watcher is defined once: leave it out": "override",
        "write: description": "summary",
        "write it before the program: cmd: python3 app.py": "interpreter",
        "write them into cmd": "interpreter_args",
        "write them into cmd: node --max-old-space-size=512 app.js": "node_args",
        "processes share a socket by use_sockets: leave it out": "exec_mode",
        "write: limits: {max_memory: 512MiB}": "max_memory_restart memory max_mem",
        "write: limits: {cgroup: {memory_max: 512MiB}}": "mem_limit MemoryMax MemoryLimit memory_max",
        "write: limits: {cgroup: {memory_high: 512MiB}}": "mem_reservation MemoryHigh memory_high",
        "write: limits: {cgroup: {cpu_max: 150%}}": "cpus cpu_quota CPUQuota cpu_max",
        "write: limits: {cgroup: {cpu_weight: 100}}": "cpu_shares CPUWeight cpu_weight",
        "write: limits: {cgroup: {io_weight: 100}}": "blkio_config IOWeight io_weight",
        "write: limits: {cgroup: {pids_max: 100}}": "pids_limit TasksMax pids_max",
        "write: limits: {max_cpu: 90%}": "max_cpu",
        NOT_BUILT + "; a timer can call `reconcile restart NAME`": "cron_restart",
        "let logs: {stdout: {file: ...}} name one file: leave it out": "merge_logs",
        'write: logs: {timestamps: true}, or a format such as "%H:%M:%S"': "log_date_format",
        "write: restart: on-failure, success_exit_codes: [0]": "stop_exit_codes",
        'write: env: {PORT: "${slot+7999}"}': "increment_var",
        "a watcher runs a program of this machine: write: cmd": "image build",
        "the name is the key above: leave it out": "container_name",
        "the program listens by itself: leave it out, or write sockets: and use_sockets:": "ports",
        "the program listens by itself: leave it out": "expose",
        "a watcher sees the files of this machine: leave it out": "volumes",
        "a watcher uses the network of this machine: leave it out": "networks",
        "write: autostart: false, and start it by name": "profiles",
        "write: numprocesses, limits and restart": "deploy",
        "the keeper reaps whatever is left behind: leave it out": "init",
        "write: stdin: pty, a terminal at which nobody types; output goes where logs: says": "tty stdin_open is_tty",
        "write: hooks: {before_spawn: {cmd: ...}}": "ExecStartPre",
        "write: hooks: {after_spawn: {cmd: ...}}": "ExecStartPost",
        "write: reload: {signal: HUP} or {cmd: ...}": "ExecReload",
        "write: stop: {cmd: ...}": "ExecStop",
        'write: umask: "022"': "UMask",
        "write: logs: {stdout: {to: manager}}": "StandardOutput",
        "write: max_age_variance": "max_age_variance_sec",
        "processes are called NAME.SLOT: leave it out": "process_name",
        "write: logs: {max_size: 10MiB}": "stdout_logfile_maxbytes stderr_logfile_maxbytes",
        "write: logs: {keep: 5}": "stdout_logfile_backups stderr_logfile_backups",
        "there is nothing like it: leave it out": "stdout_capture_maxbytes",
        "slots count from 1; ${slot-1} counts from 0: leave it out": "numprocs_start",
    },
    "SocketSpec": {
        "write: listen: HOST:PORT": "host port",
        "write: listen: unix:/PATH": "path",
        "the address tells: 0.0.0.0:PORT, [::]:PORT or unix:/PATH": "family",
        "write: listen": "address bind endpoint",
        'write: mode: "0660"': "umask",
        "write: reuseport: true": "so_reuseport",
        "a stale socket file is replaced by itself": "replace",
        "write: type": "proto protocol",
        "write: blocking: false": "nonblocking non_blocking",
    },
    "DaemonSpec": {
        NOT_BUILT + "; a watcher's spawn_interval spaces its own starts": "start_interval",
        NOT_BUILT: "metrics web",
        "the control socket is <runtime_dir>/control.sock": "endpoint",
        "there is none: a lock and the service manager replace it": "pidfile",
        "write: log: {level: info}": "loglevel",
        "write: log: {file: ...}": "logoutput",
    },
    "AccessSpec": {
        "write: user": "uid",
        "write: group": "gid",
        "write one entry for each: user": "users",
        "write one entry for each: group": "groups",
        "write: role: view, operate or admin": "roles",
        "write: labels: {name: value}": "label",
        "write: labels, and label the watchers": "watchers",
    },
    "ApplySpec": {
        "write: quiet_period": "delay debounce",
    },
    "ReadySpec": _PROBE_WORDS
    | {
        "a ready probe is asked until the deadline": "failures failureThreshold failure_threshold retries",
        "write: deadline": "listen_timeout start_timeout max_wait",
    },
    "HealthSpec": _PROBE_WORDS
    | {
        "write: failures": "failureThreshold failure_threshold retries",
        "write: action: restart, stop or none": "on_failure on_fail then",
        "a process that never becomes healthy is no matter of time: write failures and interval": "deadline",
        "lines of output tell when a process is ready, not whether it goes on to be: write it below ready": "log",
        "write: initial_delay": "delay",
    },
    "HttpSpec": {
        "through a socket that processes share any of them may answer: write url or port": "socket",
        "only GET is asked: write path, status and headers, or exec: a command": "method body",
        "write: status": "codes expect expected status_code",
        "only http is asked; write ready: {exec: curl ...}": "scheme tls ssl https",
    },
    "StopSpec": {
        "write: timeout": "graceful_timeout",
        "write: cmd": "command",
        "write: ask: all": "children",
        "write: ask: all and scope: group": "group",
    },
    "LimitsSpec": {
        "write: max_memory: 512MiB": "memory mem max_mem",
        "write: cgroup: {memory_max: 512MiB}": "memory_max MemoryMax",
        "write: cgroup: {cpu_max: 150%}": "cpus cpu_max CPUQuota",
        "write: cgroup: {pids_max: 100}": "pids pids_max TasksMax",
        "write: nofile": "files open_files",
    },
    "LogsSpec": {
        "write: max_size: 10MiB": "max_bytes",
        "write: keep": "backup_count backups retain",
        "write: rotate: hourly, daily, weekly or a part of a day such as 6h": (
            "rotate_when rotate_interval rotateInterval rotate_every when interval"
        ),
        'write: timestamps: "%Y-%m-%d %H:%M:%S", or true for UTC': "time_format",
        "write: stdout: {file: ...}": "file",
    },
    "HooksSpec": {
        "leave it out: `reconcile stats` and `status -o wide` measure what each process uses": (
            "extended_stats"
        ),
        "write: before_start": "pre_start",
        "write: after_start": "post_start",
        "write: before_stop": "pre_stop",
        "write: after_stop": "post_stop",
    },
    "HookSpec": {
        "write: cmd": "command",
        "write: python": "callable",
        "write: on_error: ignore": "ignore_failure",
    },
    "WatchSpec": {
        "write: paths": "path include files folders",
        "write: ignore": "exclude ignored",
        "write: quiet_period": "delay debounce",
    },
    "BackoffSpec": {
        "write: initial": "delay",
        "write: max": "limit",
        "write: factor": "multiplier",
    },
    "MaxRestartsSpec": {
        "write: count": "attempts",
        "write: window": "within",
    },
}
"""What is written instead of which words, by the class whose fields stand there: words of Circus, supervisor, systemd,
compose, process-compose, Pebble, pm2, Kubernetes."""
WORDS: Final = {
    block: {word: answer for answer, words in answers.items() for word in words.split()}
    for block, answers in _WORDS_BY_ANSWER.items()
}

_WATCHER_FIELDS: Final = frozenset(each.name for each in declared_fields(WatcherSpec))

_VALUES_BY_OURS: Final = {
    ("type", "dgram"): "udp datagram",
    ("type", "stream"): "tcp",
    ("restart", "never"): "no false",
    ("restart", "always"): "yes true unless-stopped",
    ("restart", "on-failure"): "on_failure unexpected",
    ("to", "devnull"): "null /dev/null",
    ("scope", "tree"): "children",
    ("ask", "main"): "process mixed",
    ("ask", "all"): "tree group",
    ("role", "view"): "read viewer",
    ("role", "operate"): "operator",
    ("role", "admin"): "root",
    ("level", "warning"): "warn",
    ("level", "error"): "critical",
    ("on_error", "abort"): "fail",
    ("condition", "started"): "service_started process_started running",
    ("condition", "ready"): "service_healthy process_healthy process_log_ready healthy",
    ("condition", "succeeded"): "service_completed_successfully process_completed_successfully",
    ("condition", "completed"): "process_completed exited",
}
VALUE_WORDS: Final = {
    (field, word): ours
    for (field, ours), words in _VALUES_BY_OURS.items()
    for word in words.split()
}
"""Values of other tools for fields of ours."""


def for_unknown_field(name: str, block: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown field of the class `block`, or an empty text."""
    word = WORDS.get(block, {}).get(name)
    if word is not None:
        return word
    if block == Document.__name__ and name in _WATCHER_FIELDS:
        return "a watcher's fields stand below its name: watchers: {NAME: {...}}"
    near = nearest(name, known)
    if near:
        return f"did you mean '{near}'?"
    other = nearest(name, WORDS.get(block, {}))
    return WORDS[block][other] if other else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is nearest to what was written, or an empty text."""
    by_folded = {each.lower().replace("-", "_"): each for each in known}
    near = get_close_matches(word.lower().replace("-", "_"), list(by_folded), n=1, cutoff=0.72)
    return by_folded[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str], *, what: str = "") -> str:
    """Return "did you mean 'x'?", or the list of what there is (of the kind `what`) when it is short."""
    names = sorted(known)
    near = nearest(word, names)
    if near:
        return f"did you mean '{near}'?"
    if what and not names:
        return f"there are no {what}"
    return f"there are: {', '.join(names)}" if what and len(names) <= 8 else ""
