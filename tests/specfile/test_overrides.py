"""Files that say what is different on some machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.model.address import InternetAddress
from reconciler.model.spec import MaxRestartsSpec, ReloadByCommand, StopSpec, WatcherSpec
from reconciler.specfile.loading import Outcome, read_spec
from reconciler.specfile.machine import Machine
from tests.specfile.files import place

if TYPE_CHECKING:
    from reconciler.model.spec import Spec
    from tests.specfile.files import Folder

BASE = """
overrides: ["hosts/${hostname}.yaml"]
watchers:
  web:
    cmd: serve ${root}
    numprocesses: 2
    env: {A: "1", B: "2"}
    labels: {team: shop, tier: front}
    stop: {signal: INT, timeout: 20s}
    logs: {stdout: {file: web.log}}
    success_exit_codes: [0, 3]
    max_age: 1h
    max_restarts: {count: 3, window: 1m}
    reload: {signal: HUP}
  mail: {cmd: mail}
sockets:
  http: {listen: "127.0.0.1:8000"}
vars: {root: /srv}
"""


def outcome(folder: Folder, base: str, host: str = "", **files: str) -> Outcome:
    """Read a spec on the machine `here`, which is overridden by `host`."""
    (spec,) = folder.write(spec=base)
    folder.write(**({"hosts__here": host} if host else {}), **files)
    return read_spec([spec], {}, Machine(4, "here"))


def overridden(folder: Folder, host: str, base: str = BASE, **files: str) -> Spec:
    found = outcome(folder, base, host, **files)
    assert found.spec is not None, found.errors
    return found.spec


def web(folder: Folder, host: str) -> WatcherSpec:
    return overridden(folder, f"watchers: {{web: {{{host}}}}}").watchers["web"]


def test_a_machine_without_a_file_runs_the_spec_as_it_is(folder: Folder) -> None:
    found = outcome(folder, BASE)
    assert found.spec is not None
    assert found.spec.watchers["web"].numprocesses == 2
    assert found.spec.looked_for == (str(folder.path / "hosts/here.yaml"),)
    assert list(found.files) == [str(folder.path / "spec.yaml")]


def test_maps_are_merged_and_all_else_is_replaced(folder: Folder) -> None:
    it = web(
        folder,
        "numprocesses: cpus, env: {B: other, C: '3'}, labels: {tier: back}, stop: {timeout: 5s},"
        "success_exit_codes: [4]",
    )
    assert (it.numprocesses, it.cmd, dict(it.env), dict(it.labels)) == (
        4,
        ("serve", "/srv"),
        {"A": "1", "B": "other", "C": "3"},
        {"team": "shop", "tier": "back"},
    )
    assert it.stop == StopSpec(signal="INT", timeout=5 * 10**9)
    assert it.success_exit_codes == (4,)


def test_null_takes_away_what_was_said_or_is_the_value_of_a_field(folder: Folder) -> None:
    text = (
        "numprocesses: null, stop: null, labels: {tier: ~}, env: {A: null}, max_age: null,"
        "max_restarts: null"
    )
    it = web(folder, text)
    assert (it.numprocesses, it.stop, dict(it.labels)) == (1, StopSpec(), {"team": "shop"})
    assert (dict(it.env), it.max_age, it.max_restarts) == ({"A": None, "B": "2"}, None, None)


def test_what_is_left_empty_says_nothing_and_an_empty_map_takes_nothing(folder: Folder) -> None:
    it = overridden(folder, "watchers:\n  web:\n    labels:\n    env: {}\n  mail:\n")
    assert dict(it.watchers["web"].labels) == {"team": "shop", "tier": "front"}
    assert (dict(it.watchers["web"].env), [*it.watchers]) == ({}, ["web", "mail"])


def test_of_two_ways_the_one_that_overrides_counts(folder: Folder) -> None:
    it = web(
        folder, "logs: {stdout: {to: devnull}}, reload: {cmd: again}, max_age: null, respawn: false"
    )
    assert (it.logs.stdout.file, it.logs.stdout.to) == (None, "devnull")
    assert it.reload == ReloadByCommand(cmd=("again",))
    assert it.restart == "never"


def test_a_block_that_may_be_missing_is_merged_too(folder: Folder) -> None:
    assert web(folder, "max_restarts: {count: 9}").max_restarts == MaxRestartsSpec(9, 60 * 10**9)


def test_watchers_sockets_and_variables_come_and_go(folder: Folder) -> None:
    host = (
        "{watchers: {mail: null, more: {cmd: more}}, sockets: {http: {listen: 9000}, extra: {listen: 9001}},"
        "vars: {root: /opt}, daemon: {name: other}, x-site: berlin}"
    )
    it = overridden(folder, host)
    assert sorted(it.watchers) == ["more", "web"]
    assert it.watchers["web"].cmd == ("serve", "/opt")
    assert {name: each.listen for name, each in it.sockets.items()} == {
        "http": InternetAddress("0.0.0.0", 9000),
        "extra": InternetAddress("0.0.0.0", 9001),
    }
    assert (it.daemon.name, dict(it.x)) == ("other", {"x-site": "berlin"})


def test_defaults_and_env_win_over_those_of_included_files(folder: Folder) -> None:
    base = (
        "{include: [more.yaml], overrides: [site.yaml], env: {A: spec}, watchers: {own: {cmd: x}}}"
    )
    more = "{env: {A: file}, defaults: {numprocesses: 2, max_age: 1h}, watchers: {more: {cmd: x}}}"
    host = "{env: {A: host}, defaults: {numprocesses: 3, max_age: null}}"
    spec = overridden(folder, "", base, more=more, site=host)
    found = {name: (it.env["A"], it.numprocesses, it.max_age) for name, it in spec.watchers.items()}
    assert found == {"own": ("host", 3, None), "more": ("host", 3, None)}


def test_the_later_of_several_files_wins(folder: Folder) -> None:
    base = "{overrides: ['sites/*.yaml', last.yaml], watchers: {web: {cmd: x, labels: {n: '0'}}}}"
    files = {
        name: f"watchers: {{web: {{labels: {{{name[-1]}: {name[-1]}, n: {name[-1]}}}}}}}"
        for name in ("last", "sites__b", "sites__a")
    }
    spec = overridden(folder, "", base, **files)
    assert dict(spec.watchers["web"].labels) == {"n": "t", "a": "a", "b": "b", "t": "t"}


@pytest.mark.parametrize(
    ("host", "where", "message", "hint"),
    [
        (
            "watchers:\n  webb: {numprocesses: 3}",
            (2, 3, "watchers.webb"),
            "there is no watcher 'webb' to override",
            "did you mean 'web'?",
        ),
        (
            "watchers: {crawler: null}",
            (1, 12, "watchers.crawler"),
            "there is no watcher 'crawler' to override",
            "a new watcher needs cmd",
        ),
        (
            "sockets: {htp: {backlog: 5}}",
            (1, 11, "sockets.htp"),
            "there is no socket 'htp' to override",
            "did you mean 'http'?",
        ),
        (
            "watchers: {web: {numproceses: 3}}",
            (1, 18, "watchers.web.numproceses"),
            "unknown field 'numproceses'",
            "did you mean 'numprocesses'?",
        ),
        (
            "watchers: {web: {max_age: soon}}",
            (1, 27, "watchers.web.max_age"),
            "expected a duration such as 500ms, 30s or 1h30m, found 'soon'",
            "",
        ),
        (
            "include: [more.yaml]",
            (1, 1, "include"),
            "'include' has no meaning in a file of overrides",
            "write it into the spec itself",
        ),
        ("services: {}", (1, 1, "services"), "unknown field 'services'", "write: watchers"),
    ],
)
def test_a_mistake_is_told_in_its_file(
    folder: Folder, host: str, where: tuple[int, int, str], message: str, hint: str
) -> None:
    (error,) = outcome(folder, BASE, host).errors
    assert error.path == str(folder.path / "hosts/here.yaml")
    assert (place(error), error.message, error.hint) == (where, message, hint)


def test_a_file_that_every_machine_has_must_be_there(folder: Folder) -> None:
    (error,) = outcome(folder, "overrides: [secret.yaml]").errors
    assert (place(error), error.message) == (
        (1, 13, "overrides[0]"),
        f"cannot read {folder.path}/secret.yaml: no such file or folder",
    )


def test_a_file_of_the_spec_overrides_nothing(folder: Folder) -> None:
    base = "overrides: [more.yaml]\ninclude: [more.yaml]\n"
    (error,) = outcome(folder, base, more="watchers: {a: {cmd: x}}").errors
    assert (error.field, error.message) == (
        "overrides",
        f"{folder.path}/more.yaml is a file of the spec already",
    )


def test_the_name_of_the_machine_may_stand_in_every_text(folder: Folder) -> None:
    base = "watchers: {web: {cmd: 'serve ${hostname}', env: {HOST: '${hostname:-x}'}}}"
    found = outcome(folder, base)
    assert found.spec is not None
    it = found.spec.watchers["web"]
    assert (it.cmd, dict(it.env)) == (("serve", "here"), {"HOST": "here"})
    here = read_spec(folder.write(spec=base), {}).spec
    assert here is not None
    assert here.watchers["web"].cmd == ("serve", os.uname().nodename)
