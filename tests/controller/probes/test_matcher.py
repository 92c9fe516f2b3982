"""Lines are found from where a life began, whatever becomes of the file, and no pattern takes for ever."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from servers import Desk

from reconciler.controller.probes import matcher
from reconciler.controller.probes.matcher import MAX_LINE_BYTES, PIECE_BYTES, Matcher
from reconciler.model.action import Probe
from reconciler.model.probe import LogTarget, Probing
from reconciler.model.process import LogPlace, ProcessId
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S


@pytest.fixture(autouse=True)
def _timer() -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, matcher._too_slow)
    yield
    signal.signal(signal.SIGVTALRM, before)


class Seeker:
    """One pattern in one log, at instants that we choose."""

    def __init__(self, log: Path, pattern: str = "^ready", offset: int = 0) -> None:
        self.told: list[tuple[bool, str]] = []
        self.log, self.now = log, 0
        self._matcher = Matcher(lambda _, found, text: self.told.append((found, text)))
        inode = log.stat().st_ino if log.exists() else 0
        places = [[str(log), inode, offset]]
        self._matcher.take({"ask": "a", "pattern": pattern, "places": places, "interval_ns": S})

    def write(self, text: str) -> Seeker:
        with self.log.open("a") as file:
            file.write(text)
        return self

    def look(self) -> Seeker:
        """Look as often as there is more to see at once."""
        while self._matcher.look(self.now) == self.now:
            pass
        self.now += S
        return self

    @property
    def line(self) -> str | None:
        return self.told[-1][1] if self.told and self.told[-1][0] else None


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


def test_a_line_is_found_once_it_is_whole(log: Path) -> None:
    seeker = Seeker(log).look().write("starting\nready to ser").look()
    assert seeker.told == [(False, "no line matches yet")]
    assert seeker.write("ve\nmore\n").look().line == "ready to serve"
    assert seeker.write("ready again\n").look().line == "ready to serve"


def test_what_an_earlier_life_has_written_does_not_count(log: Path) -> None:
    log.write_text("ready one\n")
    seeker = Seeker(log, offset=log.stat().st_size).look()
    assert seeker.line is None
    assert seeker.write("ready two\n").look().line == "ready two"


def test_it_is_found_in_a_file_that_was_rotated_meanwhile(log: Path) -> None:
    log.write_text("ready one\n")
    seeker = Seeker(log, offset=log.stat().st_size).look().write("starting\nready two\n")
    log.rename(log.with_name("web.log.1"))
    log.write_text("later\n")
    assert seeker.look().line == "ready two"


def test_it_is_found_in_the_file_that_came_after_a_rotation(log: Path) -> None:
    seeker = Seeker(log).write("starting\n").look()
    log.rename(log.with_name("web.log.1"))
    assert seeker.look().write("ready\n").look().line == "ready"


def test_it_is_found_behind_much_that_does_not_match(log: Path) -> None:
    seeker = Seeker(log).write(("x" * 99 + "\n") * (3 * PIECE_BYTES // 100) + "ready\n")
    assert seeker.look().line == "ready"


def test_of_a_long_line_the_beginning_is_looked_at(log: Path) -> None:
    seeker = Seeker(log, "ready|end$").write("x" * MAX_LINE_BYTES + "end\n").look()
    assert seeker.line is None
    assert seeker.write("ready" + "x" * 3 * PIECE_BYTES + "\n").look().line is not None


def test_a_pattern_that_takes_for_ever_on_a_line_is_told_and_goes_on_with_the_next(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "MATCH_S", 0.02)
    seeker = Seeker(log, r"^(a|a)*$|ready").write("a" * 64 + "b\n").look()
    assert seeker.told[-1] == (False, "the pattern takes too long on one of the lines")
    assert seeker.write("ready\n").look().line == "ready"


def test_a_process_of_its_own_looks_and_is_started_again_when_it_dies(log: Path) -> None:
    desk = Desk()
    lines = desk.prober._log_lines
    log.write_text("starting\n")
    target = LogTarget("^ready", (LogPlace(str(log), log.stat().st_ino, 0),))
    id = ProcessId("web", 1, "ready")
    desk.prober.ask(Probe(id, 1, Probing(target, 0, 20 * MS, S, 1, 1)))
    desk.until(lambda: desk.told)
    assert desk.told[0].message == "log '^ready': no line matches yet"
    assert lines._process is not None
    first = lines._process.pid
    os.kill(first, signal.SIGKILL)
    with log.open("a") as file:
        file.write("ready\n")
    desk.until(lambda: desk.told[-1].passed)
    assert desk.told[-1].message == "log '^ready': 'ready'"
    assert lines._process.pid != first
    last = lines._process
    desk.prober.drop(id)
    desk.until(lambda: last.returncode is not None)
    assert lines._process is None
