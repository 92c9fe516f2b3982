"""Plays seeds: `python -m tests.sim --seeds 10000`, or one again: `python -m tests.sim --seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.sim.checkers import Checkers
from tests.sim.world import World


def play(seed: int, *, tracing: bool = False) -> World:
    """Play one history to its end. Raises `AssertionError` where it breaks an invariant."""
    world = World(seed, tracing=tracing)
    checkers = Checkers(world)
    try:
        world.run()
        checkers.end()
    except Exception as error:
        error.add_note(f"python -m tests.sim --seed {seed} --trace")
        if tracing:
            print("\n".join(world.lines[-4000:]))
        raise
    return world


def verdict(seed: int) -> str:
    """Return what is wrong with a seed, or nothing."""
    try:
        play(seed)
    except Exception as error:  # whatever it is, the seed is told
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({last.name})"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    asked = parser.parse_args()
    if asked.seed is not None:
        world = play(asked.seed, tracing=asked.trace)
        print("\n".join(line for line in world.lines if line))
        print(f"seed {asked.seed}: all invariants hold, trace {world.digest:08x}")
        return 0
    begun, failed = time.monotonic(), 0
    seeds = range(asked.start, asked.start + asked.seeds)
    with ProcessPoolExecutor(asked.jobs) as pool:
        for seed, wrong in zip(seeds, pool.map(verdict, seeds, chunksize=20), strict=True):
            if wrong:
                failed += 1
                print(
                    f"seed {seed}: {wrong}\n  python -m tests.sim --seed {seed} --trace", flush=True
                )
    took = time.monotonic() - begun
    print(
        f"{asked.seeds - failed} passed, {failed} failed, {asked.seeds / took:.0f} seeds a second"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
