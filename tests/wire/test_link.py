"""The framing of the link: any split, every message, and bytes that are none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.action import (
    Adjust,
    Bind,
    EndOrphans,
    Forget,
    KeeperAction,
    Notify,
    Quit,
    Remember,
    ShutDown,
    Signal,
    Spawn,
    Unbind,
)
from reconciler.model.address import InternetAddress, UnixAddress
from reconciler.model.observation import (
    HeartbeatAsked,
    KeeperIntroduced,
    KeeperObservation,
    LogChanged,
    LogRotated,
    OrphansChanged,
    RecordChanged,
    RecordForgotten,
    SignalReceived,
    SnapshotEnded,
    SocketChanged,
    SocketClosed,
)
from reconciler.model.process import (
    CaptureSink,
    Exit,
    Exited,
    FileSink,
    Launch,
    LaunchError,
    ManagerSink,
    Memory,
    NullSink,
    Orphan,
    ProcessId,
    ProcessRecord,
    Running,
    Settings,
    Starting,
    Survivor,
)
from reconciler.model.socket import BindRefused, Bound, SocketRecord, SocketTemplate
from reconciler.wire.link import MAX_FRAME_BYTES, LinkDecoder, ProtocolError, encode

WEB = ProcessId("web", 2, "before_start")
LAUNCH = Launch(
    ("python", "-m", "app"),
    env={"A": "ä", "B": ""},
    inherit_env=("LANG",),
    path_prefix=("/venv/bin",),
    working_dir="/srv",
    umask=0o27,
    user=33,
    group="www-data",
    limits={"nofile": (10, None), "core": (0, 0)},
    nice=-5,
    cpu_affinity=(0, 3),
    oom_score_adj=100,
    sockets=("http", "api.2"),
    stdin_socket="http",
    stdout=FileSink("/log/web", timestamps=True, compress=True),
    stderr=ManagerSink("web: "),
    scope="group",
)
TEMPLATE = SocketTemplate(InternetAddress("::1", 80), ipv6_only=True, owner="www", mode=0o660)
ACTIONS: tuple[KeeperAction, ...] = (
    Spawn(WEB, LAUNCH, "hash", Memory(attempt=3, deaths_ns=(1, 2), stopping_since_ns=0)),
    Spawn(ProcessId("db", 1), Launch(("db",), inherit_env=True)),
    Signal(WEB, 7, "RTMIN+3", "tree"),
    Remember(WEB, 7, Memory(after_spawn_passed=True, killed_at_ns=9)),
    Forget(WEB, 7),
    Adjust(WEB, 7, Settings("group", "all", "INT", 5, NullSink(), CaptureSink("/log/hook", 100))),
    Adjust(WEB, 7, Settings(stdout=FileSink("/log/web"))),
    EndOrphans("TERM"),
    Bind("http", TEMPLATE),
    Bind("unix", SocketTemplate(UnixAddress("/run/a.sock"), "seqpacket")),
    Unbind("http"),
    ShutDown(7, now=True),
    Quit(1),
    Notify("READY=1\nSTATUS=all as desired"),
)
EVENTS: tuple[KeeperObservation, ...] = (
    KeeperIntroduced("k", "b", 1, 2, "session"),
    SnapshotEnded(),
    RecordChanged(ProcessRecord(WEB, 1, "hash", Memory(), Starting(5, 6))),
    RecordChanged(ProcessRecord(WEB, 1, "hash", Memory(), Running(5, 6))),
    RecordChanged(
        ProcessRecord(
            WEB,
            1,
            "hash",
            Memory(),
            Exited(
                9, Exit(signal="SEGV", core=True), 5, 6, (Survivor(7, "nginx"),), b"\xff\0", 3, 4
            ),
        )
    ),
    RecordChanged(
        ProcessRecord(
            WEB, 1, "", Memory(), Exited(9, Exit(error=LaunchError("exec", "ENOENT", "/x", "no")))
        )
    ),
    OrphansChanged((Orphan(8, "redis-server", (WEB,)),)),
    RecordForgotten(WEB),
    SocketChanged(SocketRecord("http", TEMPLATE, Bound("[::1]:80", 4))),
    SocketChanged(SocketRecord("http", TEMPLATE, BindRefused("EACCES", "no", 4, 2), TEMPLATE)),
    SocketClosed("http"),
    LogRotated("/log/web.log"),
    LogChanged(WEB, "/log/web.log", "no space left on device"),
    SignalReceived("stop_now"),
    SignalReceived("stop", 7),
    HeartbeatAsked(),
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, 3000), max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_split_of_the_bytes_gives_the_same_actions(cuts: list[int]) -> None:
    decoder = LinkDecoder()
    data = b"".join(map(encode, ACTIONS))
    found = [action for part in split(data, cuts) for action in decoder.actions(part)]
    assert tuple(found) == ACTIONS


@given(st.lists(st.integers(0, 3000), max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_split_of_the_bytes_gives_the_same_events(cuts: list[int]) -> None:
    decoder = LinkDecoder()
    data = b"".join(map(encode, EVENTS))
    found = [
        observation for part in split(data, cuts) for observation in decoder.observations(part)
    ]
    assert tuple(found) == EVENTS


@pytest.mark.parametrize("missing", [1, 2, 20])
def test_a_torn_tail_gives_all_that_came_before_it(missing: int) -> None:
    data = b"".join(map(encode, ACTIONS[:2]))
    assert LinkDecoder().actions(data[:-missing]) == [ACTIONS[0]]


def test_an_absurd_length_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(ProtocolError, match="claims"):
        LinkDecoder().frames((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@given(st.binary(max_size=200))
def test_random_bytes_are_actions_or_a_protocol_error(payload: bytes) -> None:
    try:
        LinkDecoder().actions(len(payload).to_bytes(4, "big") + payload)
    except ProtocolError:
        return


def test_an_event_is_no_action() -> None:
    with pytest.raises(ProtocolError):
        LinkDecoder().actions(encode(SnapshotEnded()))
