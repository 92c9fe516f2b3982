"""Claims about what processes use: asked for once, and followed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from conftest import by_hand, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.api.methods import stats
from reconciler.controller.output.usage import Usage
from reconciler.core.template import run_hash
from reconciler.model.process import Memory, ProcessId, ProcessRecord, Running

if TYPE_CHECKING:
    from conftest import Instance

S = 10**9


def this_process(name: str, slot: int) -> ProcessRecord:
    """Return the record of a process that there is: this one."""
    running = Running(os.getpid(), time.monotonic_ns())
    return ProcessRecord(ProcessId(name, slot), slot, run_hash(service(), {}), Memory(), running)


def test_what_a_slot_uses_is_measured_when_asked_for(instance: Instance) -> None:
    instance.store(by_hand(web=service(), gone=service()))
    client = instance.start(PaperKeeper((this_process("web", 1),))).client()
    until(lambda: client.call("status")["watchers"][0]["slots"])
    (slot,) = client.call("stats", names=["web", "gone"])["slots"]
    assert (slot["watcher"], slot["slot"], slot["pid"]) == ("web", 1, os.getpid())
    assert slot["memory_bytes"] > 2**20
    assert slot["threads"] > 1
    assert slot["cpu_ns"] > 0
    assert client.call("stats", names=["gone"])["slots"] == []
    assert client.error("stats", names=["nothing"])[0] == "not_found"
    assert client.error("stats.follow", interval_ns=1)[0] == "invalid_request"


def test_a_stream_looks_again_and_again_and_finds_what_comes_later(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "usage_of", lambda pids: {pid: Usage(pid % 7, pid) for pid in pids})
    monkeypatch.setattr(stats, "MAX_SLOTS_SENT", 3)
    instance.store(by_hand(web=service(numprocesses=2)))
    client = instance.start().client()
    until(lambda: len(instance.keeper.spawned()) == 2)
    stream = client.call("stats.follow", interval_ns=S // 2)["stream"]
    first = client.next(stream)
    assert ({each["slot"] for each in first["slots"]}, first["left_out"]) == ({1, 2}, 0)
    client.call("scale", scale={"web": 5})
    until(lambda: len(instance.keeper.spawned()) == 5)
    item = client.next(stream)
    while len(item["slots"]) < 3:
        item = client.next(stream)
    used = [each["cpu_percent"] for each in item["slots"]]
    assert (used, item["left_out"]) == (sorted(used, reverse=True), 2)
    assert item["time_ns"] - first["time_ns"] > S // 4
    client.call("stream.cancel", stream=stream)
