"""What to try: near names, and the words of other tools in one table."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import Document, WatcherSpec, declared_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT_BUILT: Final = "not built yet: leave it out"
NO_MEMORY_LIMIT: Final = (
    "there is no limit of memory in use yet; limits: {as: 2GiB} limits the address space, which programs that"
    " reserve much of it (Go, Java, node) do not survive"
)
NO_ORDER: Final = (
    NOT_BUILT + "; a before_spawn hook can wait, before each start and each replacement"
)

WATCHER_WORDS: Final = {
    "command": "write: cmd",
    "exec": "write: cmd",
    "program": "write: cmd",
    "run": "write: cmd",
    "ExecStart": "write: cmd",
    "entrypoint": "write: cmd",
    "args": "write the arguments into cmd",
    "replicas": "write: numprocesses",
    "instances": "write: numprocesses",
    "numprocs": "write: numprocesses",
    "processes": "write: numprocesses",
    "workers": "write: numprocesses",
    "scale": "write: numprocesses",
    "count": "write: numprocesses",
    "singleton": "write: numprocesses: 1",
    "stop_signal": "write: stop: {signal: TERM}",
    "stopsignal": "write: stop: {signal: TERM}",
    "kill_signal": "write: stop: {signal: TERM}",
    "graceful_timeout": "write: stop: {timeout: 10s}",
    "stopwaitsecs": "write: stop: {timeout: 10s}",
    "stop_timeout": "write: stop: {timeout: 10s}",
    "stop_grace_period": "write: stop: {timeout: 10s}",
    "kill_timeout": "write: stop: {timeout: 10s}",
    "kill_delay": "write: stop: {timeout: 10s}",
    "terminationGracePeriodSeconds": "write: stop: {timeout: 10s}",
    "shutdown": "write: stop: {signal: TERM, timeout: 10s}",
    "stop_children": "write: stop: {ask: all}; without it only the main process is asked to end, and what is "
    "left of its tree is asked and killed after it",
    "stopasgroup": "write: stop: {ask: all, scope: group}",
    "killasgroup": "leave it out: what is left of the tree is killed at stop.timeout in any case",
    "KillMode": "write: stop: {ask: main} for mixed, {ask: all} for control-group, {scope: process} for process",
    "send_hup": "write: reload: {signal: HUP}",
    "copy_env": "write: inherit_env: true",
    "copy_path": "PATH is always set; write env: {PYTHONPATH: ...} where it is needed",
    "environment": "write: env",
    "environ": "write: env",
    "envs": "write: env",
    "env_files": "write: env_file",
    "uid": "write: user",
    "gid": "write: group",
    "username": "write: user",
    "cwd": "write: working_dir",
    "chdir": "write: working_dir",
    "directory": "write: working_dir",
    "dir": "write: working_dir",
    "workdir": "write: working_dir",
    "workingDir": "write: working_dir",
    "WorkingDirectory": "write: working_dir",
    "venv": "write: virtualenv",
    "autorestart": "write: restart: always, on-failure or never",
    "restartPolicy": "write: restart: always, on-failure or never",
    "restart_policy": "write: restart: always, on-failure or never",
    "startup": "write: autostart: true or false",
    "enabled": "write: autostart: true or false",
    "disabled": "write: autostart: false",
    "startretries": "write: max_restarts: {count: 10, window: 60s}",
    "backoffLimit": "write: max_restarts: {count: 10, window: 60s}",
    "flapping": "write: max_restarts: {count: 10, window: 60s}",
    "startsecs": "write: backoff: {reset_after: 10s}",
    "restart_delay": "write: backoff: {initial: 500ms}",
    "restart_sec": "write: backoff: {initial: 500ms}",
    "exitcodes": "write: success_exit_codes: [0]",
    "exit_codes": "write: success_exit_codes: [0]",
    "warmup_delay": "write: spawn_interval: 1s",
    "sockets": "write: use_sockets",
    "socket": "write: use_sockets",
    "stdout_logfile": "write: logs: {stdout: {file: ...}}",
    "stderr_logfile": "write: logs: {stderr: {file: ...}}",
    "redirect_stderr": "write: logs: {stderr: {to: stdout}}, which is the default",
    "stdout_stream": "write: logs: {stdout: {file: ...}}",
    "stderr_stream": "write: logs: {stderr: {file: ...}}",
    "stdout": "write: logs: {stdout: {file: ...}}",
    "stderr": "write: logs: {stderr: {to: stdout}}",
    "log": "write: logs",
    "logfile": "write: logs: {stdout: {file: ...}}",
    "close_child_stdout": "write: logs: {stdout: {to: devnull}}",
    "close_child_stderr": "write: logs: {stderr: {to: devnull}}",
    "rlimits": "write: limits: {nofile: 1024}",
    "ulimits": "write: limits: {nofile: 1024}",
    "resources": "write: limits",
    "nice": "write: limits: {nice: 10}",
    "nofile": "write: limits: {nofile: 1024}",
    "oneshot": "write: restart: never",
    "type": "write restart: never for a one-shot job; everything else is kept alive",
    "name": "the name is the key above: watchers: {NAME: {cmd: ...}}",
    "tags": "write: labels: {name: value}",
    "hook": "write: hooks",
    "after": NO_ORDER,
    "requires": NO_ORDER,
    "depends_on": NO_ORDER,
    "ready": NOT_BUILT + "; an after_spawn hook can ask the process, and end it",
    "readiness_probe": NOT_BUILT,
    "liveness_probe": NOT_BUILT,
    "healthcheck": NOT_BUILT,
    "health": NOT_BUILT,
    "watchdog": NOT_BUILT,
    "schedule": NOT_BUILT + "; a timer can call `reconcile rerun NAME`",
    "cron": NOT_BUILT + "; a timer can call `reconcile rerun NAME`",
    "env_rules": NOT_BUILT,
    "rollout": NOT_BUILT + "; processes are replaced one by one",
    "on_demand": NOT_BUILT,
    "watch": NOT_BUILT,
    # process-compose
    "availability": "write: restart: always, on-failure or never; max_restarts: {count: 5}; backoff: {initial: 1s}",
    "is_tty": "there are no terminals for processes: stdin is devnull, and output goes where logs: says",
    "is_daemon": "run the program in the foreground, and leave this out",
    "log_location": "write: logs: {stdout: {file: ...}}",
    "log_configuration": "write: logs: {max_size: 10MiB, keep: 5}",
    "disable_ansi_colors": "output is kept as the process writes it: leave it out",
    "namespace": "write: labels: {namespace: NAME}",
    # pebble
    "on-success": "write: restart: on-failure, which rests after a success; always starts again",
    "on-failure": "write: restart: on-failure",
    "on-check-failure": NOT_BUILT,
    "backoff-delay": "write: backoff: {initial: 500ms}",
    "backoff-factor": "write: backoff: {factor: 2}",
    "backoff-limit": "write: backoff: {max: 30s}",
    "kill-delay": "write: stop: {timeout: 10s}",
    "override": "a watcher is defined once: leave it out",
    "summary": "write: description",
    # pm2
    "script": "write: cmd",
    "interpreter": "write it before the program: cmd: python3 app.py",
    "interpreter_args": "write them into cmd",
    "node_args": "write them into cmd: node --max-old-space-size=512 app.js",
    "exec_mode": "processes share a socket by use_sockets: leave it out",
    "max_memory_restart": NO_MEMORY_LIMIT,
    "min_uptime": "write: backoff: {reset_after: 10s}",
    "exp_backoff_restart_delay": "write: backoff: {initial: 500ms}",
    "cron_restart": NOT_BUILT + "; a timer can call `reconcile restart NAME`",
    "out_file": "write: logs: {stdout: {file: ...}}",
    "error_file": "write: logs: {stderr: {file: ...}}",
    "merge_logs": "let logs: {stdout: {file: ...}} name one file: leave it out",
    "log_date_format": "write: logs: {timestamps: true}",
    "wait_ready": NOT_BUILT,
    "listen_timeout": NOT_BUILT,
    "stop_exit_codes": "write: restart: on-failure, success_exit_codes: [0]",
    "increment_var": "write: env: {PORT: ...} with ${slot} in it",
    # compose
    "image": "a watcher runs a program of this machine: write: cmd",
    "build": "a watcher runs a program of this machine: write: cmd",
    "container_name": "the name is the key above: leave it out",
    "ports": "the program listens by itself: leave it out, or write sockets: and use_sockets:",
    "expose": "the program listens by itself: leave it out",
    "volumes": "a watcher sees the files of this machine: leave it out",
    "networks": "a watcher uses the network of this machine: leave it out",
    "profiles": "write: autostart: false, and start it by name",
    "deploy": "write: numprocesses, limits and restart",
    "mem_limit": NO_MEMORY_LIMIT,
    "memory": NO_MEMORY_LIMIT,
    "init": "the keeper reaps whatever is left behind: leave it out",
    "logging": "write: logs: {max_size: 10MiB, keep: 5}",
    "tty": "there are no terminals for processes: leave it out",
    "stdin_open": "there are no terminals for processes: leave it out",
    # systemd
    "User": "write: user",
    "Group": "write: group",
    "Environment": "write: env",
    "EnvironmentFile": "write: env_file",
    "Restart": "write: restart: always, on-failure or never",
    "RestartSec": "write: backoff: {initial: 500ms}",
    "ExecStartPre": "write: hooks: {before_spawn: {cmd: ...}}",
    "ExecStartPost": "write: hooks: {after_spawn: {cmd: ...}}",
    "ExecReload": "write: reload: {signal: HUP} or {cmd: ...}",
    "ExecStop": "write: stop: {cmd: ...}",
    "TimeoutStopSec": "write: stop: {timeout: 10s}",
    "KillSignal": "write: stop: {signal: TERM}",
    "LimitNOFILE": "write: limits: {nofile: 1024}",
    "MemoryMax": NO_MEMORY_LIMIT,
    "Nice": "write: limits: {nice: 10}",
    "UMask": 'write: umask: "022"',
    "StandardOutput": "write: logs: {stdout: {to: manager}}",
    "StandardError": "write: logs: {stderr: {to: stdout}}",
    # Circus and supervisor
    "max_age_variance_sec": "write: max_age_variance",
    "process_name": "processes are called NAME.SLOT: leave it out",
    "stdout_logfile_maxbytes": "write: logs: {max_size: 10MiB}",
    "stdout_logfile_backups": "write: logs: {keep: 5}",
    "stderr_logfile_maxbytes": "write: logs: {max_size: 10MiB}",
    "stderr_logfile_backups": "write: logs: {keep: 5}",
    "stdout_capture_maxbytes": "there is nothing like it: leave it out",
    "numprocs_start": "slots count from 1: leave it out",
}
"""Words that stand where a watcher's fields stand."""

TOP_WORDS: Final = {
    "services": "write: watchers",
    "processes": "write: watchers",
    "programs": "write: watchers",
    "apps": "write: watchers",
    "watcher": "write: watchers",
    "jobs": "write: watchers, with restart: never for a one-shot job",
    "circus": "write: daemon",
    "supervisord": "write: daemon",
    "settings": "write: daemon",
    "variables": "write: vars",
    "environment": "write: env",
    "socket": "write: sockets",
    "includes": "write: include",
    "include_dir": "write: include: [conf.d/*.yaml]",
    "imports": "write: include",
    "default": "write: defaults",
    "cmd": "a watcher needs a name: watchers: {NAME: {cmd: ...}}",
    "overrides": NOT_BUILT,
    "plugins": NOT_BUILT,
    "access": "write: daemon: {access: [...]}",
}
SOCKET_WORDS: Final = {
    "host": "write: listen: HOST:PORT",
    "port": "write: listen: HOST:PORT",
    "path": "write: listen: unix:/PATH",
    "family": "the address tells: 0.0.0.0:PORT, [::]:PORT or unix:/PATH",
    "address": "write: listen",
    "bind": "write: listen",
    "endpoint": "write: listen",
    "umask": 'write: mode: "0660"',
    "so_reuseport": "write: reuseport: true",
    "replace": "a stale socket file is replaced by itself",
    "proto": "write: type",
    "protocol": "write: type",
    "nonblocking": "write: blocking: false",
    "non_blocking": "write: blocking: false",
}
WORDS: Final[dict[str, dict[str, str]]] = {
    "Document": TOP_WORDS,
    "WatcherSpec": WATCHER_WORDS,
    "SocketSpec": SOCKET_WORDS,
    "DaemonSpec": {
        "start_interval": NOT_BUILT + "; a watcher's spawn_interval spaces its own starts",
        "max_concurrent_restarts": NOT_BUILT,
        "metrics": NOT_BUILT,
        "web": NOT_BUILT,
        "endpoint": "the control socket is <runtime_dir>/control.sock",
        "pidfile": "there is none: a lock and the service manager replace it",
        "loglevel": "write: log: {level: info}",
        "logoutput": "write: log: {file: ...}",
    },
    "AccessSpec": {
        "uid": "write: user",
        "gid": "write: group",
        "users": "write one entry for each: user",
        "groups": "write one entry for each: group",
        "roles": "write: role: view, operate or admin",
        "label": "write: labels: {name: value}",
        "watchers": "write: labels, and label the watchers",
    },
    "ApplySpec": {
        "delay": "write: quiet_period",
        "debounce": "write: quiet_period",
    },
    "StopSpec": {
        "graceful_timeout": "write: timeout",
        "command": "write: cmd",
        "children": "write: ask: all",
        "group": "write: ask: all and scope: group",
    },
    "LimitsSpec": {
        "max_memory": NO_MEMORY_LIMIT,
        "max_cpu": NOT_BUILT,
        "max_count": NOT_BUILT,
        "memory": NO_MEMORY_LIMIT,
        "mem": NO_MEMORY_LIMIT,
        "files": "write: nofile",
        "open_files": "write: nofile",
    },
    "LogsSpec": {
        "max_bytes": "write: max_size: 10MiB",
        "backup_count": "write: keep",
        "backups": "write: keep",
        "time_format": "write: timestamps: true",
        "file": "write: stdout: {file: ...}",
    },
    "HooksSpec": {
        "extended_stats": NOT_BUILT,
        "after_ready": NOT_BUILT,
        "pre_start": "write: before_start",
        "post_start": "write: after_start",
        "pre_stop": "write: before_stop",
        "post_stop": "write: after_stop",
    },
    "HookSpec": {
        "command": "write: cmd",
        "callable": "write: python",
        "ignore_failure": "write: on_error: ignore",
    },
    "BackoffSpec": {
        "delay": "write: initial",
        "limit": "write: max",
        "multiplier": "write: factor",
    },
    "MaxRestartsSpec": {"attempts": "write: count", "within": "write: window"},
}
"""By the class whose fields stand there."""

_WATCHER_FIELDS: Final = frozenset(each.name for each in declared_fields(WatcherSpec))

VALUE_WORDS: Final = {
    ("type", "udp"): "dgram",
    ("type", "tcp"): "stream",
    ("type", "datagram"): "dgram",
    ("restart", "no"): "never",
    ("restart", "false"): "never",
    ("restart", "yes"): "always",
    ("restart", "true"): "always",
    ("restart", "unless-stopped"): "always",
    ("restart", "on_failure"): "on-failure",
    ("restart", "unexpected"): "on-failure",
    ("to", "null"): "devnull",
    ("to", "/dev/null"): "devnull",
    ("scope", "children"): "tree",
    ("ask", "process"): "main",
    ("ask", "mixed"): "main",
    ("ask", "tree"): "all",
    ("ask", "group"): "all",
    ("role", "read"): "view",
    ("role", "viewer"): "view",
    ("role", "operator"): "operate",
    ("role", "root"): "admin",
    ("level", "warn"): "warning",
    ("level", "critical"): "error",
    ("on_error", "fail"): "abort",
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
