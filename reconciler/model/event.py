"""What people are told has happened: the entries of `reconcile events`."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.value import Struct, field


class Event(Struct, frozen=True):
    """One entry of the event stream, before it gets its number and wall time.

    `type` is a dotted word such as `process.exited`; `message` is a sentence; `slot` 0 is the watcher.
    `at_ns` is when it happened (monotonic), None: just now.
    """

    type: str
    message: str
    watcher: str = ""
    slot: int = 0
    details: Mapping[str, object] = field(default_factory=dict)
    at_ns: int | None = None
