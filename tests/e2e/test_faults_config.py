"""Rows C of docs/reliability.md: what becomes of spec files, on purpose or not, and what it does to processes.

One instance serves most rows: four processes that must be kept, whatever is written into its file.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stage import (
    RECONCILE,
    Refused,
    Stage,
    ask,
    environ_of,
    on_terminal,
    resident_bytes,
    stage,
    until,
)

pytestmark = pytest.mark.e2e

SPEC = """\
apply: {quiet_period: 50ms}
watchers:
  w:
    cmd: sleep 1001
    numprocesses: 3
    env: {LEVEL: info}
  z:
    cmd: sleep 1002
"""
MIB = 2**20


@pytest.fixture(scope="module")
def instance() -> Iterator[Stage]:
    with stage(SPEC) as it:
        it.run("up", "-d", str(it.specs))
        yield it


@pytest.fixture
def it(instance: Stage) -> Iterator[Stage]:
    """The instance with its four processes; a row leaves them as they were, and itself no trace."""
    before = pids(instance)
    assert {name: len(each) for name, each in before.items()} == {"w": 3, "z": 1}
    yield instance
    for extra in set(instance.specs.iterdir()) - {instance.spec}:
        shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
    instance.write(SPEC)
    ask(instance, "apply", allow_removal=True)
    until(lambda: applied(instance), "the spec is in force again", show=instance.status)
    assert pids(instance)["z"] == before["z"]


def pids(it: Stage) -> dict[str, dict[int, int]]:
    status = ask(it, "status")
    return {
        w["name"]: {s["slot"]: s["pid"] for s in w["slots"] if s["pid"] is not None}
        for w in status["watchers"]
    }


def count(it: Stage, name: str) -> int:
    return len(pids(it).get(name, {}))


def applied(it: Stage) -> bool:
    status = ask(it, "status")
    return bool(status["settled"]) and status["spec_state"] == "applied"


def refused(it: Stage, text: str) -> str:
    """Save a file, apply it by hand, and return why that is refused; nothing may have changed."""
    before = pids(it)
    it.write(text)
    done = it.run("apply", "--yes", code=1)
    assert pids(it) == before
    return done.stdout + done.stderr


def test_c01_a_syntax_error_is_told_with_its_line_and_a_good_file_follows(it: Stage) -> None:
    said = refused(it, SPEC.replace("numprocesses: 3", "numprocesses: 3\n   bad: ["))
    assert "reconcile.yaml:6" in said or "reconcile.yaml:7" in said, said
    before = pids(it)
    it.write(SPEC + "  more: {cmd: sleep 1003}\n")
    until(lambda: count(it, "more") == 1, "one more")
    after = pids(it)
    assert {name: after[name] for name in before} == before


def test_c02_a_file_that_is_cut_anywhere_kills_nothing(it: Stage) -> None:
    before, data = pids(it), it.spec.read_bytes()
    for cut in range(12):
        with it.spec.open("r+b") as file:  # in place, as a writer leaves it that has died
            file.write(data)
            file.truncate(len(data) * cut // 12)
        with pytest.raises(Refused):
            ask(it, "apply")
        assert pids(it) == before, data[: len(data) * cut // 12]


def test_c03_the_same_watcher_twice_names_both_places(it: Stage) -> None:
    said = refused(it, SPEC + "  w: {cmd: sleep 5}\n")
    assert "reconcile.yaml:9:" in said and "the first time in line 3" in said, said
    (it.specs / "second.yaml").write_text("watchers: {z: {cmd: sleep 5}}\n")
    said = refused(it, SPEC)
    assert "second.yaml:1:" in said and "reconcile.yaml:7:" in said, said


def test_c04_a_typo_is_told_with_the_nearest_name(it: Stage) -> None:
    said = refused(it, SPEC.replace("numprocesses", "numproceses"))
    assert "unknown field 'numproceses'" in said and "did you mean 'numprocesses'?" in said


@pytest.mark.parametrize("number", ["banana", "-5"])
def test_c05_a_number_that_is_none_is_told_with_its_field(it: Stage, number: str) -> None:
    said = refused(it, SPEC.replace("numprocesses: 3", f"numprocesses: {number}"))
    assert "watchers.w.numprocesses" in said and f"'{number}'" in said, said


@pytest.mark.parametrize("what", ["file", "folder"])
def test_c06_what_is_missing_is_not_empty(it: Stage, what: str) -> None:
    before, away = pids(it), it.folder / "away"
    place = it.spec if what == "file" else it.specs
    place.rename(away)
    status = until(lambda: (s := ask(it, "status"))["spec_state"] in {"missing", "invalid"} and s)
    assert status["spec_message"] or status["spec_errors"]
    with pytest.raises(Refused):
        ask(it, "apply")
    assert pids(it) == before
    away.rename(place)
    until(lambda: applied(it), "it is back")
    assert pids(it) == before


def test_c09_a_spec_of_10_mb_is_refused_by_its_size(it: Stage) -> None:
    idle = "".join(f"  s{n}: {{cmd: sleep 1, autostart: false}}\n" for n in range(300))
    said = refused(it, SPEC + idle + "# a comment\n" * 870_000)
    assert "it is larger than 4 MiB" in said
    assert least_answer_s(it) < 1.0


@pytest.mark.parametrize("how", ["billion laughs", "a value that grows", "an alias of itself"])
def test_c10_what_expands_without_bound_is_refused(it: Stage, how: str) -> None:
    laughs = "x-a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"x-{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    grows = (
        "vars:\n  a: "
        + "x" * 1000
        + "\n"
        + "".join(
            f"  {new}: {'${' + old + '}' * 1}{('${' + old + '}') * 99}\n"
            for old, new in zip("abcdef", "bcdefg", strict=True)
        )
    )
    text = {
        "billion laughs": laughs,
        "a value that grows": grows + "env: {BIG: '${g}'}\n",
        "an alias of itself": "x-a: &a {b: *a}\n",
    }[how]
    controller = it.status()["controller_pid"]
    before = resident_bytes(controller)
    refused(it, text + SPEC)
    assert resident_bytes(controller) - before < 64 * MIB
    assert least_answer_s(it) < 1.0


def least_answer_s(it: Stage) -> float:
    """Return the shortest of three answers: a busy machine may delay two of them."""
    times = []
    for _ in range(3):
        begun = time.monotonic()
        ask(it, "status")
        times.append(time.monotonic() - begun)
    return min(times)


def test_c11_names_and_arguments_cannot_play_tricks_on_a_terminal(it: Stage) -> None:
    tricks = r'"a\x1b[2J\x1b]0;owned\x07\r\u202eb"'
    it.write(SPEC + f"  {tricks}: {{cmd: sleep 5}}\n")
    for command in (["validate", str(it.specs)], ["apply", "--yes"], ["plan"]):
        shown = on_terminal(it, *command)
        assert "cannot be the name of a watcher" in shown, shown
        assert harmless(shown), shown
    quiet = f"  quiet: {{cmd: [sleep, '5', {tricks}], description: x, labels: {{a: {tricks}}}}}\n"
    it.write(SPEC + quiet)
    assert harmless(on_terminal(it, "validate", str(it.specs)))
    it.write(SPEC + f"  quiet: {{cmd: sleep 5, labels: {{a: {tricks}}}, x-note: {tricks}}}\n")
    ask(it, "apply")
    it.write(SPEC + f"  quiet: {{cmd: sleep 6, labels: {{b: {tricks}}}, x-note: other}}\n")
    for command in (["plan"], ["status"], ["status", "-o", "yaml"], ["events"]):
        assert harmless(on_terminal(it, *command)), command


def harmless(shown: str) -> bool:
    left = {c for c in shown if not c.isprintable()} - {"\x1b", "\r", "\n"}
    return not left and "\x1b[2J" not in shown and "\x1b]" not in shown and "owned\x07" not in shown


def test_c13_40_edits_within_seconds_end_as_the_last_one_says(it: Stage) -> None:
    before = pids(it)["z"]
    texts = [SPEC.replace("LEVEL: info", f"LEVEL: level-{n}") for n in range(40)]
    with concurrent.futures.ThreadPoolExecutor(6) as six:
        for text in texts:
            it.write(text)
            six.submit(ask, it, "apply")
            time.sleep(0.05)
    until(lambda: levels(it) == {"level-39"}, "the last one", show=lambda: levels(it))
    until(lambda: applied(it), "no error is left", show=it.status)
    assert pids(it)["z"] == before


def levels(it: Stage) -> set[str]:
    found = set()
    for pid in pids(it)["w"].values():
        try:
            found.add(environ_of(pid).get("LEVEL", ""))
        except OSError:
            found.add("gone")
    return found


def test_c16_a_hook_that_raises_keeps_only_its_watcher_from_starting(it: Stage) -> None:
    (it.specs / "hooks.py").write_text(
        "def no(**_: object) -> None:\n    raise ValueError('not today')\n"
    )
    hook = "hooks: {before_start: {python: hooks.no}}"
    it.write(SPEC + f"  hooked: {{cmd: sleep 5, {hook}}}\n  next: {{cmd: sleep 1006}}\n")
    ask(it, "apply")
    until(lambda: count(it, "next") == 1, "the neighbour runs")
    until(lambda: "not today" in watcher(it, "hooked")["note"], "it is told")
    assert count(it, "hooked") == 0


def watcher(it: Stage, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(it, "status", names=[name])["watchers"][0]
    return found


SLOW = "  slow: {cmd: sleep 1007, hooks: {before_start: {cmd: [sh, -c, 'until [ -e go ]; do sleep 0.05; done']}}}\n"


def test_c17_a_slow_hook_delays_nobody_else(it: Stage) -> None:
    it.write(SPEC + SLOW + "  next: {cmd: sleep 1008}\n")
    begun = time.monotonic()
    ask(it, "apply")
    until(lambda: count(it, "next") == 1, "the neighbour runs")
    assert time.monotonic() - begun < 2.0
    assert least_answer_s(it) < 1.0
    assert watcher(it, "slow")["note"] == "before_start hook runs"
    (it.specs / "go").touch()
    until(lambda: count(it, "slow") == 1, "the hook has passed")


def test_c18_while_a_hook_runs_others_are_answered_and_brought_back(it: Stage) -> None:
    it.write(SPEC + SLOW)
    ask(it, "apply")
    until(lambda: watcher(it, "slow")["note"] == "before_start hook runs")
    old, killed = pids(it)["w"][2], time.monotonic()
    os.kill(old, signal.SIGKILL)
    assert least_answer_s(it) < 1.0
    until(lambda: pids(it)["w"].get(2) not in {old, None}, "it is back")
    assert time.monotonic() - killed < 3.0
    assert watcher(it, "slow")["state"] == "Waiting"
    (it.specs / "go").touch()
    until(lambda: count(it, "slow") == 1, "the hook has passed")


# ---- rows with an instance of their own -----------------------------------------------------------


def test_c08_without_inotify_files_are_looked_at_now_and_then() -> None:
    """The limit of inotify is that of a user namespace of our own: nobody else is to go without."""
    unshare = shutil.which("unshare")
    none_left = "echo 0 > /proc/sys/user/max_inotify_instances"
    wrapped = [unshare or "", "--user", "--map-root-user", "sh", "-c"]
    if (
        unshare is None
        or subprocess.run([*wrapped, none_left], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs a user namespace of its own")
    with stage("watchers: {w: {cmd: sleep 1001}}\n") as it:
        command = f'{none_left}; exec "$0" up "$1"'
        with it.output.open("ab") as output:
            it.foreground = subprocess.Popen(
                [*wrapped, command, RECONCILE, str(it.specs)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=it.environ, start_new_session=True,
            )  # fmt: skip
        until(it.answers, "the manager answers", show=it.output.read_text)
        it.settle()
        assert "cannot watch files by inotify" in it.run("events").stdout
        assert "raise the sysctl fs.inotify.max_user_instances" in it.run("status").stdout
        it.write("watchers: {w: {cmd: sleep 1001, numprocesses: 2}}\n")
        until(lambda: count(it, "w") == 2, "the saved file is applied", within_s=10)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_c12_root_refuses_a_spec_that_everybody_may_write(what: str) -> None:
    with stage("watchers: {w: {cmd: sleep 1001}}\n") as it:
        place = it.spec if what == "file" else it.specs
        place.chmod(0o777)
        done = it.run("up", "-d", str(it.specs), code=None)
        said = done.stdout + done.stderr
        assert f"{place} has mode 0777: everybody may write to it" in said, said
        assert "--allow-writable-specs" in said
        if os.geteuid() == 0:
            assert done.returncode == 1
            it.run("status", code=4)
            said = it.run("up", "-d", "--allow-writable-specs", str(it.specs)).stderr
            assert f"warning: cannot trust the spec: {place} has mode 0777" in said
        assert "spec.warning" in it.run("events").stdout
        it.write("watchers: {w: {cmd: sleep 1002}}\n")
        until(lambda: ask(it, "status")["revision"] == 2, "the manager was told so, too")
