"""Writes what was measured into docs/performance.md and the pictures beside it; the words there stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bench import report
from bench.managers import ROOT
from bench.plots import Bar, bars
from bench.programs import BenchError
from bench.samples import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.report import Results

PAGE: Final = ROOT / "docs/performance.md"
PICTURES: Final = ROOT / "docs/performance"


def write(results: Results, page: Path = PAGE, pictures: Path = PICTURES) -> None:
    """Replace what stands between the marks of the page, and draw the pictures anew."""
    text = page.read_text()
    for name, block in (
        ("run", _run(results)),
        ("reaches", _table(_short_reaches(results))),
        ("figures", _table(report.rows(results))),
    ):
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(text):
            msg = f"cannot write {page.name}: it has no place for {name}"
            raise BenchError(msg)
        text = marked.sub(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)
    page.write_text(text)
    pictures.mkdir(exist_ok=True)
    for name, (title, unit, rows) in _plots(results).items():
        groups = [(label, _bars(results, what, p99=p99)) for label, what, p99 in rows]
        shown = [(label, group) for label, group in groups if group]
        if shown:
            pictures.joinpath(f"{name}.svg").write_text(bars(title, unit, shown))


def _run(results: Results) -> str:
    machine = results.machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    beside = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    missed = [reach for reach in results.reaches if not reach.met]
    notes = "".join(f"\n\n> {note}" for note in results.samples.notes)
    load = " ".join(str(each) for each in _list(machine["load_before"]))
    return (
        f"One run of {results.took_s / 60:.0f} minutes: {machine['cpus']} processors,"
        f" {machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}; {beside}."
        f" Load average before it: {load}."
        f" {len(results.reaches) - len(missed)} of {len(results.reaches)} reaches are met.{notes}"
    )


def _list(value: object) -> Sequence[object]:
    assert isinstance(value, list)
    return value


def _short_reaches(results: Results) -> list[list[str]]:
    head, *rows = report.reach_rows(results)
    return [head, *([*row[:-1], "**missed**" if row[-1] == "MISSED" else row[-1]] for row in rows)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |"

    head, *rest = rows
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rest)])


def _plots(results: Results) -> dict[str, tuple[str, str, list[tuple[str, str, bool]]]]:
    """Return the pictures by name: a title, a unit, and rows of a label, what is shown, whether its p99."""
    effort = results.effort
    sizes, most = effort.sizes, effort.most
    crashing, many = f"{effort.crashers} crashing", f"{effort.writers} writers"
    return {
        "up": (
            "All up, from the start of the manager",
            "ms",
            [(f"{size:,} watchers", f"up_ms@{size}", False) for size in sizes],
        ),
        "respawn": (
            "From the kill to the first instruction of the next one",
            "ms",
            [
                (f"{size:,}, {name}", f"respawn_ms@{size}", p99)
                for size in sizes
                for name, p99 in (("p50", False), ("p99", True))
            ],
        ),
        "memory": (
            "Memory of the manager (PSS)",
            "MiB",
            [(f"{size:,} watchers", f"memory_mib@{size}", False) for size in sizes],
        ),
        "orders": (
            "Asked, edited, stopped",
            "ms",
            [
                (f"status of {most:,}", f"status_ms@{most}", False),
                ("status command at 100", "status_command_ms@100", False),
                (f"one added to {most:,}", f"add_ms@{most}", False),
                (f"stop {most:,}", f"stop_ms@{most}", False),
            ],
        ),
        "output": (
            "Output of one writer, rotated",
            "MB/s",
            [
                ("as it is", "flat out MB/s", False),
                ("with times", "flat out with times MB/s", False),
            ],
        ),
        "load": (
            "Processor time of the manager",
            "% of a core",
            [
                (f"{effort.writers} x 1,000 lines/s", f"{many} cpu%", False),
                (f"{effort.crashers} that crash", f"{crashing} cpu%", False),
            ],
        ),
    }


def _bars(results: Results, what: str, *, p99: bool) -> list[Bar]:
    found = []
    for who in report.WHO:
        values = results.samples.of(what, who)
        middle = results.samples.median(what, who)
        if middle is None:
            continue
        if p99:
            middle = quantile(values, 0.99)
            found.append(Bar(who, middle, middle, middle))
        else:
            found.append(Bar(who, middle, min(values), max(values)))
    return found
