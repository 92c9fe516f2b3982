"""Probes: what one answer after the other comes to."""

from __future__ import annotations

from reconciler.model.value import Struct

MAX_STREAK = 1000
"""So many successes or failures in a row are counted, as many as a spec can ask for."""


class Streak(Struct, frozen=True):
    """How often in a row a probe has failed, and how often it has passed since.

    What has failed often enough goes on to count as failed until it has passed often enough.
    """

    failed: int = 0
    passed: int = 0

    def after(self, *, ok: bool, failures: int, successes: int) -> Streak:
        """Return the streak with another answer."""
        if not ok:
            return Streak(min(self.failed + 1, MAX_STREAK))
        passed = min(self.passed + 1, MAX_STREAK)
        is_over = self.failed < failures or passed >= successes
        return Streak(0 if is_over else self.failed, passed)
