"""The quick way of `reconcile status` and the long one: what they say is the same, byte for byte."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import click
import pytest
from msgspec.structs import fields

from reconciler.cli import lines, quick
from reconciler.cli.main import reconcile
from reconciler.cli.session import Session
from reconciler.model.errors import RequestError
from reconciler.model.status import Status
from reconciler.model.value import Struct
from reconciler.wire import rpc
from tests.cli.answers import FAILED_JOB, HTTP, MAILER, NOW_NS, RUNNING_WEB, WORD, refusing, status
from tests.cli.on_terminal import on_terminal
from tests.cli.shown import shown

if TYPE_CHECKING:
    from tests.cli.manager import Manager

ROOT = Path(__file__).parents[2]
ANSWERS = [
    status(),
    status(RUNNING_WEB, FAILED_JOB, sockets=[HTTP]),
    status(MAILER, RUNNING_WEB | {"overrides": [WORD], "note": 'stopped by alice: "disk"'}),
    status(RUNNING_WEB | {"name": "\x1b[2Jü\u202e"}, culprit="web", outcome="paused", log=["x\ty"]),
    status(spec_state="invalid", spec_errors=[{"path": "/a.yaml", "line": 3, "message": "no"}]),
    status(RUNNING_WEB | {"mood": "good", "conditions": []}, weather="fine"),
]
LINES = (
    "status",
    "status web --failed",
    "status -o wide",
    "status -o json",
    "status --failed --output=json",
    "status -o name",
)
WORDS = (
    *("web", "web*", "help", "table", "json", "xml", "shop", "a=b", "-", "--", ""),
    *("--name", "--name=box", "--runtime-dir", "--state-dir=/x", "--failed", "--fail", "-h"),
    *("-o", "-ojson", "-o=json", "--output", "--output=wide", "-w", "-l", "--label=a=b", "-V"),
)


def ran(way: str, line: str) -> tuple[bytes, bytes, int]:
    """Run a command line the quick or the long way."""
    module = {"quick": "reconciler.cli.__main__", "long": "reconciler.cli.main"}[way]
    program = f"import sys; from {module} import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stdout, done.stderr, done.returncode


# ---- the line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", lines.VALUES)
def test_what_is_read_of_a_line_is_what_click_reads(command: str) -> None:
    taken = 0
    for size in (1, 2, 3, 4):
        for line in itertools.product((command, *WORDS), repeat=size):
            if size == 4 and line[0] != command and line[2] != command:
                continue
            if (found := lines.read([*line])) is not None:
                taken += 1
                assert tuple(found) == by_click([*line], command), line
    assert taken > 200


DEFAULTS: dict[str, dict[str, object]] = {
    "status": {"labels": {}, "watch": False},
    "run": {"replace_source": False, "exit_with": ()},
    "up": {
        "replace_source": False,
        "exit_with": (),
        "detach": False,
        "wait": True,
        "wait_jobs": False,
        "timeout_ns": quick.UP_TIMEOUT_NS,
    },
}
"""What is done when nothing is said of it."""


def by_click(line: list[str], name: str) -> tuple[str, list[str], dict[str, str]]:
    """Return the same as click reads it; what it refuses, and what is not read quickly, is an error."""
    above = reconcile.make_context("reconcile", line, obj=Session())
    _, command, rest = reconcile.resolve_command(above, [*above._protected_args, *above.args])
    assert command is not None
    assert command.name == name
    with command.make_context(name, rest, parent=above) as context:
        given = dict(context.params)
        where = context.get_parameter_source("output")
    places = {each: given.pop(each) or above.params[each] for each in lines.PLACES.values()}
    said = {each: value for each, value in places.items() if value}
    names = given.pop("names" if name == "status" else "spec")
    if name == "status":
        output, failed = given.pop("output"), given.pop("failed")
        if where is not click.core.ParameterSource.DEFAULT:
            said["output"] = output
        if failed:
            said["failed"] = "--failed"
    assert not above.params["shows_version"]
    assert given == DEFAULTS[name]
    return name, [*names], said


# ---- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("answer", range(len(ANSWERS)))
def test_both_ways_write_the_same_to_a_pipe(manager: Manager, answer: int, line: str) -> None:
    manager.answers["status"] = ANSWERS[answer]

    assert ran("quick", line) == ran("long", line)
    first, second = manager.asked("status")
    assert first == second


def test_both_ways_write_the_same_to_a_terminal(manager: Manager) -> None:
    manager.answers["status"] = status(RUNNING_WEB, MAILER | {"note": "many words " * 20})

    # An abbreviated word is nothing that is read quickly.
    assert on_terminal("status") == on_terminal("--", "status")


def test_both_ways_refuse_in_the_same_words(manager: Manager, tmp_path: Path) -> None:
    for wrong in ({"watchers": [{"want": "two"}]}, {"watchers": 3}, {"name": None}, [], "\udcff"):
        manager.answers["status"] = wrong
        assert ran("quick", "status") == ran("long", "status")
    manager.answers["status"] = refusing(RequestError("denied", "no", hint="ask"))
    assert ran("quick", "status") == ran("long", "status")
    nobody = f"--runtime-dir {tmp_path}/nobody status"
    assert ran("quick", nobody) == ran("long", nobody)
    for line in ("status -o xml", "status --name", "--frob status", "status -h", "help status"):
        assert ran("quick", line) == ran("long", line)


def test_which_one_is_meant_is_told_once(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RECONCILE_RUNTIME_DIR")
    (tmp_path / "reconcile").mkdir(mode=0o700)
    (tmp_path / "reconcile" / "shop").symlink_to(manager.runtime_dir)
    manager.answers["hello"] = {"name": "shop", "source": ["/etc/shop.yaml"]}
    for answer in (status(RUNNING_WEB), status(RUNNING_WEB, name=7)):
        manager.answers["status"] = answer
        quickly = ran("quick", "status")
        assert quickly == ran("long", "status")
        if os.geteuid() != 0:
            assert b"using shop" in quickly[1]


def test_many_statuses_are_read_and_shown_alike() -> None:
    """Whatever fields an answer has, and whatever is in them."""
    chance = random.Random(7)
    packed = [rpc.pack(made_up(Status, chance)) for _ in range(150)]
    program = """
import sys
from reconciler import model
model.shows_only = True
from tests.cli.shown import shown
assert "msgspec" not in sys.modules
for line in sys.stdin:
    print(shown(bytes.fromhex(line)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(each.hex() for each in packed),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.splitlines() == [*map(shown, packed)]


def made_up(kind: Any, chance: random.Random) -> Any:
    """Return a plain value of a type, with some of its fields."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        given = [each for each in fields(kind) if each.required or chance.random() < 0.6]
        found = {each.encode_name: made_up(each.type, chance) for each in given}
        return found | ({"other": [1]} if chance.random() < 0.1 else {})
    if get_origin(kind) is tuple:
        return [made_up(get_args(kind)[0], chance) for _ in range(chance.randrange(3))]
    if get_args(kind):
        return None if chance.random() < 0.3 else made_up(get_args(kind)[0], chance)
    if kind is bool:
        return chance.random() < 0.5
    if kind is int:
        return chance.choice((0, 1, 3, NOW_NS - 10**10, NOW_NS + 10**11, -5, 2**40))
    if kind is float:
        return chance.choice((0, 0.25, 99, 1234.5))
    return chance.choice(
        ("", "web", "Running", "BackOff", "Failed", "paused", "job", "a\x1bb", "ü ")
    )
