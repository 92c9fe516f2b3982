"""A Python hook runs in whatever interpreter its virtualenv has, with the arguments that it takes."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.shape.source import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

HOOK = PACKAGE / "hook"
HOOKS = '''
import json
def three(watcher, arbiter, hook_name):
    return (watcher.name, hook_name) == ("web", "before_start")
def details(watcher, **details):
    return sorted(details) == ["arbiter", "hook_name", "pid", "slot"]
def no(watcher):
    print("the moon is full")
    return False
def broken(watcher):
    json.loads("{")
def frozen(watcher):
    watcher.name = "x"
class Kept:
    def __call__(self, slot, pid):
        return (slot, pid) == (2, 7)
kept = Kept()
async def waits(watcher):
    import asyncio
    await asyncio.sleep(0)
    print("not yet")
    return watcher.name != "web"
class Waits:
    async def __call__(self, **details):
        return await waits(details["watcher"])
def yields(watcher):
    yield True
class Says:
    def __init__(self, watcher):
        print("made for", watcher.name)
    def __call__(self, slot):
        return slot != 2
import functools
part = functools.partial(Kept.__call__, kept)
@functools.wraps(three)
def wrapped(**given):
    return three(**given)
exec("""
def placed(watcher, slot, /, hook_name):
    return (watcher.name, slot, hook_name) == ("web", 2, "before_start")
""" if __import__("sys").version_info >= (3, 8) else "")
'''


def interpreters() -> list[str]:
    """Return this interpreter, and older ones that lie on PATH or beside it."""
    older = [shutil.which(f"python3.{minor}") for minor in range(6, 11)]
    beside = Path(sys.base_prefix).parent.glob("3.[6-9].*/bin/python")
    found = [sys.executable, *filter(None, older), *map(str, beside)]
    return [
        each
        for each in found
        if not subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode
    ]


def run(folder: Path, dotted: str, python: str = sys.executable) -> tuple[int, str]:
    """Return the exit code of a hook, and the last line that it wrote."""
    (folder / "h.py").write_text(HOOKS)
    (folder / "raises.py").write_text("raise KeyError('nobody')\n")
    (folder / "client.py").write_text("mine = True\ndef seen(**_):\n    return mine\n")
    arguments = {
        "watcher": {"name": "web", "labels": {}},
        "hook_name": "before_start",
        "slot": 2,
        "pid": 7,
    }
    env: Mapping[str, str] = os.environ | {
        "RECONCILE_HOOK_ARGUMENTS": json.dumps(arguments),
        "RECONCILE_CONTROL_SOCKET": str(folder / "control.sock"),
    }
    argv = [python, str(HOOK / "__main__.py"), dotted]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().split("\n")
    return done.returncode, lines[-1]


def test_a_hook_runs_in_old_interpreters_too(tmp_path: Path) -> None:
    for python in interpreters():
        assert run(tmp_path, "h.three", python) == (0, ""), python
        assert run(tmp_path, "h.no", python) == (100, "the moon is full"), python
        _, said = run(tmp_path, "h.broken", python)
        assert said.startswith("json.decoder.JSONDecodeError: Expect"), python
        assert run(tmp_path, "h.waits", python) == (100, "not yet"), python


@pytest.mark.parametrize(
    ("dotted", "said"),
    [("h.Waits", (100, "not yet")), ("h.Says", (100, "made for web")), ("h.Kept", (0, ""))],
)
def test_a_hook_that_only_began_has_said_nothing_yet(
    tmp_path: Path, dotted: str, said: tuple[int, str]
) -> None:
    assert run(tmp_path, dotted) == said


@pytest.mark.parametrize(
    "dotted", ["h.three", "h.details", "h.kept", "client.seen", "h.part", "h.wrapped", "h.placed"]
)
def test_a_hook_is_given_what_it_takes(tmp_path: Path, dotted: str) -> None:
    assert run(tmp_path, dotted) == (0, "")


@pytest.mark.parametrize(
    ("dotted", "last"),
    [
        ("h.frozen", "AttributeError: a hook cannot change watcher.name"),
        ("h.yields", "TypeError: a hook cannot be a generator"),
        ("h.nope", "cannot find hook h.nope: h has no 'nope'"),
        ("nope.f", "cannot import hook nope.f: no module named 'nope'"),
        ("raises.f", "cannot import hook raises.f: module raises raised KeyError: 'nobody'"),
        ("h.json", "cannot call hook h.json: it is module, not a function"),
    ],
)
def test_the_last_line_says_what_was_wrong(tmp_path: Path, dotted: str, last: str) -> None:
    code, line = run(tmp_path, dotted)
    assert (code, line.startswith(last)) == (1, True), line


@pytest.mark.parametrize("path", sorted(HOOK.glob("*.py")), ids=lambda path: path.name)
def test_nothing_here_is_newer_than_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))
    assert "from __future__" not in path.read_text()


def test_what_is_executed_can_be_read_by_python_2() -> None:
    """It has to say so itself that it is too new: no f-strings, no annotations but in comments."""
    source = (HOOK / "__main__.py").read_text()
    tree = ast.parse(source)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
            assert not any(each.annotation for each in node.args.args)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    assert all(token.string.isascii() for token in tokens)
