"""Each call to the system fails once: the n-th of each scenario, for every n until the scenario passes untouched.

Where a keeper has to be started for each of them, the first call from each place in the code.

After each failure the keeper lives, says which step failed, holds no descriptor and no child more than
before, does the same thing at the next attempt, and whatever else it holds has noticed nothing.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.keeper import failing
from tests.keeper import rig as rig_module
from tests.keeper.failing import STATE, Failing
from tests.keeper.rig import ROOT, children_of, keeper, until
from tests.keeper.scenarios import SCENARIOS, UNTOLD_SCENARIOS, Patient

MOST: Final = 400
PROGRAM: Final = (
    "import os, sys; sys.path.insert(0, sys.argv.pop(1)); import tests.keeper.failing as f; "
    "f.install(os.environ['FAILING']); import reconciler.keeper.__main__ as m; sys.exit(m.main(sys.argv))"
)
BY_PLACE: Final[dict[str, frozenset[str]]] = {
    "a keeper takes over": frozenset(),
    "an adopted process is stopped with its tree": frozenset(),
    "a keeper ends with a controller that hangs": frozenset(),
    "an upgrade succeeds": frozenset(
        {"reexec.py", "keeper.py", "pidfds.py", "capture.py", "stream.py"}
    ),
}
"""A keeper is started for each call of these, so each place that calls (in these files) has one turn.

What the new code of an upgrade does to begin is what it does to take over.
"""
WITHOUT: Final = {"anon_inode:inotify": "libc.inotify_init1"}
"""What a keeper that cannot have it at its start goes on without."""
ON_DISKS: Final = (
    "a process is spawned",
    "a unix socket is bound",
    "a log is rotated",
    "a log is redirected",
    "the journal is written",
)
"""A disk may be broken as well as short of something."""
CASES: Final = [
    *((name, errno.EMFILE) for name in SCENARIOS),
    *((name, errno.EIO) for name in ON_DISKS),
]
PURE: Final = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "datetime", "errno", "functools", "gc", "heapq",
    "ipaddress", "itertools", "json", "math", "re", "stat", "struct", "sys", "termios", "traceback", "types", "typing",
    "importlib", "marshal", "zlib", "msgspec", "reconciler",
}  # fmt: skip
"""What the keeper imports that asks nothing of the system."""


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    state = tmp_path / "failing"
    state.write_bytes(bytes(STATE.size))
    calls = Failing(str(state))
    calls.disarm()
    monkeypatch.setattr(rig_module, "KEEPER", PROGRAM)
    env = {"PATH": os.environ["PATH"], "FAILING": str(state), "PYTHONPATH": str(ROOT)}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(env.setdefault("NOTIFY_SOCKET", str(tmp_path / "notify")))
    stderr = tmp_path / "stderr"
    with stderr.open("ab") as file, keeper(tmp_path, env=env, stderr=file) as rig:
        patient = Patient(rig, rig.link(), calls, stderr)
        patient.accompany()
        yield patient
        patient.feed.close()
        listener.close()
        print(stderr.read_text())


@pytest.mark.parametrize(
    ("name", "number"), CASES, ids=lambda value: errno.errorcode.get(value, value)
)
def test_whatever_fails_is_told_leaks_nothing_and_works_the_next_time(
    patient: Patient, name: str, number: int
) -> None:
    scenario = SCENARIOS[name]
    assert scenario(patient) == ""
    turns: Iterable[int] = itertools.count()
    if name in BY_PLACE:
        patient.records = True
        assert scenario(patient) == ""
        turns, patient.records = [*patient.failing.first_of_each(BY_PLACE[name]), MOST - 1], False
    before, children = patient.descriptors(), len(children_of(patient.rig.pid))
    told = 0
    for successes in turns:
        assert successes < MOST, "the scenario makes calls without end"
        patient.next, patient.failed = (successes, number), ""
        step = scenario(patient)
        patient.heal()
        patient.next, failed = None, patient.failed
        if not failed:
            assert step == ""
            break
        told += step != ""
        # The child's last word about itself is a write, and nobody is left to tell of that one.
        assert step != "untold" or failed == "os.write"
        if patient.is_refused:  # the next turn meets the next keeper
            continue
        assert patient.rig.process.poll() is None, f"the keeper ended when {failed} failed"
        patient.check_bystander()
        if name not in BY_PLACE:  # the next turn is the next time
            assert scenario(patient) == "", f"after {failed} had failed"
        held = [each for each in before if failed != WITHOUT.get(each)]
        settles(patient.descriptors, held, f"no descriptor is left after {failed}")
        assert len(children_of(patient.rig.pid)) == children, f"a child is left after {failed}"
    assert successes > 0
    assert told or name in UNTOLD_SCENARIOS, "hardly a failure was told"


def settles(ask: Callable[[], object], expected: object, what: str) -> None:
    """Wait until the answer is as expected."""
    with contextlib.suppress(AssertionError):
        until(lambda: ask() == expected)
    assert ask() == expected, what


def calls_of(tree: ast.Module) -> set[str]:
    """Return what a module calls or hands on of the modules that it imports, as `os.open`."""
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] not in PURE
    }
    named = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in imported
    }
    return {each for each in named if callable(_value(each)) and not isinstance(_value(each), int)}


def _value(name: str) -> object:
    module, _, attribute = name.partition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_harness_knows_all_that_the_keeper_calls() -> None:
    """Whoever adds a call or a module lets it fail, or says in `SURE` why it cannot."""
    known = {f"{module}.{call}" for module, calls in failing.CALLS.items() for call in calls}
    known |= {each for calls in failing.SURE.values() for each in calls} | failing.WRAPPED
    types = {"os.stat_result", "socket.socket", "pwd.struct_passwd", "selectors.SelectorKey"}
    found: set[str] = set()
    for name in failing.MODULES:
        tree = ast.parse((failing.PACKAGE / f"{name.replace('.', '/')}.py").read_text())
        unknown = calls_of(tree) - known - types
        assert not unknown, f"{name} calls what the harness does not know: {sorted(unknown)}"
        found |= calls_of(tree)
        for_types = [
            each
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for each in node.body
        ]
        imports = {
            node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and not node.level and node not in for_types
        }
        hidden = {each for each in imports if each.partition(".")[0] not in PURE}
        assert not hidden, f"{name} imports names, which cannot be made to fail, from {hidden}"
    unused = known - found - {"os.WIFSIGNALED", "selectors.EpollSelector"}
    assert not unused, f"nothing calls {sorted(unused)} any more"


def test_a_call_that_nobody_knows_is_found() -> None:
    tree = ast.parse("import os, shutil\nos.truncate('x', 1)\nshutil.rmtree('x')\nos.O_RDWR")
    assert calls_of(tree) == {"os.truncate", "shutil.rmtree"}
