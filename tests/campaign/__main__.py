"""Runs campaigns and prints what they cost: `python -m tests.campaign --controller 1000 --keeper 200`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.campaign.arena import Arena
from tests.campaign.arena import arena as arena_of
from tests.campaign.counting import (
    Doubles,
    Losses,
    check_births,
    check_children,
    check_lines,
    check_nothing_is_left,
    check_runs,
    check_who_lives,
)
from tests.campaign.kinds import KINDS, keeper_of
from tests.e2e.stage import stage, until

LONGEST_WAIT_S = 0.8
SETTLE_EVERY = 10
COLUMNS = {
    "campaign": 11, "times": 6, "seconds": 8, "processes": 10, "log lines": 10, "connections": 12,
    "doubled": 8, "lost": 5, "wrong": 6, "lines -": 8, "lines +": 8, "refused": 8, "jobs twice": 11, "strays": 7,
    "unknown": 8, "unread": 7,
}  # fmt: skip


def campaign(kind: str, times: int, seed: int) -> Losses:
    """Do one thing to the manager again and again under load, and return what that cost."""
    losses = Losses(times=times)
    with stage("") as it:
        arena = arena_of(it, seed)
        arena.keeper = keeper_of(it)
        doubles = Doubles(it)
        doubles.start()
        for turn in range(1, times + 1):
            arena.disturb()
            # At a random moment of the reading, applying, starting and stopping that follows.
            doubles.over.wait(arena.rng.uniform(0, LONGEST_WAIT_S))
            KINDS[kind](arena)
            if turn % SETTLE_EVERY == 0 or turn == times:
                arena.settle()
                check_who_lives(arena, losses)
                check_children(arena, losses)
        check_births(arena, losses)
        check_runs(arena, losses)
        _end(arena, doubles, losses)
    return losses


def _end(arena: Arena, doubles: Doubles, losses: Losses) -> None:
    """End clients and instance in order, then count what they leave."""
    for thread in (arena.client, doubles):
        thread.over.set()
        thread.join(30)
    losses.connections = arena.client.answered
    losses.note("refused", len(arena.client.failed), arena.client.failed[:3])
    losses.note("doubled", len(doubles.found), doubles.found)
    arena.it.run("shutdown", code=None)
    until(lambda: not arena.it.marked(), "everything has ended")
    check_nothing_is_left(arena, losses)
    losses.processes = sum(each.what == "start" for each in arena.truth())
    check_lines(arena, losses)


def row(kind: str, took_s: float, it: Losses) -> list[object]:
    """Return a campaign's line of the table."""
    return [
        kind, it.times, round(took_s), it.processes, it.lines, it.connections, it.doubled, it.lost, it.wrong,
        it.missing_lines, it.doubled_lines, it.refused, it.fired_twice, it.strays, it.unknown, it.unread,
    ]  # fmt: skip


def show(cells: list[object]) -> None:
    """Print a line of the table."""
    print(
        "".join(f"{cell!s:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)),
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign")
    for kind, what in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="TIMES", help=what.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    show(list(COLUMNS))
    is_clean = True
    for kind in KINDS:
        if times := getattr(asked, kind):
            began = time.monotonic()
            losses = campaign(kind, times, asked.seed)
            show(row(kind, time.monotonic() - began, losses))
            for detail in losses.details:
                print(f"  {detail:.400}", flush=True)
            is_clean &= losses.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
