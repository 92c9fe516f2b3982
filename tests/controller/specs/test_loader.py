"""Claims about the child that reads specs, and about what becomes of its failures."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from conftest import raised, until

from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs import loader
from reconciler.controller.specs.loader import Loaded, Loader, Mistaken, reading_of
from reconciler.model.units import MILLISECOND_NS
from reconciler.model.value import PlainError, from_plain, replace
from reconciler.specfile.answering import answer_to

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.controller.specs.loader import Reading

GOOD = "watchers:\n  a:\n    cmd: sleep 1000\n    env: {WHO: '${env.WHO}'}\n"


class Desk:
    """A reactor with lanes, and a place for the answer."""

    def __init__(self) -> None:
        self.reactor = Reactor(raised)
        self.lanes = Lanes(self.reactor, lambda _, error: str(error))
        self.answers: list[Reading] = []

    def loader(self) -> Loader:
        return Loader(self.reactor, self.lanes)

    def wait(self) -> Reading:
        while not self.answers:
            self.reactor.wait(None)
        return self.answers[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_valid_spec_comes_back_with_its_files(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHO", "me")
    path = tmp_path / "a.yaml"
    path.write_text(GOOD)
    desk.loader().ask((str(path),), desk.answers.append)
    reading = desk.wait()
    assert isinstance(reading, Loaded)
    assert reading.spec.watchers["a"].env["WHO"] == "me"
    assert reading.files[str(path)].size == len(GOOD)


def test_mistakes_come_back_with_their_places(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("watchers:\n  a: {cmd: x, numproceses: 2}\n")
    desk.loader().ask((str(path),), desk.answers.append)
    reading = desk.wait()
    assert isinstance(reading, Mistaken)
    assert [(each.path, each.line) for each in reading.errors] == [(str(path), 2)]


def test_a_loader_that_is_killed_is_a_mistake_that_names_the_file(desk: Desk) -> None:
    child = desk.loader()
    os.kill(child._child._process.pid, signal.SIGSEGV)
    child.ask(("/specs/a.yaml",), desk.answers.append)
    reading = desk.wait()
    assert isinstance(reading, Mistaken)
    (error,) = reading.errors
    assert error.path == "/specs/a.yaml"
    assert "killed by SIGSEGV" in error.message


def test_a_loader_that_takes_too_long_is_stopped(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "WALL_LIMIT_NS", 10 * MILLISECOND_NS)
    path = tmp_path / "a.yaml"
    path.write_text(GOOD)
    child = desk.loader()
    os.kill(child._child._process.pid, signal.SIGSTOP)
    child.ask((str(path),), desk.answers.append)
    reading = desk.wait()
    assert isinstance(reading, Mistaken)
    assert "took longer" in reading.errors[0].message


def test_a_cancelled_loader_answers_nobody_and_leaves_no_process(
    desk: Desk, tmp_path: Path
) -> None:
    child = desk.loader()
    child.ask((str(tmp_path),), desk.answers.append)
    child.cancel()
    until(lambda: child._child._process.poll() is not None)
    desk.reactor.at("end", 0, lambda: None)
    desk.reactor.wait(0)
    assert desk.answers == []


def test_a_large_environment_fits_through_the_pipe(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        monkeypatch.setenv(f"LARGE{number}", "x" * 100_000)
    path = tmp_path / "a.yaml"
    path.write_text(GOOD.replace("WHO: '${env.WHO}'", "A: b"))
    desk.loader().ask((str(path),), desk.answers.append)
    assert isinstance(desk.wait(), Loaded)


@pytest.mark.parametrize(
    "answer", [None, [], {"files": {}}, {"spec": 5, "files": {}}, {"errors": 1}]
)
def test_an_answer_of_another_shape_is_an_error(answer: object) -> None:
    with pytest.raises(PlainError):
        reading_of(json.dumps(answer).encode())


def test_nobody_waits_for_a_child_that_cannot_die(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    loader = desk.loader()
    process, alive = loader._child._process, [True]
    real = process.poll
    process.poll = lambda: None if alive else real()  # type: ignore[method-assign]  # as in state D
    loader.ask((str(tmp_path / "a.yaml"),), desk.answers.append)
    begun = time.monotonic()
    loader._child._finish("took longer than 30s")
    reading = desk.wait()
    assert isinstance(reading, Mistaken)
    assert "took longer than" in reading.errors[0].message
    assert time.monotonic() - begun < 5
    assert desk.reactor._deadlines  # it is reaped when it can be
    alive.clear()
    while process.returncode is None:
        desk.reactor.wait(None)
    assert desk.reactor._deadlines == {}


def test_a_path_that_is_no_text_comes_back(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "\udc80"
    folder.mkdir()
    desk.loader().ask((str(folder),), desk.answers.append)
    reading = desk.wait()
    assert isinstance(reading, Mistaken)
    assert reading.errors[0].path == str(folder)
    assert "holds no *.yaml" in reading.errors[0].message


def test_an_answer_in_parts_is_what_it_is_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "apply: {quiet_period: 1s}\nsockets: {web: {listen: 127.0.0.1:8000}}\nx-mine: [1, {a: 2.5}]\n"
        f"{GOOD}    use_sockets: [web]\n    x-own: {{deep: [null]}}\n    stop: {{timeout: 3s}}\n"
        '  j: {cmd: "true", restart: never, schedule: {cron: "0 4 * * *", timezone: UTC}}\n'
    )
    answer = answer_to([str(path)], {"WHO": "me"})
    whole = from_plain(Loaded, answer)
    assert len(whole.spec.watchers) == 2
    assert reading_of(json.dumps(answer).encode()) == whole
    known = replace(whole.spec, watchers={**whole.spec.watchers, "j": whole.spec.watchers["a"]})
    again = reading_of(json.dumps(answer).encode(), known)
    assert again == whole
    assert again.spec.watchers["a"] is whole.spec.watchers["a"]


def test_watchers_have_in_common_what_is_equal_and_what_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("watchers:\n  a: {cmd: serve one}\n  b: {cmd: serve two, env: {A: b}}\n")
    reading = reading_of(json.dumps(answer_to([str(path)], {})).encode())
    assert isinstance(reading, Loaded)
    a, b = reading.spec.watchers["a"], reading.spec.watchers["b"]
    assert (a.labels, a.env, b.env) == ({}, {}, {"A": "b"})
    for one, other in ((a.labels, b.labels), (a.labels, a.secrets), (a.cmd[0], b.cmd[0])):
        assert one is other
    assert a.working_dir is b.working_dir
