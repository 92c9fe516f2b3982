"""Answers of a manager, as small as they may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.manager import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.model.errors import RequestError
    from tests.cli.manager import Manager

NOW_NS = 1_800_000_000 * 10**9
SECOND_NS = 10**9

RUNNING_WEB: dict[str, object] = {
    "name": "web",
    "kind": "service",
    "want": 2,
    "state": "Running",
    "ready": 2,
    "restarts": 1,
    "note": "",
    "as_desired": True,
    "since_ns": NOW_NS - 12 * SECOND_NS,
    "slots": [
        {
            "slot": 1,
            "state": "Running",
            "since_ns": NOW_NS - 12 * SECOND_NS,
            "pid": 101,
            "cpu_percent": 8.1,
            "memory_bytes": 30 << 20,
        },
        {
            "slot": 2,
            "state": "Running",
            "since_ns": NOW_NS - 12 * SECOND_NS,
            "pid": 102,
            "cpu_percent": 0.4,
            "memory_bytes": 11 << 20,
        },
    ],
}
FAILED_JOB: dict[str, object] = {
    "name": "report",
    "kind": "job",
    "want": 3,
    "state": "Failed",
    "ready": 2,
    "restarts": 0,
    "note": "slot 3: exit 1; rerun --failed",
    "as_desired": False,
    "since_ns": NOW_NS - 240 * SECOND_NS,
}
MAILER: dict[str, object] = {
    "name": "mailer",
    "kind": "service",
    "want": 2,
    "state": "BackOff",
    "ready": 0,
    "restarts": 17,
    "note": 'exit 78: last line: "no route to host"',
    "as_desired": False,
    "since_ns": NOW_NS - 2 * SECOND_NS,
    "slots": [
        {
            "slot": 1,
            "state": "BackOff",
            "since_ns": NOW_NS - 2 * SECOND_NS,
            "next_ns": NOW_NS + 8 * SECOND_NS,
            "exit": {"code": 78},
        },
    ],
}
HTTP: dict[str, object] = {
    "name": "http",
    "listen": "0.0.0.0:8000",
    "type": "stream",
    "state": "Bound",
    "used_by": ["web"],
}
WORD = {
    "what": "stopped",
    "message": "stopped by alice",
    "who": "alice",
    "why": "disk",
    "since_ns": NOW_NS - 2 * 3600 * SECOND_NS,
    "until_ns": NOW_NS + 90 * SECOND_NS,
}
REPLACE_WEB = {"name": "web", "how": "replace", "message": "env.A changed", "slots": [1, 2]}
REMOVE_OLD = {"name": "old", "how": "remove", "message": "no longer in the spec"}


def status(*watchers: dict[str, object], **more: object) -> dict[str, object]:
    """Return the answer to `status` with these watchers."""
    settled = all(watcher["as_desired"] for watcher in watchers)
    answer = {"name": "shop", "revision": 42, "observed_revision": 42, "settled": settled}
    return answer | {"watchers": list(watchers)} | more


def refusing(error: RequestError) -> object:
    """Return what answers with an error."""

    def answer(_: object) -> object:
        raise error

    return answer


def applying(manager: Manager, *steps: Mapping[str, object], changes: list[object]) -> None:
    """Let a manager take an apply, and go these steps."""
    manager.answers |= {
        "apply": lambda params: {
            "revision": 43,
            "changes": changes,
            "applied": not params.get("dry_run"),
        },
        "apply.follow": Stream("progress", steps),
        "status": status(RUNNING_WEB),
    }
