from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.specfile.loading import read_spec
from reconciler.specfile.machine import Machine
from tests.specfile.files import errors_of, only_error, spec_of, watcher_of

if TYPE_CHECKING:
    from tests.specfile.files import Folder

WEB = "watchers:\n  web:\n    cmd: run\n"


@pytest.mark.parametrize(
    ("line", "column", "field", "words"),
    [
        ("limits: {nofile: -1}", 22, "limits.nofile", "from 0 up, or unlimited"),
        ("limits: {nofile: {soft: 9, hard: 1}}", 22, "limits.nofile", "above the hard limit"),
        ("limits: {as: {soft: unlimited, hard: 1}}", 18, "limits.as", "above the hard limit"),
        ("limits: {core: {soft: -1, hard: 1}}", 27, "limits.core.soft", "from 0 up"),
        ("limits: {cpu_affinity: []}", 28, "limits.cpu_affinity", "at least one processor"),
        ("success_exit_codes: []", 25, "success_exit_codes", "at least one exit code"),
        ("user: -1", 11, "user", "from 0 to 4294967294"),
        ('group: ""', 12, "group", "found nothing"),
        ("working_dir: ~/app", 18, "working_dir", "'~' is for shells"),
        ("env: {RECONCILE_ID: x}", 11, "env.RECONCILE_ID", "set by the manager"),
        ("backoff: {factor: 0.5}", 23, "backoff.factor", "from 1 to 1000"),
        ("backoff: {factor: .nan}", 23, "backoff.factor", "expected a number"),
        ("backoff: {factor: 1e999}", 23, "backoff.factor", "expected a number"),
        ("timeout: 1s", 5, "timeout", "is for one-shot jobs"),
        ("stdin_socket: http", 19, "stdin_socket", "there is no socket 'http'"),
        ('hooks: {before_start: {python: "a:b"}}', 36, "hooks.before_start.python", "dotted path"),
        ("hooks: {after_stop: {timeout: 1s}}", 13, "hooks.after_stop", "needs python or cmd"),
        ("logs: {stderr: {file: a, to: stdout}}", 30, "logs.stderr.to", "given both"),
    ],
)  # fmt: skip
def test_a_watcher_that_breaks_a_rule_is_told_once(
    line: str, column: int, field: str, words: str
) -> None:
    error = only_error(f"{WEB}    {line}\n")
    assert (error.line, error.column, error.field) == (4, column, f"watchers.web.{field}")
    assert words in error.message


def test_limits_that_go_together_are_accepted() -> None:
    text = "    limits: {nofile: 0, core: unlimited, as: {soft: 1, hard: unlimited}}\n"
    assert watcher_of(WEB + text).limits.nofile == 0


@pytest.mark.parametrize(
    ("socket", "words"),
    [
        ('{listen: 8000, mode: "0660"}', "for Unix sockets"),
        ("{listen: 8000, owner: -5}", "from 0 to 4294967294"),
        ('{listen: "unix:/run/a", nodelay: true}', "no meaning for a Unix socket"),
        ("{listen: 8000, type: seqpacket}", "for Unix sockets"),
        ("{listen: 8000, type: dgram, backlog: 5}", "no meaning for type: dgram"),
        ("{listen: 8000, ipv6_only: true}", "for IPv6"),
        ("{listen: 0, reuseport: true}", "a port of its own"),
    ],
)
def test_a_socket_has_only_what_its_address_can_have(socket: str, words: str) -> None:
    assert any(words in each.message for each in errors_of(f"sockets: {{http: {socket}}}\n{WEB}"))


def test_two_sockets_on_one_address_are_a_mistake() -> None:
    error = only_error("sockets:\n  a: {listen: 8000}\n  b: {listen: '0.0.0.0:8000'}\n")
    assert (error.line, error.column, error.field) == (3, 3, "sockets.b.listen")
    assert "already the address of the socket 'a'" in error.message


def test_sockets_that_differ_may_share_a_port() -> None:
    tcp_and_udp = "sockets: {a: {listen: 53}, b: {listen: 53, type: dgram}}\n"
    any_port = "sockets: {a: {listen: 0}, b: {listen: 0}}\n"
    assert len(spec_of(tcp_and_udp).sockets) == len(spec_of(any_port).sockets) == 2


def test_a_block_that_is_left_empty_says_nothing() -> None:
    text = "defaults: {stop: {signal: INT}, working_dir: /srv}\n" + WEB
    empty = "    stop:\n    env:\n    labels:\n    hooks:\n    use_sockets:\n    env_file:\n"
    assert watcher_of(text + empty) == watcher_of(text)


def test_a_value_that_is_left_empty_is_a_mistake() -> None:
    error = only_error(WEB + "    numprocesses:\n")
    assert (
        error.message
        == "expected a whole number from 0 to 10000 or a formula such as cpus*2, found nothing"
    )


def test_large_defaults_are_not_spread_over_many_watchers() -> None:
    labels = ", ".join(f"k{n}: {'v' * 1000}" for n in range(200))
    watchers = "".join(f"  w{n}: {{cmd: run}}\n" for n in range(1000))
    error = only_error(f"defaults: {{labels: {{{labels}}}}}\nwatchers:\n{watchers}")
    assert "watchers hold more than 32 MiB" in error.message


def test_an_environment_that_is_no_text_is_a_mistake_where_it_is_used() -> None:
    environ = {"RAW": "\udcff"}
    assert watcher_of(WEB, environ).cmd == ("run",)
    error = only_error(WEB.replace("run", "run ${env.RAW}"), environ)
    assert error.message == "the environment variable 'RAW' is not UTF-8 text"


OWN = """\
sockets:
  blue: {listen: 8000, reuseport: true}
  green: {listen: 8000, reuseport: true}
watchers:
  web: {cmd: run, use_sockets: [blue]}
"""


def test_a_socket_of_which_each_slot_has_its_own_belongs_to_one_watcher() -> None:
    error = only_error(OWN + '  api: {cmd: "run ${sockets.blue}"}\n')
    assert (error.line, error.field) == (6, "watchers.api")
    assert "'web' uses it already" in error.message
    assert sorted(spec_of(OWN + "  api: {cmd: run, use_sockets: [green]}\n").sockets) == [
        "blue",
        "green",
    ]
    shared = OWN.replace(", reuseport: true}\n  green", "}\n  green")
    assert "already the address" in only_error(shared).message


# ---- numbers of processes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "processors", "expected"),
    [
        ("cpus", 4, (4, "cpus")),
        ("cpus*2", 4, (8, "cpus*2")),
        ("cpus * 2 + 1", 4, (9, "cpus*2+1")),
        ("cpus/2", 5, (2, "cpus/2")),
        ("cpus/2", 1, (1, "cpus/2")),
        ("cpus-1", 1, (1, "cpus-1")),
        ("cpus*9999", 64, (10_000, "cpus*9999")),
        ("${many}", 3, (6, "cpus*2")),
        ("${few}", 3, (7, "")),
    ],
)
def test_a_number_of_processes_may_depend_on_the_processors(
    folder: Folder, written: str, processors: int, expected: tuple[int, str]
) -> None:
    text = f"{{vars: {{many: cpus*2, few: 7}}, watchers: {{web: {{cmd: x, numprocesses: '{written}'}}}}}}"
    outcome = read_spec(folder.write(spec=text), {}, Machine(processors, "here"))
    assert outcome.spec is not None, outcome.errors
    web = outcome.spec.watchers["web"]
    assert (web.numprocesses, web.numprocesses_formula) == expected


def test_defaults_may_depend_on_the_processors_and_a_number_replaces_them(folder: Folder) -> None:
    text = "{defaults: {numprocesses: cpus}, watchers: {a: {cmd: x}, b: {cmd: x, numprocesses: 2}}}"
    spec = read_spec(folder.write(spec=text), {}, Machine(3, "here")).spec
    assert spec is not None
    assert [each.processes_text for each in spec.watchers.values()] == ["cpus = 3", "2"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("cpus*0", ""),
        ("cpus*1.5", ""),
        ("cpus+1*2", ""),
        ("2*cpus+1", "write: cpus*2+1"),
        ("auto", "write: cpus"),
        ("banana", ""),
        ("-1", ""),
    ],
)
def test_another_formula_is_a_mistake(written: str, hint: str) -> None:
    error = only_error(f"watchers: {{web: {{cmd: x, numprocesses: {written}}}}}")
    message, _, found = error.message.partition(", found ")
    assert message == "expected a whole number from 0 to 10000 or a formula such as cpus*2"
    assert (error.field, error.hint) == ("watchers.web.numprocesses", hint)
    assert written in found
