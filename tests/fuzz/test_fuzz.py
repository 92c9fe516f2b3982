"""The short form of `make fuzz` for spec files; that for frames is row S13, tests/e2e/test_faults_control.py."""

from __future__ import annotations

from tests.fuzz import specs
from tests.fuzz.__main__ import MAX_GROWTH_BYTES


def test_spec_files_that_make_no_sense_are_refused_with_reasons() -> None:
    found = specs.run(files=600, seed=20, jobs=2)
    assert found.mistakes > 300
    assert found.accepted > 20
    assert found.growth_bytes < MAX_GROWTH_BYTES
