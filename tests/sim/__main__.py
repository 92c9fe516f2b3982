"""Plays seeds: `python -m tests.sim --seeds 10000`, or one again: `python -m tests.sim --seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.sim.bugs import BUGS, planted
from tests.sim.checkers import Checkers
from tests.sim.faults import FAULTS, Faults
from tests.sim.language import ALL_USES
from tests.sim.world import World


def play(seed: int, *, faults: Faults | None = None, tracing: bool = False) -> World:
    """Play one history to its end. Raises `AssertionError` where it breaks an invariant."""
    world = World(seed, faults=faults, tracing=tracing)
    checkers = Checkers(world)
    try:
        world.run()
        checkers.end()
    except Exception as error:
        error.add_note(command_line(seed, faults))
        if tracing:
            print("\n".join(world.lines[-4000:]))
        raise
    return world


def verdict(seed: int, faults: Faults | None = None) -> str:
    """Return what is wrong with a seed, or nothing."""
    return judged(seed, faults).wrong


class Judged(NamedTuple):
    """What is wrong with a seed, or nothing; which fields and orders occurred in its history, and its digest."""

    wrong: str
    used: frozenset[str] = frozenset()
    digest: int = 0
    """A number that is another one when anything in the history is."""


def judged(seed: int, faults: Faults | None = None) -> Judged:
    """Play a seed and judge its history."""
    try:
        world = play(seed, faults=faults)
    except Exception as error:  # whatever it is, the seed is told
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Judged(f"{type(error).__name__}: {error} ({last.name})")
    return Judged("", frozenset(world.people.occurred), world.digest)


def noticed_by(seed: int, faults: str = "") -> str:
    """Return what is wrong with a seed: with some faults, with its own, or with those without what came last."""
    if faults:
        return verdict(seed, Faults.parse(faults))
    return verdict(seed, World(seed).faults.plain) or verdict(seed)


def minimal(seed: int) -> Faults:
    """Return the faults without which a failing seed no longer fails, by leaving out one after the other."""
    faults = World(seed).faults
    while True:
        fewer = (faults.without(name) for name in faults.strength)
        failing = next((each for each in fewer if verdict(seed, each)), None)
        if failing is None:
            return faults
        faults = failing


def command_line(seed: int, faults: Faults | None) -> str:
    """Return how to play a seed again."""
    chosen = "" if faults is None else f" --faults '{faults}'"
    return f"python -m tests.sim --seed {seed}{chosen} --trace"


def noticed(name: str) -> str:
    """Return which seed notices a planted bug first."""
    with planted(name):
        found = next(((seed, said) for seed in range(2000) if (said := noticed_by(seed))), None)
    return f"{name}: {'nobody notices' if found is None else 'seed {}, {}'.format(*found)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--digests", action="store_true", help="say only what the histories were")
    parser.add_argument("--bugs", action="store_true", help="say which seeds notice planted bugs")
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--faults", type=Faults.parse, help=f"instead of its own: {list(FAULTS)}")
    parser.add_argument("--trace", action="store_true")
    asked = parser.parse_args()
    if asked.seed is not None:
        return play_one(asked.seed, asked.faults, tracing=asked.trace)
    if asked.bugs:
        with ProcessPoolExecutor(asked.jobs) as pool:
            for said in pool.map(noticed, BUGS):
                print(said, flush=True)
        return 0
    seeds = range(asked.start, asked.start + asked.seeds)
    if asked.digests:
        print(*(f"{play(seed).digest:08x}" for seed in seeds), sep="\n")
        return 0
    return play_all(seeds, asked.jobs)


def play_one(seed: int, faults: Faults | None, *, tracing: bool) -> int:
    world = play(seed, faults=faults, tracing=tracing)
    print("\n".join(line for line in world.lines if line))
    print(f"seed {seed}: all invariants hold, trace {world.digest:08x}")
    return 0


def play_all(seeds: range, jobs: int) -> int:
    begun, failed, occurred = time.monotonic(), 0, set[str]()
    with ProcessPoolExecutor(jobs) as pool:
        for seed, found in zip(seeds, pool.map(judged, seeds, chunksize=20), strict=True):
            occurred |= found.used
            if found.wrong:
                failed += 1
                print(
                    f"seed {seed}: {found.wrong}\n  {command_line(seed, minimal(seed))}", flush=True
                )
    took = time.monotonic() - begun
    print(f"{len(seeds) - failed} passed, {failed} failed, {len(seeds) / took:.0f} seeds a second")
    print(f"{len(occurred)} of {len(ALL_USES)} fields and orders occurred")
    if len(seeds) >= 100 and (never := ALL_USES - occurred):
        print(f"never: {', '.join(sorted(never))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
