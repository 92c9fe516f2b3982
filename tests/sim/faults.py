"""What a seed may break, and how hard: each enables its own few faults, since a mix of all hides rare pairs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FAULTS = (
    "exits",
    "quick exits",
    "ignored TERM",
    "slow ends",
    "survivors",
    "escaped survivors",
    "exec errors",
    "shortages",
    "fork road",
    "hook vetoes",
    "hook errors",
    "hanging hooks",
    "controller kills",
    "torn frames",
    "slow disk",
    "slow link",
    "taken ports",
    "busy people",
)


@dataclass(frozen=True)
class Faults:
    """The faults of one seed, by name, with a strength from 0 to 1."""

    strength: dict[str, float] = field(default_factory=dict)

    def hits(self, rng: random.Random, fault: str) -> bool:
        """Tell whether a fault strikes this time."""
        return fault in self.strength and rng.random() < self.strength[fault]


def swarm(rng: random.Random) -> Faults:
    """Choose a seed's own faults."""
    chosen = [fault for fault in FAULTS if rng.random() < 0.4]
    return Faults({fault: rng.choice((0.05, 0.2, 0.6)) for fault in chosen})
