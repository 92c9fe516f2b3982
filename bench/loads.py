"""What output costs others: how soon a worker is started again while many others write flat out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.births import Births
from bench.lives import BOOT_S, Life, respawns, running, sleepers, started
from bench.managers import Crew, Keeping, Reconcile
from bench.output import write_commands

if TYPE_CHECKING:
    from bench.lives import Effort, Place
    from bench.samples import Samples

WORKERS: Final = 10
FILE_BYTES: Final = 8_000_000
FOR_EVER: Final = 10**12
"""Lines that nobody lives to see the end of."""


def measure_load(place: Place, effort: Effort, samples: Samples) -> None:
    """Kill some of a few workers: alone, and beside writers whose lines get timestamps."""
    kills = min(effort.kills, WORKERS * 3)
    with running(Reconcile, place, WORKERS, settle_s=effort.settle_s) as life:
        took = respawns(life, kills)
        samples.add("loaded respawn_ms quiet", Reconcile.name, *took)
    with tempfile.TemporaryDirectory(prefix="b-", dir=place.folder) as name:
        folder = Path(name)
        keeping = Keeping(folder / "kept", FILE_BYTES, 1, timestamps=True)
        with Births(folder / "births") as births:
            workers = sleepers(place, births.path, WORKERS)
            writers = write_commands(
                place, births.path, effort, range(WORKERS, WORKERS + effort.loud), FOR_EVER, 0
            )
            crew = Crew((*workers, *writers), 1, keeping)
            with started(Reconcile, place, folder, crew) as manager:
                life = Life(manager, births, {})
                told = births.take(len(crew.commands), BOOT_S)
                life.see([each for each in told if each.index < WORKERS])
                time.sleep(effort.settle_s)
                samples.add("loaded respawn_ms", Reconcile.name, *respawns(life, kills))
