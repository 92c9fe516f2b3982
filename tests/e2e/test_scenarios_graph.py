"""Many watchers that depend on each other start side by side, as far as their graph allows."""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.e2e.stage import Stage, stage

pytestmark = pytest.mark.e2e

WATCHERS, READY_S = int(os.environ.get("GRAPH", "100")), 0.1
"""GRAPH=500 in the environment takes half a minute, and wants a machine for itself."""


def graph() -> dict[str, list[str]]:
    """Return who depends on whom, at random: mostly on few, now and then on many."""
    luck, needs = random.Random(7), dict[str, list[str]]()
    for number in range(WATCHERS):
        known = list(needs)
        count = min(len(known), luck.choice((0, 1, 1, 2, 8)))
        needs[f"w{number}"] = luck.sample(known[-60:], min(count, len(known[-60:])))
    return needs


def text(needs: dict[str, list[str]]) -> str:
    lines = [
        "defaults: {cmd: sleep 600, ready: {delay: 100ms}, logs: {stdout: {to: devnull}}}",
        "watchers:",
    ]
    names = list(needs)
    random.Random(8).shuffle(names)  # the order of the file says nothing
    return "\n".join(
        [*lines, *(f"  {name}: {{depends_on: {json.dumps(needs[name])}}}" for name in names)]
    )


def times(it: Stage, kind: str) -> dict[str, float]:
    """Return when each watcher was started, or was ready, in seconds."""
    lines = it.run("events", "-o", "json", "-n", "5000").stdout.splitlines()
    found = (json.loads(line) for line in lines)
    return {each["watcher"]: each["time_ns"] / 1e9 for each in found if each["type"] == kind}


def took(needs: dict[str, list[str]]) -> tuple[float, dict[str, float], dict[str, float]]:
    """Start all, and return how long it took to the last start, and when each was started and ready."""
    with stage(text(needs)) as it:
        it.run("up", "-d", timeout_s=120)
        started, ready = times(it, "process.started"), times(it, "process.ready")
        it.run("shutdown", "--now")
    assert len(started) == WATCHERS
    return max(started.values()) - min(started.values()), started, ready


def test_a_graph_starts_in_the_time_of_its_longest_chain() -> None:
    needs = graph()
    depth: dict[str, int] = {}
    for name, others in needs.items():
        depth[name] = max((1 + depth[other] for other in others), default=0)
    critical = max(depth.values()) * READY_S
    spawning, *_ = took({name: [] for name in needs})
    whole, started, ready = took(needs)
    for name, others in needs.items():
        assert all(ready[other] <= started[name] for other in others)
    assert whole <= 1.2 * critical + spawning, (whole, critical, spawning)
