"""What watchers may wait for, in each way to write it; and what cannot be waited for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from reconciler.model.spec import DependencySpec
from tests.specfile.files import only_error, spec_of, watcher_of

DB = "  db: {cmd: x}\n  migrate: {cmd: x, restart: never}\n  once: {cmd: x, restart: on-failure}\n"
READY = {"db": DependencySpec("ready")}


def web(depends_on: str) -> str:
    return f"watchers:\n{DB}  web: {{cmd: x, depends_on: {depends_on}}}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[db]", READY),
        ("{db: ready}", READY),
        ("{db: {}}", READY),
        ("{db: {condition: ready}}", READY),
        ("{db: {condition: started, required: false}}", {"db": DependencySpec("started", False)}),
        ("{db: {on_restart: restart}}", {"db": DependencySpec("ready", on_restart="restart")}),
        ("{db: {timeout: 1s}}", {"db": DependencySpec("ready", timeout=1_000_000_000)}),
        ("[migrate]", {"migrate": DependencySpec("succeeded")}),
        ("{migrate: completed}", {"migrate": DependencySpec("completed")}),
        ("{migrate: started}", {"migrate": DependencySpec("started")}),
        ("{once: succeeded, db: ready}", {"once": DependencySpec("succeeded"), **READY}),
        ("[]", {}),
        ("{}", {}),
        ("null", {}),
    ],
)
def test_each_way_to_write_a_dependency(text: str, found: object) -> None:
    assert spec_of(web(text)).watchers["web"].dependencies == found


def test_variables_count_in_dependencies() -> None:
    text = "vars: {what: started, limit: 2s}\n" + web(
        "{db: {condition: '${what}', timeout: '${limit}'}}"
    )
    found = spec_of(text).watchers["web"].dependencies
    assert found == {"db": DependencySpec("started", timeout=2_000_000_000)}


def test_dependencies_of_defaults_join_those_of_a_watcher() -> None:
    text = "defaults: {depends_on: {db: started, migrate: completed}}\nwatchers:\n" + (
        "  db: {cmd: x, depends_on: {}}\n  migrate: {cmd: x, restart: never, depends_on: {}}\n"
        "  web: {cmd: x, depends_on: {db: ready}}\n"
    )
    found = spec_of(text).watchers["web"].dependencies
    assert found == {**READY, "migrate": DependencySpec("completed")}


def test_what_waits_for_nothing_says_so() -> None:
    assert watcher_of("watchers: {web: {cmd: x}}").dependencies == {}


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("[dbb]", "web.depends_on.dbb", "did you mean 'db'?"),
        ("{dbb: ready}", "web.depends_on.dbb", "there is no watcher 'dbb'"),
        ("{db: succeeded}", "web.depends_on.db", "a service and never succeeded"),
        ("{db: completed}", "web.depends_on.db", "write: ready, or started"),
        ("{migrate: ready}", "web.depends_on.migrate", "never ready: it ends"),
        ("{migrate: {on_restart: restart}}", "web.depends_on.migrate", "it is not restarted"),
        ("{db: redy}", "web.depends_on.db", "did you mean 'ready'?"),
        ("{db: {condition: up}}", "web.depends_on.db.condition", "started, ready, succeeded"),
        ("{db: {conditoin: ready}}", "web.depends_on.db.conditoin", "unknown field"),
        ("{db: {timeout: 5}}", "web.depends_on.db.timeout", "duration"),
        ("db", "web.depends_on", "write: [db]"),
        ("[[db]]", "web.depends_on[0]", "expected text, found a list"),
        ("[web]", "web.depends_on.web", "a watcher cannot wait for itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_waited_for(text: str, field: str, words: str) -> None:
    error = only_error(web(text))
    assert error.field.endswith(field)
    assert words in f"{error.message} | {error.hint}"


def test_a_circle_is_told_once_with_its_path_and_the_place_of_each_step() -> None:
    text = (
        "watchers:\n"
        "  a: {cmd: x, depends_on: [b]}\n"
        "  b: {cmd: x, depends_on: {c: ready}}\n"
        "  c:\n"
        "    cmd: x\n"
        "    depends_on: [a]\n"
        "  d: {cmd: x, depends_on: [a, c]}\n"
    )
    error = only_error(text)
    assert (error.line, error.column) == (2, 28)
    assert error.message == "the dependencies make a circle: a -> b -> c -> a"
    path = error.path
    assert error.hint == (
        f"a names b at {path}:2:28; b names c at {path}:3:28; c names a at {path}:6:18"
    )


def test_a_long_chain_is_no_circle() -> None:
    names = [f"w{number}" for number in range(2000)]
    lines = [f"  {one}: {{cmd: x, depends_on: [{other}]}}\n" for one, other in pairwise(names)]
    found = spec_of("watchers:\n" + "".join(lines) + f"  {names[-1]}: {{cmd: x}}\n")
    assert len(found.watchers) == 2000
