"""What a test asks often: over the control socket, since each command costs a quarter of a second of a core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler import Client
from tests.e2e.stage import Stage, until

if TYPE_CHECKING:
    from collections.abc import Callable


class Asking:
    """One instance, and what it says of itself."""

    def __init__(self, it: Stage) -> None:
        self.it = it
        self.client = Client(runtime_dir=str(it.runtime_dir))

    def status(self) -> dict[str, Any]:
        """Return the whole status."""
        answer: dict[str, Any] = self.client.call("status")
        return answer

    def watcher(self, name: str) -> dict[str, Any]:
        """Return one watcher."""
        found = self.client.call("status", names=[name])["watchers"]
        assert isinstance(found, list)
        return dict(found[0])

    def slot(self, name: str, slot: int = 1) -> dict[str, Any]:
        """Return one slot of a watcher."""
        return next(each for each in self.watcher(name)["slots"] if each["slot"] == slot)

    def pids(self, name: str) -> dict[int, int]:
        """Return the live pids of a watcher by slot."""
        slots = self.watcher(name)["slots"]
        return {each["slot"]: each["pid"] for each in slots if each["pid"] is not None}

    def pid(self, name: str) -> int:
        """Return the pid of the first slot, once it runs."""
        return until(lambda: self.pids(name).get(1), f"{name} runs")

    def running(self, name: str, count: int, *, within_s: float = 30.0) -> dict[int, int]:
        """Wait until so many slots run and return their pids."""
        return until(
            lambda: len(found := self.pids(name)) == count and (found or True) and found,
            f"{count} of {name} run",
            within_s=within_s,
            show=lambda: self.watcher(name),
        )

    def call(self, method: str, *names: str, **params: object) -> Any:
        """Ask for something to be done with these watchers."""
        return self.client.call(method, names=list(names), **params)

    def events(self, claim: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return the events of which the claim holds, oldest first."""
        found: Any = self.client.call("events", limit=10_000)["events"]
        return [each for each in found if claim(each)]
