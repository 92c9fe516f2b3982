"""Each call to the system fails once: the n-th of each scenario, for every n until the scenario passes untouched.

After each failure the keeper lives, says which step failed, holds no descriptor and no child more than
before, and does the same thing at the next attempt.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from reconciler.model.action import Bind, Forget, Signal, Spawn, Unbind
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.process import (
    CaptureSink,
    Exited,
    FileSink,
    Launch,
    ProcessId,
    Running,
    Sink,
)
from reconciler.model.socket import BindRefused, Bound, SocketTemplate
from tests.keeper import rig as rig_module
from tests.keeper.failing import STATE, Failing
from tests.keeper.rig import ROOT, Link, Rig, children_of, keeper, until

WEB: Final = ProcessId("web", 1)
MOST: Final = 400
PROGRAM: Final = (
    "import os, sys; sys.path.insert(0, sys.argv.pop(1)); import tests.keeper.failing as f; "
    "f.install(os.environ['FAILING']); import reconciler.keeper.__main__ as m; sys.exit(m.main(sys.argv))"
)
UNTOLD: Final = 127
"""How a child exits that never became its program."""
SHORTAGES: Final = (errno.EMFILE, errno.EIO)


@dataclass
class Patient:
    """A keeper whose calls can be made to fail."""

    rig: Rig
    link: Link
    failing: Failing

    def descriptors(self) -> list[str]:
        """Return what the keeper holds open, but for the journal: when that fails it is opened anew later."""
        folder, found = f"/proc/{self.rig.pid}/fd", []
        for number in os.listdir(folder):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{folder}/{number}"))
        return sorted(each for each in found if not each.endswith("keeper.journal"))

    def sink(self, name: str = "out") -> FileSink:
        return FileSink(str(self.rig.folder / name))


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    state = tmp_path / "failing"
    state.write_bytes(bytes(STATE.size))
    failing = Failing(str(state))
    failing.disarm()
    monkeypatch.setattr(rig_module, "KEEPER", PROGRAM)
    env = {"PATH": os.environ["PATH"], "FAILING": str(state), "PYTHONPATH": str(ROOT)}
    with keeper(tmp_path, env=env) as rig:
        yield Patient(rig, rig.link(), failing)


Scenario = Callable[[Patient], str]
"""Does something and undoes it; returns the step that failed, nothing when all went well."""


def ended(it: Patient, before: int) -> bool:
    """Bring a process to its end, whatever has become of it, and forget it."""
    record = it.link.records[WEB]
    if not isinstance(record.phase, Exited):
        it.link.send(Signal(WEB, record.incarnation, "KILL", "tree"))
        it.link.wait(lambda: isinstance(it.link.records[WEB].phase, Exited))
    it.link.wait(lambda: not it.link.records[WEB].phase.survivors)  # type: ignore[union-attr]  # it has ended
    it.link.send(Forget(WEB, record.incarnation))
    it.link.wait(lambda: WEB not in it.link.records)
    return True


def spawned(it: Patient, launch: Launch) -> str:
    """Start a process and end it."""
    it.link.send(Spawn(WEB, launch))

    def settled() -> str | None:
        phase = it.link.records[WEB].phase if WEB in it.link.records else None
        if isinstance(phase, Running):
            return "runs"
        if isinstance(phase, Exited):
            if phase.exit.code == UNTOLD:
                return "untold"
            assert phase.exit.error is not None, phase
            assert phase.exit.error.step and phase.exit.error.errno and phase.exit.error.message
            return phase.exit.error.step
        return None

    step = it.link.wait(settled)
    ended(it, 0)
    return "" if step == "runs" else step


def bound(it: Patient, template: SocketTemplate) -> str:
    """Bind a socket and close it."""
    it.link.send(Bind("http", template))

    def settled() -> str | None:
        phase = it.link.sockets["http"].phase if "http" in it.link.sockets else None
        if isinstance(phase, BindRefused):
            assert phase.message.startswith(f"cannot bind {template.address}: ")
            return phase.errno
        return "bound" if isinstance(phase, Bound) else None

    step = it.link.wait(settled)
    it.link.send(Unbind("http"))
    it.link.wait(lambda: "http" not in it.link.sockets)
    return "" if step == "bound" else step


def plainly(it: Patient) -> str:
    return spawned(it, Launch(("sleep", "1000"), stdout=it.sink(), stderr=it.sink("err")))


def by_fork(it: Patient) -> str:
    launch = Launch(
        ("sleep", "1000"), nice=1, limits={"core": (0, 0)}, working_dir="/", stdout=it.sink()
    )
    return spawned(it, launch)


def captured(it: Patient) -> str:
    sink: Sink = CaptureSink(str(it.rig.folder / "hook"))
    return spawned(it, Launch(("sleep", "1000"), stdout=sink))


def internet(it: Patient) -> str:
    return bound(it, SocketTemplate(InternetAddress("127.0.0.1", 0), reuseport=True))


def unix(it: Patient) -> str:
    path = str(it.rig.folder / "s.sock")
    return bound(it, SocketTemplate(UnixAddress(path), mode=0o600, owner=os.getuid()))


SCENARIOS: Final[dict[str, Scenario]] = {
    "a process is spawned": plainly,
    "a process is forked": by_fork,
    "a hook is spawned": captured,
    "an internet socket is bound": internet,
    "a unix socket is bound": unix,
}


@pytest.mark.parametrize("number", SHORTAGES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_is_told_leaks_nothing_and_works_the_next_time(
    patient: Patient, name: str, number: int
) -> None:
    scenario = SCENARIOS[name]
    assert scenario(patient) == ""
    before, children = patient.descriptors(), children_of(patient.rig.pid)
    told = 0
    for successes in itertools.count():
        assert successes < MOST, "the scenario makes calls without end"
        patient.failing.arm(successes, number)
        step = scenario(patient)
        failed = patient.failing.disarm()
        if not failed:
            assert step == ""
            break
        told += step != ""
        # The child's last word about itself is a write, and nobody is left to tell of that one.
        assert step != "untold" or failed == "os.write"
        assert patient.rig.process.poll() is None, f"the keeper ended when {failed} failed"
        assert scenario(patient) == "", f"after {failed} had failed"
        until(lambda: patient.descriptors() == before, f"no descriptor is left after {failed}")
        assert children_of(patient.rig.pid) == children, f"a child is left after {failed}"
    assert successes > 5
    assert told > 2, "hardly a failure was told"
