"""The short forms of `make fuzz`: the same code, another seed each for frames and specs, a few seconds."""

from __future__ import annotations

import pytest

from tests.fuzz import frames, specs
from tests.fuzz.__main__ import MAX_GROWTH_BYTES, MAX_WAIT_S


@pytest.mark.e2e
def test_frames_that_make_no_sense_disturb_nobody() -> None:
    found = frames.run(frames=12_000, seed=20)
    assert found.answers > 500
    assert found.growth_bytes < MAX_GROWTH_BYTES
    assert found.longest_work_s < MAX_WAIT_S, found


def test_spec_files_that_make_no_sense_are_refused_with_reasons() -> None:
    found = specs.run(files=600, seed=20, jobs=2)
    assert found.mistakes > 300
    assert found.accepted > 20
    assert found.growth_bytes < MAX_GROWTH_BYTES
