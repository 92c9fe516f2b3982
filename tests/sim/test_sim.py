from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.__main__ import play, verdict
from tests.sim.bugs import BUGS, planted

SEEDS = 2000
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_every_history_holds_its_invariants(part: int) -> None:
    size = SEEDS // PARTS
    wrong = {
        seed: said for seed in range(part * size, (part + 1) * size) if (said := verdict(seed))
    }
    assert not wrong, "\n".join(
        f"python -m tests.sim --seed {s} --trace: {said}" for s, said in wrong.items()
    )


def test_a_history_is_the_same_whatever_the_hash_seed() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", "11"],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for hash_seed in (1, 2)
    ]
    assert said[0] == said[1]


def test_a_seed_is_a_history_and_another_is_another() -> None:
    assert play(3).digest == play(3).digest
    assert play(3).digest != play(4).digest


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        assert any(verdict(seed) for seed in range(400)), f"nobody notices: {name}"
