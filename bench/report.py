"""From samples to tables for people and to results.json, and back."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.deaths import FEW, KINDS
from bench.lives import Effort
from bench.peers import versions
from bench.reaches import CIRCUS, FLOOR, OURS, SUPERVISOR, Reach, judge
from bench.samples import Samples, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WHO: Final = (OURS, FLOOR, CIRCUS, SUPERVISOR, "runit", "s6")
"""The managers in the order of the columns."""


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run."""

    machine: dict[str, object]
    effort: Effort
    samples: Samples
    took_s: float

    @property
    def reaches(self) -> list[Reach]:
        """Return what was to be reached."""
        return judge(self.samples, self.effort)


def machine(load: Sequence[float]) -> dict[str, object]:
    """Return what is worth knowing of the machine; `load` is that before the run."""
    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": [round(each, 2) for each in load],
        "load_after": [round(each, 2) for each in os.getloadavg()],
        "versions": versions(),
    }


def write(path: Path, results: Results) -> None:
    """Write everything as JSON."""
    document = {
        "machine": results.machine,
        "took_s": round(results.took_s),
        "effort": asdict(results.effort),
        "reaches": [asdict(reach) | {"met": reach.met} for reach in results.reaches],
        "samples": {
            what: {who: [round(value, 4) for value in values] for who, values in by.items()}
            for what, by in results.samples.values.items()
        },
        "notes": results.samples.notes,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> Results:
    """Return what `write` wrote."""
    document = json.loads(path.read_text())
    effort = document["effort"]
    effort["sizes"] = tuple(effort["sizes"])
    samples = Samples(document["samples"], document["notes"])
    return Results(document["machine"], Effort(**effort), samples, document["took_s"])


# ---- tables --------------------------------------------------------------------------------------


def rows(results: Results) -> list[list[str]]:
    """Return the table of all figures: medians, least and greatest, by manager; the first row is the head."""
    samples, effort = results.samples, results.effort
    found = [["", *WHO]]

    def row(title: str, what: str, *, p99: bool = False) -> None:
        values = [samples.of(what, who) for who in WHO]
        if any(values):
            found.append([title, *(_spread(each, p99=p99) for each in values)])

    for cache in ("warm", "cold"):
        row(f"first process of 10, {cache} file cache (ms)", f"first_ms {cache}")
        row("  all of them (ms)", f"all_ms {cache}")
    for size in (*effort.sizes, effort.reload_size):
        row(f"{size:,} up (ms)", f"up_ms@{size}")
    row("  as slots of one watcher (ms)", f"up_ms@{effort.reload_size} slots")
    row(f"{effort.graph} that depend on each other up (ms)", "graph_ms")
    row("  without dependencies (ms)", "graph_ms without")
    row("  the longest path, by itself (ms)", "graph_ms path")
    for size in effort.sizes:
        row(f"respawn at {size:,}, p50 (ms)", f"respawn_ms@{size}")
        row(f"respawn at {size:,}, p99 (ms)", f"respawn_ms@{size}", p99=True)
    many = f"respawn at {effort.reload_size:,} in one file, p50 (ms)"
    row(many, f"exit_ms@{effort.reload_size}")
    row("  as slots of one watcher, p50 (ms)", f"exit_ms@{effort.reload_size} slots")
    beside = f"respawn beside {effort.loud} writers"
    for part, p99 in (("p50", False), ("p99", True)):
        row(f"{beside}, {part} (ms)", "loaded respawn_ms", p99=p99)
        row(f"  without them, {part} (ms)", "loaded respawn_ms quiet", p99=p99)
    for origin in KINDS:
        for size in (FEW, effort.children):
            title = f"a death among {size:,}, {origin} (keeper's ms)"
            row(title, f"death_cpu_ms@{size} {origin}")
    most = effort.most
    row(f"idle at {most:,}, wake-ups per second", f"idle@{most} wakes")
    row(f"idle at {most:,}, % of a core", f"idle@{most} cpu%")
    row("  with apply.auto: false, wake-ups", f"idle by hand@{most} wakes")
    for size in effort.sizes:
        row(f"memory at {size:,} (PSS, MiB)", f"memory_mib@{size}")
        row("  after a death of the controller", f"memory_mib@{size} after a death")
    for size in effort.sizes:
        row(f"status of {size:,} over the socket (ms)", f"status_ms@{size}")
        row(f"  of one among {size:,} (ms)", f"status_one_ms@{size}")
    row(f"  of {most:,}, the first time (ms)", f"status_first_ms@{most}")
    row("status command at 100 (ms)", "status_command_ms@100")
    for name in ("status", "version"):
        row(f"  {name} at 10, as a whole process (ms)", f"command_ms {name}")
    row("  a Python that does nothing (ms)", "command_ms bare")
    row(f"one added to {most:,} (ms)", f"add_ms@{most}")
    row("  all in one file (ms)", f"add_ms@{most} in one file")
    for where in ("", " in one file"):
        row(f"saved in vain{where}, bytes read / its size", f"vain@{most}{where} read")
        row(f"saved in vain{where}, processor time (ms)", f"vain@{most}{where} cpu_ms")
    for size in effort.sizes:
        row(f"stop {size:,} (ms)", f"stop_ms@{size}")
    for title, what in (("one writer", "flat out"), ("  with timestamps", "flat out with times")):
        row(f"{title} (MB/s)", f"{what} MB/s")
        row("  lines missing", f"{what} missing")
        row("  lines cut or doubled", f"{what} cut")
    many, crashing = f"{effort.writers} writers", f"{effort.crashers} crashing"
    row(f"{many} x 1,000 lines/s (% of a core)", f"{many} cpu%")
    row("  lines missing", f"{many} missing")
    row("  lines cut or doubled", f"{many} cut")
    row(f"{effort.crashers} that exit 1 at once (% of a core)", f"{crashing} cpu%")
    row("  starts per second", f"{crashing} starts")
    row("  status meanwhile, p99 (ms)", f"{crashing} status_ms", p99=True)
    row("  status when quiet, p99 (ms)", f"{crashing} quiet status_ms", p99=True)
    reload = f"reload@{effort.reload_size}"
    row(f"one added to {effort.reload_size:,} while workers crash (ms)", f"{reload} ms")
    row("  respawns before (ms)", f"{reload} respawn_ms before")
    row("  respawns meanwhile (ms)", f"{reload} respawn_ms")
    row(f"{effort.probed} slots asked each second (controller's % of a core)", "asked cpu%")
    row("  not asked", "unasked cpu%")
    row("  respawns while asked, p50 (ms)", "asked respawn_ms")
    row("  respawns while not asked, p50 (ms)", "unasked respawn_ms")
    return found


def reach_rows(results: Results) -> list[list[str]]:
    """Return the table of what was to be reached; the first row is the head."""
    found = [["what", "measured", "reach", "of which", "share", ""]]
    for reach in results.reaches:
        sign = ">=" if reach.is_floor else "<="
        limit = f"{sign} {short(reach.limit)} {reach.unit}"
        share = f"{reach.figure / reach.limit:.2f}" if reach.limit else ""
        verdict = "met" if reach.met else "MISSED"
        found.append([reach.what, short(reach.figure), limit, reach.text, share, verdict])
    return found


def columns(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text, without the columns in which nothing stands."""
    used = [n for n in range(len(table[0])) if any(row[n] for row in table[1:])]
    widths = {n: max(len(row[n]) for row in table) for n in used}
    return "\n".join("  ".join(row[n].ljust(widths[n]) for n in used).rstrip() for row in table)


def text(results: Results, *, judged: bool) -> str:
    """Return all for people; `judged` with what was to be reached."""
    effort, load = results.effort, results.machine["load_before"]
    assert isinstance(load, list)
    parts = [columns(rows(results))]
    if judged:
        parts.append(columns(reach_rows(results)))
    parts.append("".join(f"note: {note}\n" for note in results.samples.notes))
    last = (
        f"median (least - greatest) of {effort.repetitions} lives; {results.machine['cpus']} CPUs,"
        f" load before {load[0]:.2f}; took {results.took_s:.0f} s"
    )
    missed = [reach for reach in results.reaches if not reach.met]
    if judged:
        last += f"; {len(results.reaches) - len(missed)} reaches met, {len(missed)} missed"
    return "\n\n".join(part for part in (*parts, last) if part)


def short(value: float) -> str:
    """Return a number with as many digits as are worth reading."""
    if value == int(value):
        return f"{value:,.0f}"
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def _spread(values: Sequence[float], *, p99: bool) -> str:
    if not values:
        return ""
    if p99:
        return short(quantile(list(values), 0.99))
    if len(set(values)) == 1:
        return short(values[0])
    return f"{short(median(values))} ({short(min(values))} - {short(max(values))})"
