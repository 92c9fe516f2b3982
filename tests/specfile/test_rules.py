"""One mistake per row: where it is told, and in which words."""

from __future__ import annotations

import pytest

from tests.specfile.files import errors_of, only_error, place, spec_of, watcher_of

WEB = "watchers: {web: {cmd: x, "
LAZY = WEB + "use_sockets: [s], on_demand: {idle_timeout: 1m}}}"


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        (WEB + "numprocesses: 1000000000}}", "web.numprocesses", "formula such as cpus*2, found '1000000000'"),
        (WEB + "numprocesses: -5}}", "web.numprocesses", "found '-5'"),
        (WEB + "numprocesses: 1.5}}", "web.numprocesses", "found '1.5'"),
        (WEB + "numprocesses: '2'}}", "web.numprocesses", "write it without quotes"),
        (WEB + "autostart: yes}}", "web.autostart", "expected true or false, found 'yes'"),
        (WEB + "max_age: -1}}", "web.max_age", "0s to 3650d"),
        (WEB + "max_age: 5 minutes}}", "web.max_age", "write: 5m"),
        (WEB + "working_dir: 5}}", "web.working_dir", "put it into quotes"),
        (WEB + "stop: {cmd: {a: 1}}}}", "web.stop.cmd", "a command (text, or a list of words) or null, found a map"),
        (WEB + "max_age: .nan}}", "web.max_age", "duration"),
        (WEB + "max_age: .inf}}", "web.max_age", "duration"),
        (WEB + "max_age: 1e30}}", "web.max_age", "0s to 3650d"),
        (WEB + "max_age: " + "9" * 400 + "s}}", "web.max_age", "0s to 3650d"),
        (WEB + "logs: {max_size: " + "9" * 400 + "GiB}}}", "web.logs.max_size", "at most 1048576GiB"),
        (WEB + "logs: {rotate: 7h}}}", "web.logs.rotate", "expected hourly, daily, weekly, whole days"),
        (WEB + "logs: {rotate: 30s}}}", "web.logs.rotate", "a part of a day such as 15m or 6h"),
        (WEB + "logs: {rotate_when: D}}}", "web.logs.rotate_when", "write: rotate: hourly"),
        (WEB + "logs: {mode: '0440'}}}", "web.logs.mode", "its owner reads and writes, found 0440"),
        (WEB + "logs: {mode: 4640}}}", "web.logs.mode", "found 4640"),
        (WEB + "logs: {owner: 'www:www'}}}", "web.logs.owner", "two fields"),
        (WEB + "logs: {timestamps: yes}}}", "web.logs.timestamps", "expected true, false, iso, local, unix"),
        (WEB + "logs: {timestamps: '%q'}}}", "web.logs.timestamps", "'%q' is no part of a time"),
        (WEB + "logs: {timestamps: '%H:%'}}}", "web.logs.timestamps", "'%' is no part of a time"),
        (WEB + "logs: {timestamps: '" + "%H" * 60 + "'}}}", "web.logs.timestamps", "at most 100 characters"),
        (WEB + "secrets: {A: {file: a, refresh: 1h}}}}", "web.secrets.A.refresh", "files are watched"),
        (WEB + "secrets: {A: {cmd: a, refresh: 1s}}}}", "web.secrets.A.refresh", "at least 5s"),
        (WEB + "stdin: {file: ''}}}", "web.stdin.file", "the path of a file, found nothing"),
        (WEB + "stdin: /etc/x}}", "web.stdin", "write: {file: /etc/x}"),
        (WEB + "stdin: pty, stdin_socket: s}}\nsockets: {s: {listen: 80}}", "web.stdin", "given both"),
        ("apply: {max_removal: ²}", "apply.max_removal", "expected a percentage"),
        ("sockets: {s: {listen: ²}}", "s.listen", "expected an address"),
        (WEB + 'env_file: ["a\\0"]}}', "web.env_file[0]", "embedded null byte"),
        (WEB + "timeout: 5s}}", "web.timeout", "for one-shot jobs"),
        (WEB + "rerun_on: [boot]}}", "web.rerun_on", "for one-shot jobs"),
        (WEB + "overlap: skip}}", "web.overlap", "for one-shot jobs"),
        (WEB + "restart: never, max_age: 5}}", "web.max_age", "for services"),
        (WEB + "restart: never, rollout: {pause: 5s}}}", "web.rollout", "for services"),
        (WEB + "rollout: {max_unavailable: 0}}}", "web.rollout.max_unavailable", "no process could ever be replaced"),
        (WEB + "rollout: {max_unavailable: 0%}}}", "web.rollout.max_unavailable", "no process could ever be replaced"),
        (WEB + "rollout: {max_unavailable: 0, max_surge: 0%}}}", "web.rollout.max_unavailable", "no process could"),
        (WEB + "rollout: {max_surge: many}}}", "web.rollout.max_surge", "from 0 to 10000, or a percentage"),
        (WEB + "rollout: {max_surge: 1}, pid_file: /w.pid}}", "web.pid_file", "main processes of 2 slots"),
        (WEB + "rollout: {max_unavailable: -1}}}", "web.rollout.max_unavailable", "from 0 to 10000, or a percentage"),
        (WEB + "rollout: {max_unavailable: 101%}}}", "web.rollout.max_unavailable", "or a percentage such as 25%"),
        (WEB + "rollout: {max_unavailable: '2'}}}", "web.rollout.max_unavailable", "write: 2, without quotes"),
        (WEB + "rollout: {pause: 5}}}", "web.rollout.pause", "write: 5s"),
        (WEB + "rollout: 2}}", "web.rollout", "expected a map with max_unavailable"),
        (WEB + "env_file: .env}}", "web.env_file", "write: [.env]"),
        (WEB + "watch: {paths: [.], ignore: '*.pyc'}}}", "web.watch.ignore", 'write: ["*.pyc"]'),
        ("include: '*.yaml'\n" + WEB + "}}", "include", 'write: ["*.yaml"]'),
        (WEB + "respawn: no}}", "web.respawn", "expected true or false, found 'no'"),
        (WEB + "respawn: true, restart: always}}", "web.respawn", "given both"),
        (WEB + "umask: 9}}", "web.umask", "octal mode"),
        (WEB + "backoff: {factor: 0.5}}}", "web.backoff.factor", "from 1 to 1000"),
        (WEB + "secrets: {A: {file: null}}}}", "web.secrets.A", "needs file or cmd, found neither"),
        (WEB + "limits: {as: {soft: 2GiB, hard: 1GiB}}}}", "web.limits.as", "is above the hard limit"),
        (WEB + "backoff: {factor: .inf}}}", "web.backoff.factor", "expected a number"),
        (WEB + "logs: {stdout: {file: a, to: devnull}}}}", "web.logs.stdout.to", "given both"),
        (WEB + "logs: {stderr: {to: nowhere}}}}", "web.logs.stderr.to", "expected stdout, manager"),
        (WEB + "hooks: {before_start: {}}}}", "web.hooks.before_start", "needs python or cmd"),
        (WEB + "hooks: {before_start: {python: a.b, cmd: x}}}}", "web.hooks.before_start.cmd", "given both"),
        (WEB + "hooks: {before_start: {python: 'a:b'}}}}", "web.hooks.before_start.python", "dotted path"),
        (WEB + "hooks: {extended_stats: {cmd: x}}}}", "web.hooks.extended_stats", "`reconcile stats`"),
        (WEB + "hooks: {after_stop: {cmd: 'x ${sockets.a}'}}}}", "web.hooks.after_stop.cmd", "cannot be used here"),
        (WEB + "ready: {}}}", "web.ready", "expected one of http, tcp, unix, exec, log, delay, notify, found none"),
        (WEB + "ready: {notify: false}}}", "web.ready", "found none of them"),
        (WEB + "ready: {notify: true, tcp: 80, unix: /a}}}", "web.ready.unix", "'tcp' and 'unix' are given both"),
        (WEB + "ready: {log: up, delay: 1s}}}", "web.ready.delay", "'log' and 'delay' are given both"),
        (WEB + "ready: {log: '('}}}", "web.ready.log", "expected a regular expression (missing ), unterminated"),
        (WEB + "ready: {log: up}, logs: {stdout: {to: devnull}}}}", "web.ready.log", "goes to devnull, where no line"),
        (WEB + "numprocesses: 2, ready: {log: up}, logs: {stdout: {file: a}}}}", "web.ready.log", "whose line it is"),
        (WEB + "ready: {http: 8000}}}", "web.ready.http", "write: {port: 8000}"),
        (WEB + "ready: {http: https://a/}}}", "web.ready.http", "begins with http://"),
        (WEB + "ready: {http: {path: /x}}}}", "web.ready.http", "needs url or port, found neither"),
        (WEB + "ready: {http: {port: 8, url: http://a}}}}", "web.ready.http.port", "given both"),
        (WEB + "ready: {http: {port: 8, status: 2xx}}}}", "web.ready.http.status", "expected status codes such as"),
        (WEB + "ready: {http: {port: 8, headers: {Host: \"a\\nb\"}}}}}", "headers.Host", "no header can hold"),
        (WEB + "ready: {http: {port: 8, socket: a}}}}", "web.ready.http.socket", "any of them may answer"),
        (WEB + "numprocesses: 10, ready: {tcp: '${slot+65530}'}}}", "web.ready.tcp", "for slot 10 too"),
        (WEB + "ready: {tcp: 99999}}}", "web.ready.tcp", "a port from 1 to 65535"),
        (WEB + "ready: 5s}}", "web.ready", "write: {delay: 5s}"),
        (WEB + "ready: {accept: true}}}", "web.ready.accept", "cannot be known: write http or tcp"),
        (WEB + "health: {}}}", "web.health", "expected one of http, tcp, unix, exec, found none"),
        (WEB + "health: {log: up}}}", "web.health.log", "write it below ready"),
        (WEB + "restart: never, health: {tcp: 1}}}", "web.health", "for services"),
        (WEB + "ready: {exec: x, delay: 1s}}}", "web.ready.delay", "'exec' and 'delay' are given both"),
        (WEB + "ready: {exec: ''}}}", "web.ready.exec", "the command is empty"),
        (WEB + "ready: {exec: x, initial_delay: 90s}}}", "ready.initial_delay", "after 1m (deadline), before"),
        (WEB + "ready: {exec: x, initial_delay: 5s, deadline: 5s}}}", "ready.initial_delay", "10s, or null"),
        (WEB + "ready: {notify: true, delay: 2m}}}", "web.ready.delay", "after 1m (deadline), before"),
        (WEB + "ready: {exec: x, interval: 0s}}}", "web.ready.interval", "expected at least 100ms"),
        (WEB + "restart: never, ready: {delay: 1s}}}", "web.ready", "for services"),
        (WEB + "watchdog: 50ms}}", "web.watchdog", "expected at least 100ms, found '50ms'"),
        (WEB + "restart: never, watchdog: 1s}}", "web.watchdog", "for services"),
        (WEB + "restart: never, pid_file: a}}", "web.pid_file", "for services"),
        (WEB + "pid_file: ''}}", "web.pid_file", "expected the path of a file"),
        (WEB + "pid_file: a, stop: {scope: group}}}", "web.stop.scope", "write: scope: tree"),
        (WEB + "pid_file: a, numprocesses: 2}}", "web.pid_file", "cannot name the main processes of 2 slots"),
        (WEB + "description: '${slot}'}}", "web.description", "may be used in cmd"),
        (WEB + "stdin_socket: a}}", "web.stdin_socket", "there are no sockets"),
        (WEB + "use_sockets: true, reload: {}}}", "web.reload.signal", "is missing"),
        (WEB + "reload: HUP}}", "web.reload", "replace"),
        (WEB + "use_sockets: 1}}", "web.use_sockets", "expected a list, true or false, found '1'"),
        (WEB + "inherit_env: [A, [B]]}}", "web.inherit_env[1]", "expected text, found a list"),
        (WEB + "limits: {cpu_affinity: [0, 4096]}}}", "web.limits.cpu_affinity[1]", "from 0 to 4095"),
        (WEB + "limits: {nofile: {soft: 1}}}}", "web.limits.nofile.hard", "is missing"),
        (WEB + "max_restarts: {window: 5s}}}", "web.max_restarts.count", "is missing"),
        (WEB + "on_failure: shutdown, max_restarts: {count: 3, retry_in: 1m}}}", "max_restarts.retry_in", "for good"),
        (WEB + "on_exit: stop}}", "web.on_exit", "expected shutdown"),
        (WEB + "on_demand: true}}", "web.on_demand", "it has no socket"),
        (WEB + "on_demand: yes}}", "web.on_demand", "found 'yes'"),
        (WEB + "restart: never, on_demand: true}}", "web.on_demand", "for services"),
        (f"sockets: {{s: {{listen: 1, type: dgram}}}}\n{LAZY}", "web.on_demand", "datagrams are no connections"),
        (f"sockets: {{s: {{listen: 1, reuseport: true}}}}\n{LAZY}", "web.on_demand", "each slot has its own"),
        (WEB + "limits: {nofile: many}}}", "web.limits.nofile", "unlimited"),
        (WEB + "limits: {max_memory: 1G}}}", "web.limits.max_memory", "write: 1GiB"),
        (WEB + "limits: {max_cpu: 90}}}", "web.limits.max_cpu", "write: 90%"),
        (WEB + "limits: {max_cpu: 0%}}}", "web.limits.max_cpu", "of one processor"),
        (WEB + "limits: {cgroup: {memory_max: 1}}}}", "web.limits.cgroup.memory_max", "write: 1MiB"),
        (WEB + "limits: {cgroup: {cpu_weight: 0}}}}", "web.limits.cgroup.cpu_weight", "1 to 10000"),
        (WEB + "stop: {scope: group}, limits: {cgroup: {pids_max: 9}}}}", "web.limits.cgroup", "stop.scope"),
        (WEB + "limits: {max_count: 0}}}", "web.limits.max_count", "1 to 100000"),
        (WEB + "restart: never, limits: {max_memory: 1GiB}}}", "web.limits.max_memory", "for services"),
        (WEB + "env: {A=B: x}}}", "web.env.A=B", "environment variable"),
        (WEB + "env: [A=B]}}", "web.env", "expected a map, found a list"),
        (WEB + "env: {A: [1]}}}", "web.env.A", "expected text, found a list"),
        (WEB + "labels: {a: {b: c}}}}", "web.labels.a", "expected text, found a map"),
        ("watchers: {web: {cmd: ''}}", "web.cmd", "the command is empty"),
        ("watchers: {web: {cmd: []}}", "web.cmd", "the command is empty"),
        ("watchers: {web: {cmd: null}}", "web.cmd", "expected a command"),
        ("watchers: {web: {cmd: \"x '\"}}", "web.cmd", "quotes are not closed"),
        ('watchers: {web: {cmd: ["x", "a\\e[1m"]}}', "web.cmd", "U+001B"),
        ('watchers: {web: {cmd: ["x", "a\\0"]}}', "web.cmd", "NUL"),
        ("watchers: {web: {cmd: [x, y], shell: true}}", "web.cmd", "must be one text"),
        ("watchers: {web: }", "web", "expected a map of fields, found nothing"),
        ("watchers: {'../../x': {cmd: x}}", "../../x", "cannot be the name"),
        ("watchers: {a.b: {cmd: x}}", "a.b", "cannot be the name"),
        ("watchers: {Web: {cmd: x}, web: {cmd: x}}", "web", "upper and lower case"),
        ('watchers: {"a\\e": {cmd: x}}', "a\\x1b", "cannot be the name"),
        ("watchers: {" + "a" * 900 + ": {cmd: x}}", "aaa", "cannot be the name"),
        ("sockets: {s: {listen: '1.2.3.4:5', mode: '0660'}}", "s.mode", "for Unix sockets"),
        ("sockets: {s: {listen: 80, owner: 0}}", "s.owner", "for Unix sockets"),
        ("sockets: {s: {listen: unix:/s, reuseport: true}}", "s.reuseport", "no meaning for a Unix"),
        ("sockets: {s: {listen: 80, type: seqpacket}}", "s.type", "seqpacket is for Unix"),
        ("sockets: {s: {listen: 80, type: udp}}", "s.type", "did you mean 'dgram'?"),
        ("sockets: {s: {listen: 80, ipv6_only: true}}", "s.ipv6_only", "IPv6"),
        ("sockets: {s: {listen: unix:s}}", "s.listen", "absolute path"),
        ("sockets: {s: {listen: 70000}}", "s.listen", "out of range"),
        ("sockets: {s: {port: 80, listen: 80}}", "s.port", "write: listen"),
        ("sockets: {s: {}}", "s.listen", "is missing"),
        ("daemon: {name: a b}", "daemon.name", "instance"),
        ("daemon: {access: [{role: view}]}", "daemon.access[0]", "found none of them"),
        ("daemon: {access: [{user: a, group: b, role: view}]}", "daemon.access[0]", "found both"),
        ("daemon: {access: [{user: a}]}", "daemon.access[0].role", "is missing"),
        ("daemon: {access: [{user: a, role: rule}]}", "daemon.access[0].role", "view, operate or admin"),
        ("daemon: {access: [{user: a, role: view, labels: {b: c}}]}", "daemon.access[0].labels", "not who looks"),
        ("daemon: {access: [{user: 65534, role: view}]}", "daemon.access[0].user", "may be anybody"),
        ("daemon: {access: [{user: -1, role: view}]}", "daemon.access[0].user", "from 0 to"),
        ("daemon: {access: {user: a, role: view}}", "daemon.access", "expected a list"),
        ("access: []", "access", "write: daemon: {access: [...]}"),
        ("daemon: {metrics: {}}", "daemon.metrics", "not built yet"),
        ("version: 2", "version", "use a newer reconcile"),
        ("version: x", "version", "expected 1, found 'x'"),
        ("vars: {slot: 1}", "vars.slot", "meaning of its own"),
        ("services: {a: {cmd: x}}", "services", "write: watchers"),
        ("numprocesses: 3", "numprocesses", "below its name"),
        ("[]", "", "expected a map, found a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_our_words(text: str, field: str, words: str) -> None:
    error = only_error(text)
    assert field in error.field
    assert words in f"{error.message} ({error.hint})"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("command", "cmd"), ("replicas", "numprocesses"), ("instances", "numprocesses"), ("numprocs", "numprocesses"),
        ("stop_signal", "stop: {signal: TERM}"), ("graceful_timeout", "stop: {timeout: 10s}"),
        ("copy_env", "inherit_env"), ("uid", "user"), ("gid", "group"), ("environment", "env"),
        ("autorestart", "restart"), ("requires", "depends_on"),
        ("cron", "schedule: {cron"), ("interval", "schedule: {every"),
        ("maxSurge", "rollout: {max_surge: 1}"),
        ("update_config", "rollout: {max_unavailable: 1}"), ("ignore_watch", "watch: {paths"),
    ],
)  # fmt: skip
def test_the_words_of_other_tools_are_told_in_ours(word: str, hint: str) -> None:
    error = only_error(f"{WEB}{word}: 1}}}}")
    assert error.message == f"unknown field '{word}'"
    assert hint in error.hint


def test_what_looks_odd_but_is_right() -> None:
    assert watcher_of(WEB + "umask: 022, stop: {timeout: 1.5, signal: RTMIN+1}}}").umask == 0o022
    assert (
        watcher_of(
            WEB + "limits: null}}".replace("limits: null", "max_restarts: null")
        ).max_restarts
        is None
    )
    assert spec_of("sockets:\nwatchers:\nenv:\n").watchers == {}
    assert spec_of("# nothing\n").watchers == {}
    assert watcher_of("watchers: {web: {cmd: [x, 5, 1.10, null, on]}}").cmd == (
        "x", "5", "1.10", "null", "on",
    )  # fmt: skip


@pytest.mark.parametrize("value", ["4000d", "4000 days", "999999999999", "²", "max"])
def test_a_duration_that_would_not_fit_either_is_not_proposed(value: str) -> None:
    assert only_error(WEB + f"max_age: {value}}}}}").hint == ""


def test_a_shell_with_an_empty_list_is_told_both() -> None:
    found = errors_of("watchers: {web: {shell: true, cmd: []}}")
    assert [each.message for each in found] == [
        "the command is empty",
        "with shell: the command must be one text, found a list",
    ]


def test_a_path_that_no_file_can_have_is_a_mistake_once_in_defaults() -> None:
    defaults = 'defaults: {secrets: {KEY: {file: "a\\0b"}}}\n'
    error = only_error(defaults + "watchers: {one: {cmd: x}, two: {cmd: x}}")
    assert "NUL" in error.message


def test_the_place_of_what_cannot_run_on_demand_is_its_own_line() -> None:
    error = only_error("watchers:\n  web:\n    cmd: x\n    on_demand: true\n")
    assert place(error) == (4, 5, "watchers.web.on_demand")


def test_a_deadline_that_never_comes_leaves_any_time_before_the_first_probe() -> None:
    spec_of(WEB + "ready: {exec: x, initial_delay: 90s, deadline: null}}}")
    spec_of(WEB + "ready: {delay: 90s}}}")
