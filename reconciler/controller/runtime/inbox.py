"""What the core is told in the next rounds, in order, a part of it in each."""

from __future__ import annotations

from typing import Final

from reconciler.model.observation import Observation

OBSERVATIONS_PER_ROUND: Final = 100
"""When thousands of processes end at once, others get their turn in between."""


class Inbox(list[Observation]):
    """Observations that the core does not have yet."""

    @property
    def is_full(self) -> bool:
        """Tell whether what comes now has to wait for a later round than the next one."""
        return len(self) >= OBSERVATIONS_PER_ROUND

    def take(self) -> list[Observation]:
        """Return what the core is told in this round."""
        taken = self[:OBSERVATIONS_PER_ROUND]
        del self[:OBSERVATIONS_PER_ROUND]
        return taken
