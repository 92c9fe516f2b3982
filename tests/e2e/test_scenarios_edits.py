"""Scenario 4: a saved edit touches what it changes, and nothing else."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.e2e.stage import ROOT, Stage, born_ticks, environ_of, is_alive, stage, until

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/04-edits"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def pids(it: Stage, name: str, slots: int) -> dict[int, int]:
    """Return the pids once there are as many as desired and all is settled."""
    until(lambda: len(it.pids(name)) == slots, f"{name} has {slots}", show=lambda: it.pids(name))
    it.settle()
    return it.pids(name)


def test_another_number_of_processes_starts_or_stops_the_difference() -> None:
    with stage(EXAMPLE) as it:
        it.up()
        two, api = it.pids("web"), it.pids("api")
        it.edit("numprocesses: 2", "numprocesses: 4")
        four = pids(it, "web", 4)
        assert {slot: four[slot] for slot in (1, 2)} == two
        it.edit("numprocesses: 4", "numprocesses: 1")
        assert pids(it, "web", 1) == {1: two[1]}
        assert not [pid for slot, pid in four.items() if slot > 1 and is_alive(pid)]
        assert it.pids("api") == api
        assert [it.log("web", slot).count("works") for slot in (1, 2, 3, 4)] == [1, 1, 1, 1]
        assert {w["name"]: w["restarts"] for w in it.status()["watchers"]} == {"web": 0, "api": 0}


def test_c14_another_environment_rolls_that_watcher_one_by_one() -> None:
    with stage(EXAMPLE) as it:
        it.up()
        web, before = it.pids("web"), it.pids("api")
        it.edit("      LEVEL: info", "      LEVEL: debug")
        alive = []

        def rolled() -> bool:
            alive.append(sum(is_alive(pid) for pid in before.values()))
            now = it.pids("api")
            return len(now) == 3 and not set(now.values()) & set(before.values())

        until(rolled, "api is replaced")
        it.settle()
        after = it.pids("api")
        assert {environ_of(pid)["LEVEL"] for pid in after.values()} == {"debug"}
        # One by one: never did two of the old ones go between two looks, and the new ones lived first.
        assert {3, 2, 1} <= set(alive)
        births = sorted(born_ticks(pid) or 0 for pid in after.values())
        assert all(b - a >= 0.9 * TICKS_A_SECOND for a, b in itertools.pairwise(births)), births
        assert it.pids("web") == web
        assert [it.log("api", slot).count("works") for slot in (1, 2, 3)] == [2, 2, 2]


def test_c15_a_comment_changes_nothing() -> None:
    with stage(EXAMPLE) as it:
        it.up()
        before, revision = (it.pids("web"), it.pids("api")), it.status()["revision"]
        it.edit("this comment", "another comment")
        assert it.run("plan").stdout == "nothing to do\n"
        # An edit after it that does change something: once that is applied, the comment was, too.
        it.edit("numprocesses: 2", "numprocesses: 3")
        web = pids(it, "web", 3)
        assert ({slot: web[slot] for slot in (1, 2)}, it.pids("api")) == before
        assert it.status()["revision"] > revision
        it.edit("another comment", "a third one")
        it.run("apply", "--yes")
        assert (it.pids("web"), it.pids("api")) == (web, before[1])
        assert it.log("web", 1).count("works") == 1
