"""Judges of a history: they look at the machine, the disk and what was asked, never at the core's reasons.

`facts` and `answers` keep what several of them need; `starts`, `hooks`, `ends`, `serving`, `rollout`, `language`,
`schedules` and `readiness` watch every instant, `rest` looks when the faults have stopped. `INVARIANTS` says which
judge holds which invariant, and where those are held that concern no room of the simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.sim.checkers.ends import Ends
from tests.sim.checkers.facts import Facts
from tests.sim.checkers.hooks import Hooks
from tests.sim.checkers.language import Language
from tests.sim.checkers.needs import Needs
from tests.sim.checkers.readiness import Readiness
from tests.sim.checkers.rest import Rest
from tests.sim.checkers.rollout import Rollout
from tests.sim.checkers.schedules import Schedules
from tests.sim.checkers.serving import Serving
from tests.sim.checkers.starts import Starts

if TYPE_CHECKING:
    from tests.sim.world import World

INVARIANTS: Final = {
    "I1": "Starts._one_in_a_slot, Starts.instant",
    "I2": "Starts._fired_once",
    "I3": "Ends._tells_the_truth, Ends.end",
    "I4": "Hooks",
    "I5": "Ends._hits_whom_it_means",
    "I6": "Rest",
    "I7": "Serving._revision_goes_on",
    "I8": "Starts._rate_is_bounded",
    "I9": "Starts.instant",
    "I10": "Serving._bystanders_live_on",
    "I11": "Ends._kill_is_allowed, Ends._kill_comes",
    "I12": "Serving._socket_stays",
    "I13": "Rollout._others_serve",
    "I14": "tests/controller/specs/test_files.py: reading files is not simulated",
    "I15": "Serving._handles_are_bounded, Rest.end",
    "I16": "tests/controller/api/test_server.py: the control socket is not simulated",
    "I17": "tests/e2e: the simulated secrets have no values",
    "I18": "by construction: the simulated clock stands still in a step, and the floors forbid core and keeper to wait",
    "I19": "Serving._own_sockets_are_served",
    "I20": "Language",
    "I21": "Needs.spawned",
    "I22": "Needs.ended",
    "I23": "Schedules",
    "I24": "Rollout._others_serve",
    "I25": "Rollout._stops_at_failure",
    "I26": "Rollout._brake_holds",
    "I27": "Rollout._successor_could_start",
    "I28": "Rollout.end",
    "I29": "Readiness._asked",
    "I30": "Readiness._is_asked_in_time",
    "I31": "Readiness.spawned",
}


class Checkers:
    """All invariants of one world. They watch from the start on; `end` judges what is left at rest."""

    def __init__(self, world: World) -> None:
        facts = Facts(world)
        self.starts, self.hooks = Starts(facts), Hooks(facts)
        self.needs = Needs(facts)
        self.ends, self.serving, self.rest = Ends(facts), Serving(facts), Rest(facts, self.needs)
        self.rollout = Rollout(facts, self.needs)
        self.language, self.schedules = Language(facts, self.needs), Schedules(facts)
        self.readiness = Readiness(facts)
        world.on_power_loss.append(self.serving.forget)

    def end(self) -> None:
        """Judge the world at rest, and after it was asked to end."""
        self.ends.end()
        self.language.end()
        self.rollout.end()
        self.rest.end()
        self.needs.ended()
