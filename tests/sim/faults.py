"""What a seed may break, and how hard: each enables its own few faults, since a mix of all hides rare pairs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.sim.language import LANGUAGE, NEWER, PROBED

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST: Final = {
    # programs
    "exits": "a process ends by itself after a while",
    "quick exits": "a process ends at once",
    "ignored TERM": "a process does not heed TERM",
    "slow ends": "a process takes its time to end",
    "unkillable": "a process in uninterruptible sleep, which KILL ends seconds later",
    "survivors": "a process leaves a child in its group behind",
    "escaped survivors": "a process has a child with a session of its own",
    "exec errors": "a program cannot be executed",
    "shortages": "no pids, memory or descriptors for the next starts",
    "few pids": "the machine has so few pids that every one is used again at once",
    "fork road": "whether a program was executed is known only later",
    # hooks
    "hook vetoes": "a hook says no",
    "hook errors": "a hook raises",
    "hanging hooks": "a hook never ends",
    "slow hooks": "a hook takes almost as long as it may",
    "hook leftovers": "a hook leaves a process behind",
    # the manager
    "controller kills": "the controller dies before, between and after its effects",
    "torn frames": "the last bytes that a dead controller said never arrived",
    "controller stalls": "the controller is stopped for seconds",
    "keeper kills": "the keeper dies before and after its effects; the next one comes up to three seconds later",
    "full journal": "what the keeper notes for the next one is not written for a while",
    "untold exits": "the kernel does not tell how a process ended that is nobody's child here",
    "keeper stalls": "the keeper is stopped for a second or two",
    "slow link": "the controller hears little at a time, and the link takes little",
    "pauses": "the whole machine stands still for minutes while the clock goes on",
    # the disk
    "slow disk": "a commit takes up to two seconds",
    "full disk": "nothing can be committed for a while",
    "power losses": "the machine starts anew; what was not synced is gone",
    # the rest
    "taken ports": "somebody else holds a port",
    "busy people": "edits and commands follow each other quickly",
}
LATER: Final = {
    "upgrades": "the keeper becomes new code in the same process, or finds that there is none",
}
"""Faults that came later: chosen apart, so that the histories of seeds without them stay what they were."""
NASTY: Final = {
    "late output": "the output of a process is complete only some time after its end",
    "other processes": "processes that are none of ours take the numbers of those that have died",
    "wiped environments": "a process and its children write over their environment, where we look for our mark",
}
"""What a real kernel has and a kind one has not; chosen apart, too."""
FAULTS: Final = FIRST | LATER | NASTY | LANGUAGE


@dataclass(frozen=True)
class Faults:
    """The faults of one seed, by name, with a strength from 0 to 1."""

    strength: dict[str, float] = field(default_factory=dict)

    def hits(self, rng: random.Random, fault: str) -> bool:
        """Tell whether a fault strikes this time."""
        return fault in self.strength and rng.random() < self.strength[fault]

    @staticmethod
    def parse(text: str) -> Faults:
        """Return the faults that `str` wrote down. Raises `ValueError`."""
        pairs = [each.partition("=") for each in text.split(", ") if each]
        unknown = [name for name, _, _ in pairs if name not in FAULTS]
        if unknown:
            msg = f"there is no fault {unknown[0]!r}"
            raise ValueError(msg)
        return Faults({name: float(strength) for name, _, strength in pairs})

    def __str__(self) -> str:
        return ", ".join(f"{name}={strength}" for name, strength in self.strength.items())

    @property
    def plain(self) -> Faults:
        """Return the same without what came last: the rest of the language, and what is nasty of a real kernel."""
        return self.without(*LANGUAGE, *NASTY)

    def without(self, *names: str) -> Faults:
        """Return the same faults but for some."""
        return Faults({each: how for each, how in self.strength.items() if each not in names})


def swarm(rng: random.Random, seed: int) -> Faults:
    """Choose a seed's own faults. `rng` is what its history goes on with."""
    later, speaks = random.Random(f"later {seed}"), random.Random(f"language {seed}")
    older = {each: what for each, what in LANGUAGE.items() if each not in NEWER}
    language = _some(older, speaks, often=0.12, strengths=(0.3, 0.7))
    for each in NEWER:
        own = random.Random(f"{each} {seed}")
        often = _how_often(each, language)
        language |= _some({each: LANGUAGE[each]}, own, often=often, strengths=(0.3, 0.7))
    nasty = _some(NASTY, random.Random(f"nasty {seed}"), strengths=(0.2, 0.6))
    return Faults(_some(FIRST, rng) | _some(LATER, later) | nasty | language)


def _how_often(name: str, language: Mapping[str, float]) -> float:
    """Return how many of the seeds make use of what came later."""
    if (
        name == "clock leaps"
    ):  # what matters to the few alone that have a schedule is to occur with most of these
        return 0.7 if "schedule" in language else 0.0
    if name in PROBED:
        return 0.5 if {"ready", "health"} & language.keys() else 0.0
    return 0.15 if name in {"ready", "health"} else 0.12


def _some(
    faults: Mapping[str, str],
    rng: random.Random,
    often: float = 0.3,
    strengths: tuple[float, ...] = (0.05, 0.2, 0.6),
) -> dict[str, float]:
    chosen = [fault for fault in faults if rng.random() < often]
    return {fault: rng.choice(strengths) for fault in chosen}
