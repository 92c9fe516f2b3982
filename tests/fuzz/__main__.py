"""`make fuzz`: FRAMES frames at a live control socket, then SPECS spec files; a line of figures for each."""

from __future__ import annotations

import argparse

from tests.fuzz import frames, specs

MAX_GROWTH_BYTES = 32 * 2**20
MAX_WAIT_S = 0.1


def main() -> int:
    """Return 0 when everything went on as if nothing had been sent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--specs", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    wrong = []
    if wanted.frames:
        sent = frames.run(wanted.frames, wanted.seed)
        print(sent, flush=True)
        if sent.growth_bytes > MAX_GROWTH_BYTES or sent.longest_stall_s > MAX_WAIT_S:
            wrong.append("frames")
    if wanted.specs:
        read = specs.run(wanted.specs, wanted.seed, wanted.jobs)
        print(read, flush=True)
        if read.growth_bytes > MAX_GROWTH_BYTES:
            wrong.append("specs")
    for what in wrong:
        print(f"{what}: beyond what is allowed: +32 MiB, or 100 ms until another client's answer")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
