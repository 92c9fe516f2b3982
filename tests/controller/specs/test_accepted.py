"""Claims about files that became shorter."""

from __future__ import annotations

import pytest

from reconciler.controller.specs.accepted import (
    STABLE_NS,
    Completeness,
    judge,
    only_whole_entries_gone,
)
from reconciler.model.address import InternetAddress
from reconciler.model.spec import ApplySpec, DaemonSpec, SocketSpec, Spec, WatcherSpec
from reconciler.model.value import replace

TEXT = b"watchers:\n  a:\n    cmd: x\n  b:\n    cmd: y\n"
LINE = TEXT[: TEXT.index(b"  b:")]


@pytest.mark.parametrize(
    ("after", "inode", "rest_ns", "expected"),
    [
        (TEXT + b"more\n", 1, 0, "complete"),
        (TEXT, 1, 0, "complete"),
        (TEXT.replace(b"x", b"z"), 1, 0, "complete"),
        (LINE.replace(b"x", b"z"), 1, 0, "complete"),
        (LINE, 2, 0, "complete"),
        (LINE, 1, 0, "wait"),
        (LINE, 1, STABLE_NS - 1, "wait"),
        (LINE, 1, STABLE_NS, "maybe"),
        (LINE[:-1], 1, 0, "wait"),
        (LINE[:-1], 1, STABLE_NS, "cut"),
        (b"", 1, STABLE_NS, "cut"),
        (b"", 2, STABLE_NS, "complete"),
    ],
)
def test_only_a_proper_prefix_in_place_is_suspicious(
    after: bytes, inode: int, rest_ns: int, expected: Completeness
) -> None:
    assert judge(TEXT, 1, after, inode, rest_ns) == expected


def test_without_the_applied_bytes_nothing_is_suspicious() -> None:
    assert judge(None, 1, b"", 1, 0) == "complete"


@pytest.mark.parametrize("cut", range(len(TEXT)))
def test_every_cut_point_waits_first_and_is_never_simply_believed(cut: int) -> None:
    assert judge(TEXT, 1, TEXT[:cut], 1, 0) == "wait"
    assert judge(TEXT, 1, TEXT[:cut], 1, STABLE_NS) in {"cut", "maybe"}


A, B = WatcherSpec(cmd=("x",)), WatcherSpec(cmd=("y",))
HTTP = SocketSpec(InternetAddress("127.0.0.1", 80))
OLD = Spec(watchers={"a": A, "b": B}, sockets={"http": HTTP})


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (OLD, True),
        (replace(OLD, watchers={"a": A}), True),
        (replace(OLD, watchers={"a": A}, sockets={}), True),
        (replace(OLD, watchers={"a": replace(A, numprocesses=2)}), False),
        (replace(OLD, watchers={"a": A, "c": B}), False),
        (replace(OLD, watchers={"a": A}, apply=ApplySpec(auto=False)), False),
        (replace(OLD, watchers={"a": A}, daemon=DaemonSpec(name="x")), False),
    ],
)
def test_a_deletion_leaves_everything_else_as_it_was(new: Spec, *, expected: bool) -> None:
    assert only_whole_entries_gone(OLD, new) is expected
