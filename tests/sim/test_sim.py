from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.spec import ApplySpec, DaemonSpec, HookSpec, WatcherSpec
from tests.sim.__main__ import command_line, judged, minimal, noticed_by, play, verdict
from tests.sim.bugs import BUGS, planted
from tests.sim.checkers import INVARIANTS
from tests.sim.faults import FAULTS, Faults
from tests.sim.language import (
    ALL_USES,
    BASE,
    MEANINGLESS,
    PARTS,
    VALUES,
    all_fields,
    changed,
    default,
    kind_of,
    listener,
)
from tests.sim.world import World

SEEDS = 80
PARTS_OF_THEM = 2
SAME = 12
"""So many of each part are played by another process too."""
LEAST_USED = 0.9
"""Of all fields and orders, so much occurs in the histories of one part."""
ROOT = Path(__file__).parents[2]
SIM = (sys.executable, "-m", "tests.sim")

FOUND = {
    "a hook that has passed is not asked again while its slot waits for another": (
        6,
        "controller kills=0.05, keeper stalls=0.6, power losses=0.6",
    ),
    "the verdict of a hook whose leftovers live on is not taken for another start": (
        1223,
        "hook vetoes=0.6, hook leftovers=0.6, controller kills=0.2",
    ),
    "a socket is as old as its binding, though a change of it was refused and taken back": (
        9085,
        "shortages=0.05, slow hooks=0.6, keeper kills=0.6, slow link=0.05, taken ports=0.2, "
        "busy people=0.05",
    ),
    "who holds the former socket while another address is refused is left alone": (
        8367,
        "exits=0.6, survivors=0.05, hook vetoes=0.6, hook errors=0.05, hanging hooks=0.6, "
        "keeper kills=0.2, keeper stalls=0.2, slow link=0.6, slow disk=0.6, full disk=0.05, "
        "taken ports=0.6, busy people=0.05",
    ),
    "what is dropped in the same turn does not stand for a watcher that is started": (
        6621,
        "exits=0.2, unkillable=0.6, escaped survivors=0.6, exec errors=0.05, hanging hooks=0.6, "
        "controller kills=0.2, slow disk=0.6, power losses=0.05, taken ports=0.2, "
        "busy people=0.05, inherit_env=0.7, logs.max_size=0.7, apply.on_failure=0.7, "
        "limits.cpu=0.3, limits.data=0.3, limits.rtprio=0.3, limits.nice=0.3, "
        "limits.cpu_affinity=0.7, order resume=0.7, order signal=0.7",
    ),
    "a hook that had passed when it was to be killed has passed": (
        8588,
        "quick exits=0.6, ignored TERM=0.6, survivors=0.2, escaped survivors=0.05, fork road=0.6, "
        "hook vetoes=0.05, slow hooks=0.6, controller kills=0.6, torn frames=0.05, "
        "controller stalls=0.6, slow link=0.6, pauses=0.05, busy people=0.6, max_retry=0.7, "
        "hooks.after_signal=0.3, socket.blocking=0.3, limits.core=0.3, limits.nproc=0.3",
    ),
    "slots are replaced at their age one by one, though a restart once replaced all together": (
        10374,
        "quick exits=0.6, survivors=0.6, shortages=0.05, fork road=0.2, hook vetoes=0.2, "
        "hook errors=0.2, pauses=0.2, slow disk=0.05, working_dir=0.3, virtualenv=0.7, user=0.7, "
        "umask=0.7, autostart=0.3, max_restarts=0.7, stop.signal=0.7, stdin_socket=0.7, "
        "max_age=0.7, limits.nproc=0.7, limits.nice=0.3",
    ),
}
"""Histories that once broke an invariant, with the faults that it took."""


@pytest.mark.parametrize("part", range(PARTS_OF_THEM))
def test_every_history_holds_its_invariants(part: int) -> None:
    """And is the same one whatever the hash seed."""
    first = part * (SEEDS // PARTS_OF_THEM)
    seeds = range(first, first + SEEDS // PARTS_OF_THEM)
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    elsewhere = subprocess.Popen(
        [*SIM, "--digests", "--start", str(first), "--seeds", str(SAME)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    played = {seed: judged(seed) for seed in seeds}
    digests = elsewhere.communicate()[0].split()
    wrong = {seed: found.wrong for seed, found in played.items() if found.wrong}
    assert not wrong, "\n".join(f"{command_line(s, None)}: {said}" for s, said in wrong.items())
    # Nobody can notice a bug in what nobody uses.
    occurred = set().union(*(found.used for found in played.values()))
    assert len(occurred) >= LEAST_USED * len(ALL_USES), f"never used: {sorted(ALL_USES - occurred)}"
    assert digests == [f"{played[seed].digest:08x}" for seed in seeds[:SAME]]


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_mended(name: str) -> None:
    seed, faults = FOUND[name]
    assert not verdict(seed, Faults.parse(faults))


def test_a_seed_is_a_history_and_another_is_another() -> None:
    assert play(3).digest == play(3).digest
    assert play(3).digest != play(4).digest


def test_every_fault_is_some_seeds_own_and_no_seed_has_them_all() -> None:
    own = [World(seed).faults.strength for seed in range(100)]
    assert {name for faults in own for name in faults} == set(FAULTS)
    assert max(map(len, own)) < len(FAULTS)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    known, faults = BUGS[name].seed, BUGS[name].faults
    with planted(name):
        # `python -m tests.sim --bugs` tells the seeds to write down when histories have become others.
        assert noticed_by(known, faults) or any(map(verdict, range(100))), (
            f"seed {known} does not notice: {name}"
        )


def test_every_field_is_made_use_of_or_has_a_reason() -> None:
    spoken = {path.partition(":")[0] for path in VALUES} | BASE | PARTS
    assert spoken.isdisjoint(MEANINGLESS)
    assert {*all_fields()} == spoken | MEANINGLESS.keys()


def test_a_value_of_a_field_is_one_that_the_model_takes() -> None:
    rng = random.Random(1)
    wholes = {"watcher": WatcherSpec(cmd=("x",)), "hook": HookSpec(cmd=("x",))}
    wholes |= {"socket": listener(1), "apply": ApplySpec(), "daemon": DaemonSpec()}
    for path, make in VALUES.items():
        kind = kind_of(path)
        value = next(
            v for v in (make(rng) for _ in range(100)) if kind != "watcher" or v != default(path)
        )
        inner = path if kind == "watcher" else path.partition(".")[2]
        spec = changed(wholes[kind], inner, value)
        assert type(wholes[kind])(**{n: getattr(spec, n) for n in spec.__struct_fields__}) == spec


def test_a_failing_seed_keeps_only_the_faults_that_it_takes() -> None:
    with planted("every run succeeds"):
        seed = BUGS["every run succeeds"].seed
        faults = minimal(seed)
        assert verdict(seed, faults)
        assert len(faults.strength) < len(World(seed).faults.strength)
        assert Faults.parse(str(faults)) == faults
        assert all(not verdict(seed, faults.without(name)) for name in faults.strength)


def test_every_invariant_has_a_judge_or_says_who_judges_it() -> None:
    assert list(INVARIANTS) == [f"I{number}" for number in range(1, 32)]
    for place in INVARIANTS.values():
        path = place.partition(":")[0]
        assert not path.startswith("tests/") or (ROOT / path).exists(), path
