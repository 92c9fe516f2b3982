"""From samples to a table: medians with least and greatest, ratios, and whether each target is met."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.measuring import Effort, Sample


@dataclass(frozen=True, slots=True)
class Spread:
    """Several values of one thing."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)} - {_short(self.greatest)})"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured. `figure` is what is compared with `limit`; `limit` itself is allowed
    only where `may_reach`."""

    what: str
    ours: Spread
    floor: Spread | None
    figure: float
    limit: float
    unit: str
    may_reach: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the target is met."""
        return self.figure <= self.limit if self.may_reach else self.figure < self.limit


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest."""
    return Spread(median(values), min(values), max(values))


def compare(what: str, ours: Sequence[float], floor: Sequence[float], limit: float) -> Row:
    """Compare milliseconds: the ratio of the medians shall be below `limit`."""
    own, least = spread(ours), spread(floor)
    return Row(what, own, least, own.median / least.median, limit, "times the floor")


def count(what: str, per_second: Sequence[float], limit: float) -> Row:
    """Judge wake-ups: their median per second shall not be above `limit`."""
    own = spread(per_second)
    return Row(what, own, None, own.median, limit, "per second", may_reach=True)


def rows(
    ours: dict[int, list[Sample]], floor: dict[int, list[Sample]], effort: Effort
) -> list[Row]:
    """Return all that is reported, by number of watchers."""
    found = []
    for size in ours:
        found.append(
            compare(
                f"respawn, {size:,} watchers (ms)",
                [each for sample in ours[size] for each in sample.respawn_ms],
                [each for sample in floor[size] for each in sample.respawn_ms],
                5,
            )
        )
    most = max(ours)
    found.append(
        compare(
            f"{most:,} watchers up (ms)",
            [sample.up_ms for sample in ours[most]],
            [sample.up_ms for sample in floor[most]],
            3,
        )
    )
    idle = [sample.idle for sample in ours[most] if sample.idle is not None]
    keeper, loop, threads = (
        [wakes / effort.idle_s for wakes in kind]
        for kind in zip(*((each.keeper, each.loop, each.threads) for each in idle), strict=True)
    )
    found.append(count(f"idle at {most:,}: wake-ups of the keeper (per s)", keeper, 0))
    found.append(count(f"idle at {most:,}: of the controller's loop (per s)", loop, 0))
    found.append(count(f"idle at {most:,}: of its file watcher (per s)", threads, 6))
    return found


def table(found: Sequence[Row]) -> str:
    """Return the rows as text for people."""
    lines = [("", "reconcile", "floor in C", "figure", "target", "")]
    for row in found:
        sign = "<=" if row.may_reach else "<"
        target = f"{sign} {row.limit:g} {row.unit}"
        floor = "" if row.floor is None else str(row.floor)
        ratio = f"{row.figure:.1f}"
        lines.append(
            (row.what, str(row.ours), floor, ratio, target, "met" if row.met else "MISSED")
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def write(path: Path, found: Sequence[Row], effort: Effort, load: Sequence[float]) -> None:
    """Write all figures as JSON, with what is worth knowing of the machine."""
    machine = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": list(load),
    }
    shown = [asdict(row) | {"met": row.met} for row in found]
    document = {"machine": machine, "effort": asdict(effort), "rows": shown}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
