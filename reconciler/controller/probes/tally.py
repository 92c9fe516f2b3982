"""What one answer after the other comes to, and what of it is told: only what is new."""

from __future__ import annotations

from typing import Final

from reconciler.controller.probes.http import Outcome
from reconciler.model.action import Probe
from reconciler.model.observation import ProbeAnswered
from reconciler.model.probe import Streak
from reconciler.model.units import SECOND_NS

RETELL_NS: Final = 5 * SECOND_NS
"""How often an answer is told in the long run that means the same and says something else."""
AT_ONCE: Final = 3
"""So many of these are told without waiting."""


class Tally:
    """Counts the answers of one probe."""

    __slots__ = ("_free_ns", "_probe", "_streak", "_told")

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._streak = Streak()
        self._told: ProbeAnswered | None = None
        self._free_ns = 0
        """When as many may be told at once again as at the beginning."""

    def take(self, outcome: Outcome, now_ns: int) -> ProbeAnswered | None:
        """Count an answer; return what is to be told, None when nothing is new."""
        probe, probing, told = self._probe, self._probe.probing, self._told
        passed = self._verdict(outcome)
        if passed is None and (outcome.passed is not None or (told and told.passed is not None)):
            return None  # what was known goes on to count
        if told is not None and told.passed is passed:
            says_more = not passed and not outcome.passed and outcome.message != told.message
            free_ns = max(self._free_ns, now_ns)
            if not says_more or free_ns - now_ns >= AT_ONCE * RETELL_NS:
                return None
            self._free_ns = free_ns + RETELL_NS
        self._told = ProbeAnswered(
            probe.id, probe.incarnation, probing, passed, outcome.message, now_ns
        )
        return self._told

    def _verdict(self, outcome: Outcome) -> bool | None:
        if outcome.passed is None:
            return None
        failures, successes = self._probe.probing.failures, self._probe.probing.successes
        self._streak = self._streak.after(ok=outcome.passed, failures=failures, successes=successes)
        return self._streak.verdict(failures=failures, successes=successes)
