"""Each call to the system fails once: the n-th of each scenario, for every n until the scenario passes untouched.

After each failure the keeper lives, says which step failed, holds no descriptor and no child more than
before, does the same thing at the next attempt, and whatever else it holds has noticed nothing.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.keeper import rig as rig_module
from tests.keeper.failing import STATE, Failing
from tests.keeper.rig import ROOT, children_of, keeper, until
from tests.keeper.scenarios import SCENARIOS, UNTOLD_SCENARIOS, Patient

MOST: Final = 400
PROGRAM: Final = (
    "import os, sys; sys.path.insert(0, sys.argv.pop(1)); import tests.keeper.failing as f; "
    "f.install(os.environ['FAILING']); import reconciler.keeper.__main__ as m; sys.exit(m.main(sys.argv))"
)
SHORTAGES: Final = (errno.EMFILE, errno.EIO)
TAKES_OVER: Final = "a keeper takes over"
"""A keeper is started for each call of it, so it is done with one of the two errors."""


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    state = tmp_path / "failing"
    state.write_bytes(bytes(STATE.size))
    failing = Failing(str(state))
    failing.disarm()
    monkeypatch.setattr(rig_module, "KEEPER", PROGRAM)
    env = {"PATH": os.environ["PATH"], "FAILING": str(state), "PYTHONPATH": str(ROOT)}
    stderr = tmp_path / "stderr"
    with stderr.open("ab") as file, keeper(tmp_path, env=env, stderr=file) as rig:
        patient = Patient(rig, rig.link(), failing, stderr)
        patient.accompany()
        yield patient
        patient.feed.close()
        print(stderr.read_text())


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (name, number)
        for name in SCENARIOS
        for number in SHORTAGES
        if name != TAKES_OVER or number == errno.EMFILE
    ],
    ids=lambda value: errno.errorcode.get(value, value),
)
def test_whatever_fails_is_told_leaks_nothing_and_works_the_next_time(
    patient: Patient, name: str, number: int
) -> None:
    scenario = SCENARIOS[name]
    assert scenario(patient) == ""
    before, children = patient.descriptors(), len(children_of(patient.rig.pid))
    told = 0
    for successes in itertools.count():
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
        assert patient.rig.process.poll() is None, f"the keeper ended when {failed} failed"
        patient.check_bystander()
        if name != TAKES_OVER:  # the next turn is the next time
            assert scenario(patient) == "", f"after {failed} had failed"
        until(lambda: patient.descriptors() == before, f"no descriptor is left after {failed}")
        assert len(children_of(patient.rig.pid)) == children, f"a child is left after {failed}"
    assert successes > 2
    assert told > 1 or name in UNTOLD_SCENARIOS, "hardly a failure was told"
