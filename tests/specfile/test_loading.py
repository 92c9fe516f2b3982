from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.spec import ReloadBySignal, SoftHard, Spec, StopSpec
from reconciler.model.units import DAY_NS, SECOND_NS
from reconciler.model.value import from_plain, to_plain
from reconciler.specfile.loading import MAX_WATCHERS, read_spec
from reconciler.specfile.mistakes import MAX_MISTAKES
from reconciler.specfile.reading import MAX_FILE_BYTES
from tests.specfile.files import (
    Folder,
    errors_of,
    load,
    loaded,
    only_error,
    place,
    spec_of,
    watcher_of,
)

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = """
version: 1
daemon: {name: shop, umask: 027, state_dir: state, log: {level: debug, file: /var/log/x.log}}
apply: {auto: false, quiet_period: 1s, max_removal: 20%}
vars: {root: /srv/shop, workers: 3, grace: 5s, port: 8000}
env: {TZ: UTC, V: 1.10, DEBUG: true, NONE: null}
x-team: {name: shop, size: 3, parts: [a, 1.5, null, true]}
defaults:
  stop: {timeout: "${grace}"}
  labels: {team: shop}
  env: {TZ: Europe/Berlin}
sockets:
  http: {listen: "127.0.0.1:${port}", reuseport: true}
  app: {listen: "unix:${root}/app.sock", mode: 660, owner: www}
  v6: {listen: "[::1]:53", type: dgram}
watchers:
  web:
    description: "front of ${watcher}"
    labels: {tier: 1}
    cmd: gunicorn --bind fd://${sockets.http} 'a b' ${root}/x
    numprocesses: ${workers}
    working_dir: ${root}/${slot}
    env: {WORKER: "${slot}", PRICE: 5$$, ADMIN: "${sockets.app}"}
    inherit_env: [SSH_AUTH_SOCK]
    stop: {signal: sigint}
    reload: {signal: HUP}
    max_age: 3600
    limits: {nofile: {soft: 1024, hard: 4096}, as: unlimited, nice: 5, cpu_affinity: [0, 1]}
    logs: {stdout: {file: "logs/${slot}.log"}, stderr: {to: manager}, max_size: 64KiB, rotate: weekly}
    hooks: {before_start: {python: shop.hooks.wait, timeout: 5}}
    x-owner: ann
  job:
    cmd: [redis-cli, 6379, true]
    respawn: false
    timeout: 1h30m
    rerun_on: [boot]
"""


def test_three_lines_are_a_spec(folder: Folder) -> None:
    paths = folder.write(spec="watchers:\n  web:\n    cmd: python -m http.server 8000\n")
    found = loaded(*paths)
    web = found.spec.watchers["web"]
    assert web.cmd == ("python", "-m", "http.server", "8000")
    assert web.working_dir == str(folder.path)
    data = (folder.path / "spec.yaml").read_bytes()
    read = found.files[paths[0]]
    assert (read.digest, read.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_everything_at_once(folder: Folder) -> None:
    spec = loaded(*folder.write(spec=EVERYTHING)).spec
    web, job = spec.watchers["web"], spec.watchers["job"]
    assert (spec.daemon.name, spec.daemon.umask) == ("shop", 0o027)
    assert spec.daemon.state_dir == str(folder.path / "state")
    assert (spec.apply.quiet_period, spec.apply.max_removal) == (SECOND_NS, 20)
    assert spec.sockets["http"].listen == InternetAddress("127.0.0.1", 8000)
    assert spec.sockets["app"].listen == UnixAddress("/srv/shop/app.sock")
    assert spec.sockets["app"].mode == 0o660
    assert web.cmd == ("gunicorn", "--bind", "fd://${sockets.http}", "a b", "/srv/shop/x")
    assert web.numprocesses == 3
    assert web.working_dir == "/srv/shop/${slot}"
    assert web.description == "front of web"
    assert dict(web.labels) == {"team": "shop", "tier": "1"}
    assert dict(web.env) == {
        "TZ": "Europe/Berlin", "V": "1.10", "DEBUG": "true", "NONE": None, "WORKER": "${slot}",
        "PRICE": "5$$", "ADMIN": "${sockets.app}",
    }  # fmt: skip
    assert web.use_sockets == ("http", "app")
    assert web.stop == StopSpec(signal="INT", timeout=5 * SECOND_NS)
    assert web.reload == ReloadBySignal("HUP")
    assert web.max_age == 3600 * SECOND_NS
    assert (web.limits.nofile, web.limits.as_) == (SoftHard(1024, 4096), "unlimited")
    assert web.limits.cpu_affinity == (0, 1)
    assert web.logs.stdout.file == f"{folder.path}/logs/${{slot}}.log"
    assert web.logs.rotate == 7 * DAY_NS
    assert web.x == {"x-owner": "ann"}
    assert spec.x == {"x-team": {"name": "shop", "size": 3, "parts": ["a", 1.5, None, True]}}
    assert (job.cmd, job.restart, job.is_job) == (("redis-cli", "6379", "true"), "never", True)
    assert job.stop.timeout == 5 * SECOND_NS


def test_a_spec_survives_its_plain_form() -> None:
    spec = spec_of(EVERYTHING)
    assert from_plain(Spec, json.loads(json.dumps(to_plain(spec)))) == spec


def test_ten_mistakes_are_all_told_with_their_places() -> None:
    text = """\
watchers:
  web:
    command: x
    numproceses: 2
    numprocesses: two
    restart: no
    stop: {signal: NOPE, timeout: soon}
    cmd: run ${nope}
  api:
    cmd: run
    max_age: 5 minutes
    use_sockets: [http]
  job: {cmd: x, respawn: false, max_age: 5}
  bad name: {cmd: x}
socket: {}
"""
    errors = errors_of(text)
    assert [place(error) for error in errors] == [
        (3, 5, "watchers.web.command"),
        (4, 5, "watchers.web.numproceses"),
        (5, 19, "watchers.web.numprocesses"),
        (6, 14, "watchers.web.restart"),
        (7, 20, "watchers.web.stop.signal"),
        (7, 35, "watchers.web.stop.timeout"),
        (8, 10, "watchers.web.cmd"),
        (11, 14, "watchers.api.max_age"),
        (12, 19, "watchers.api.use_sockets[0]"),
        (13, 33, "watchers.job.max_age"),
        (14, 3, "watchers.bad name"),
        (15, 1, "socket"),
    ]
    assert [error.hint for error in errors[:4]] == [
        "write: cmd",
        "did you mean 'numprocesses'?",
        "",
        "did you mean 'never'?",
    ]
    assert (
        errors[2].message
        == "expected a whole number from 0 to 10000 or a formula such as cpus*2, found 'two'"
    )
    assert errors[2].excerpt == "    numprocesses: two\n                  ^"


# ---- several files --------------------------------------------------------------------------------


def test_files_and_includes_make_one_spec(folder: Folder) -> None:
    first, *_ = folder.write(
        main="include: [conf.d/*.yaml, 'more/${dir}.yaml']\nvars: {dir: x}\nwatchers: {a: {cmd: a}}\n",
        conf__d="",
        more__x="watchers: {b: {cmd: 'b ${dir}'}}\ninclude: [../main.yaml]\n",
    )
    (folder.path / "conf.d").mkdir()
    for name in ("1.yaml", ".2.yaml", "3.yaml~", "4.yml"):
        (folder.path / "conf.d" / name).write_text(f"watchers: {{c{name[0]}: {{cmd: c}}}}\n")
    found = loaded(first)
    assert list(found.spec.watchers) == ["a", "c1", "b"]
    assert found.spec.watchers["b"].cmd == ("b", "x")
    assert found.spec.watchers["b"].working_dir == str(folder.path / "more")
    assert sorted(os.path.relpath(path, folder.path) for path in found.files) == [
        "conf.d/1.yaml",
        "main.yaml",
        "more/x.yaml",
    ]


def test_a_folder_means_its_yaml_files(folder: Folder) -> None:
    folder.write(a="watchers: {a: {cmd: a}}", b="watchers: {b: {cmd: b}}", deep__c="watchers: 5")
    assert list(loaded(str(folder.path)).spec.watchers) == ["a", "b"]


@pytest.mark.parametrize(("kind", "body"), [("watchers", "{cmd: x}"), ("sockets", "{listen: 1}")])
def test_one_name_in_two_files_is_a_mistake_that_names_both(
    folder: Folder, kind: str, body: str
) -> None:
    paths = folder.write(a=f"{kind}: {{web: {body}}}", b=f"{kind}:\n  web: {body}\n")
    errors = load(paths, {})
    assert isinstance(errors, tuple)
    assert [(e.path, e.line, e.column) for e in errors] == [(paths[1], 2, 3)]
    assert f"{paths[0]}:1:" in errors[0].message


def test_two_files_that_say_different_things_are_told(folder: Folder) -> None:
    one = "apply: {auto: true}\nenv: {A: 1}\ndefaults: {stop: {timeout: 1s}}\n"
    two = "apply: {auto: false}\nenv: {A: 1, B: 2}\ndefaults: {stop: {signal: INT}}\n"
    errors = load(folder.write(a=one, b=two), {})
    assert isinstance(errors, tuple)
    assert [(e.line, e.field) for e in errors] == [(1, "apply.auto")]


def test_mistakes_of_all_files_are_told_also_beside_one_that_is_no_yaml(folder: Folder) -> None:
    paths = folder.write(a="watchers: [x", b="watchers: {x: {cmd: 5, foo: 1}}", c="- 1")
    outcome = read_spec([*paths, str(folder.path / "gone.yaml")], {})
    assert [(os.path.basename(e.path), e.line) for e in outcome.errors] == [
        ("a.yaml", 1),
        ("b.yaml", 1),
        ("c.yaml", 1),
        ("gone.yaml", 0),
    ]
    assert sorted(map(os.path.basename, outcome.files)) == ["a.yaml", "b.yaml", "c.yaml"]


def test_editors_temporary_files_are_included_by_no_pattern(folder: Folder) -> None:
    (first,) = folder.write(main="include: ['*.yaml']\nwatchers: {a: {cmd: a}}\n")
    for name in ("~b.yaml", "#b.yaml", ".b.yaml", ".#b.yaml"):
        (folder.path / name).write_text("watchers: {b: {cmd: b}}\n")
    assert list(loaded(first).spec.watchers) == ["a"]


def test_an_include_that_is_missing_is_told_where_it_stands() -> None:
    assert place(only_error("include:\n  - nope.yaml\n")) == (2, 5, "include[0]")


# ---- limits ---------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused_without_hanging(folder: Folder) -> None:
    fifo = folder.path / "fifo.yaml"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/zero"):
        errors = load([path], {})
        assert isinstance(errors, tuple)
        assert "not a regular file" in errors[0].message


def test_a_large_file_is_refused() -> None:
    assert "larger than 4 MiB" in only_error(b"#" * (MAX_FILE_BYTES + 1)).message


def test_too_many_watchers_are_refused() -> None:
    text = "watchers:\n" + "".join(f"  w{i}: {{cmd: x}}\n" for i in range(MAX_WATCHERS + 1))
    assert "at most 10000" in only_error(text).message


def test_defaults_that_would_be_copied_too_often_are_refused() -> None:
    many = ", ".join(["x"] * 1000)
    watchers = "".join(f"  w{i}: {{cmd: x}}\n" for i in range(3000))
    error = only_error(f"defaults:\n  x-a: [{many}]\nwatchers:\n{watchers}")
    assert "with their defaults" in error.message


# ---- defaults, environment, sockets ---------------------------------------------------------------


def test_defaults_are_merged_by_block_and_lists_replaced() -> None:
    web = watcher_of("""
defaults:
  restart: on-failure
  backoff: {burst: 1, factor: 3}
  success_exit_codes: [1]
  max_restarts: {count: 3}
  logs: {stdout: {to: devnull}}
  hooks: {before_start: {cmd: wait}, after_stop: {cmd: tidy}}
  x-a: 1
watchers:
  web:
    cmd: x
    respawn: true
    backoff: {burst: 2}
    success_exit_codes: [0, 2]
    max_restarts: null
    logs: {stdout: {file: /tmp/x}}
    hooks: {before_start: {python: a.b}}
    x-b: 2
""")
    assert web.restart == "always"
    assert (web.backoff.burst, web.backoff.factor) == (2, 3.0)
    assert web.success_exit_codes == (0, 2)
    assert web.max_restarts is None
    assert (web.logs.stdout.file, web.logs.stdout.to) == ("/tmp/x", None)
    assert web.hooks.before_start is not None
    assert (web.hooks.before_start.python, web.hooks.before_start.cmd) == ("a.b", None)
    assert web.hooks.after_stop is not None
    assert web.x == {"x-a": 1, "x-b": 2}


def test_defaults_for_services_do_not_trouble_jobs() -> None:
    spec = spec_of(
        "defaults: {max_age: 1h, timeout: 5s}\nwatchers: {a: {cmd: a}, b: {cmd: b, respawn: false}}"
    )
    a, b = spec.watchers["a"], spec.watchers["b"]
    assert (a.max_age, a.timeout) == (3600 * SECOND_NS, None)
    assert (b.max_age, b.timeout) == (None, 5 * SECOND_NS)


def test_a_mistake_in_defaults_is_told_once_under_its_own_name() -> None:
    text = "defaults: {numproceses: 3, stop: {timeout: x}}\nwatchers: {a: {cmd: a}, b: {cmd: b}}"
    assert [place(error) for error in errors_of(text)] == [
        (1, 12, "defaults.numproceses"),
        (1, 44, "defaults.stop.timeout"),
    ]


def test_a_mistake_behind_an_anchor_is_told_once() -> None:
    text = "x-base: &base {foo: 1}\nwatchers: {a: {<<: *base, cmd: a}, b: {<<: *base, cmd: b}}"
    assert [place(error) for error in errors_of(text)] == [(1, 16, "watchers.a.foo")]


def test_the_environment_is_ordered_later_wins(folder: Folder) -> None:
    folder.write(a_env="A: 1\n")
    (folder.path / "a.env").write_bytes(
        b"# comment\r\nC=file\nD=file\nexport E='a $B'\nF=\"x\\n${y}\" # why\nG= a b # c\nH=\n"
    )
    paths = folder.write(
        spec="""
env: {A: top, B: top, C: top, D: top}
defaults: {env: {B: defaults, C: defaults, D: defaults}, env_file: [a.env]}
watchers: {web: {cmd: x, env: {D: own}}}
"""
    )
    found = loaded(*paths)
    assert dict(found.spec.watchers["web"].env) == {
        "A": "top", "B": "defaults", "C": "file", "D": "own", "E": "a $$B", "F": "x\n$${y}", "G": "a b", "H": "",
    }  # fmt: skip
    assert found.spec.watchers["web"].env_file == (str(folder.path / "a.env"),)
    assert str(folder.path / "a.env") in found.files


def test_mistakes_of_an_env_file_have_their_places_and_hide_its_values(folder: Folder) -> None:
    (folder.path / "a.env").write_text('A=1\nhunter2\nPASSWORD="hunter2\n')
    errors = load(folder.write(spec="watchers: {w: {cmd: x, env_file: [a.env, b.env]}}"), {})
    assert isinstance(errors, tuple)
    assert [(os.path.basename(e.path), e.line, e.column) for e in errors] == [
        ("a.env", 2, 1),
        ("a.env", 3, 10),
        ("spec.yaml", 1, 42),
    ]
    assert "hunter2" not in repr(errors)


def test_sockets_are_given_in_order() -> None:
    head = "sockets: {a: {listen: 1}, b: {listen: 2}, c: {listen: 3}}\nwatchers: {web: "
    cases = {
        "{cmd: x}": (),
        "{cmd: x, use_sockets: true}": ("a", "b", "c"),
        "{cmd: x, use_sockets: false}": (),
        "{cmd: 'x ${sockets.a}', use_sockets: [c]}": ("c", "a"),
        "{cmd: 'x ${sockets.b} ${sockets.b}', env: {A: '${sockets.a}'}}": ("b", "a"),
        "{cmd: 'x ${sockets.a}', use_sockets: true}": ("b", "c", "a"),
        "{cmd: x, stdin_socket: b}": (),
        "{cmd: x, stop: {cmd: 'y ${sockets.c}'}, reload: {cmd: ['z', '${sockets.a}']}}": ("c", "a"),
        "{cmd: 'exec x ${sockets.c}', shell: true}": ("c",),
    }
    assert {body: watcher_of(f"{head}{body}}}").use_sockets for body in cases} == cases


def test_with_a_shell_the_command_is_one_word() -> None:
    web = watcher_of("watchers: {web: {cmd: 'echo $HOME \"$${X}\" ${slot} | cat', shell: true}}")
    assert web.cmd == ('echo $HOME "$${X}" ${slot} | cat',)


def test_an_unset_variable_is_a_mistake() -> None:
    error = only_error("vars: {root: /srv}\nwatchers:\n  web: {cmd: '${rot}/x'}\n")
    assert (place(error), error.hint) == ((3, 14, "watchers.web.cmd"), "did you mean 'root'?")


# ---- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "watchers: {web: {cmd: x, nope: 1, env: {A: hunter2, B: [hunter2]}}}",
        "watchers:\n  web:\n    cmd: x\n    env:\n      A:\n        - hunter2\n",
        "watchers: {web: {cmd: x, password: hunter2}}",
        "watchers: {web: {cmd: x --password=hunter2, nope: 1}}",
        "watchers: {web: {cmd: 'x --env=DB_PASS=hunter2', nope: 1}}",
        "watchers: {web: {cmd: x postgres://me:hunter2@db/, nope: 1}}",
        f"watchers: {{web: {{cmd: '{'x' * 300} --password={'y' * 300}hunter2', nope: 1}}}}",
        f"watchers: {{web: {{env: {{A: '{'y' * 300}hunter2'}}, nope: 1}}}}",
        "vars: {token: [hunter2]}\n",
        "watchers:\n  web:\n    env:\n      A: 'hunter2\n",
        "watchers:\n  web:\n    env:\n      A: @hunter2\n",
        "x-db:\n  password: @hunter2\n",
        "env: {A: hunter2, A: hunter2}\n",
    ],
)
def test_secrets_are_never_shown(text: str) -> None:
    errors = errors_of(text)
    assert "hunter2" not in "\n".join(f"{error}\n{error.excerpt}" for error in errors)


def test_an_excerpt_of_a_long_line_shows_what_is_wrong() -> None:
    labels = f"labels: {{a: {'y' * 500}}}"
    error = only_error(f"watchers: {{web: {{cmd: '{'x' * 500}', nope: 1, {labels}}}}}\n")
    source, caret = error.excerpt.splitlines()
    assert source[caret.index("^") :].startswith("nope: 1")
    assert len(source) <= 120


def test_a_line_of_megabytes_with_many_mistakes_is_reported_in_time() -> None:
    entries = ", ".join(f"w{n}: {{nope: {'v' * 2000}, env: {{A: b, C: d}}}}" for n in range(900))
    assert len(errors_of(f"watchers: {{{entries}}}\n")) == MAX_MISTAKES + 1


def test_a_watcher_named_like_a_secret_is_none() -> None:
    error = only_error("watchers: {auth: {cmd: x, numprocesses: many}}")
    assert "'many'" in error.message
    assert "many" in error.excerpt


# ---- whatever comes -------------------------------------------------------------------------------

_WORDS = """
watchers sockets defaults env vars daemon apply include version x-a web cmd stop timeout hooks logs
before_start stdout file to limits nofile soft hard reload signal use_sockets listen type env_file
respawn restart max_restarts count name a << shell labels
"""
_KEYS = st.sampled_from(_WORDS.split())
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(allow_nan=True),
    st.sampled_from(
        ["${slot}", "${a}", "$", "${sockets.web}", "a 'b", "10s", "8000", "unix:/x", "never"]
    ),
    st.text(max_size=8),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(_KEYS, _TREES, max_size=5))
def test_no_document_brings_the_loader_down(tree: dict[str, object]) -> None:
    _survives(json.dumps(tree).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?\n\t $<", max_size=60))
def test_no_bytes_bring_the_loader_down(data: bytes | str) -> None:
    _survives(data if isinstance(data, bytes) else data.encode())


def _survives(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        found = load([file.name], {})
    if isinstance(found, tuple):
        assert found
        assert json.dumps(to_plain(found))
    else:
        assert from_plain(Spec, to_plain(found.spec)) == found.spec


# ---- the child ------------------------------------------------------------------------------------


def _child(request: object) -> dict[str, object]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys, runpy; sys.path.insert(0, {root!r}); "
        "runpy.run_module('reconciler.specfile', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_child_answers_with_a_spec(folder: Folder) -> None:
    paths = folder.write(spec=EVERYTHING)
    answer = _child({"paths": paths, "environ": {}})
    found = loaded(*paths)
    assert from_plain(Spec, answer["spec"]) == found.spec
    files = {path: {"digest": each.digest, "size": each.size} for path, each in found.files.items()}
    assert answer["files"] == files


def test_the_child_answers_with_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("watchers: {a: {}}\n")
    answer = _child({"paths": [str(path)], "environ": {}})
    assert answer["errors"] == [
        {
            "path": str(path),
            "line": 1,
            "column": 12,
            "field": "watchers.a.cmd",
            "message": "'cmd' is missing",
            "hint": "write: cmd: python -m http.server",
            "excerpt": "watchers: {a: {}}\n           ^",
        }
    ]
