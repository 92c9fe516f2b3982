from __future__ import annotations

from reconciler.cli.views.painting import paint
from reconciler.cli.views.stats import stats_page, top_page
from reconciler.model.answer import SlotStats, Stats

NOW = 1_700_000_000_000_000_000
MiB = 2**20


def row(name: str, slot: int, cpu: float, memory: int, **more: int) -> SlotStats:
    since = NOW - 90 * 10**9
    return SlotStats(name, slot, 100 + slot, "Running", since, 0, cpu, 12_340_000_000, memory, 2, 9)


SOME = Stats(
    NOW, (row("web", 1, 5.0, 30 * MiB), row("db", 1, 0.4, 212_300_000), row("web", 2, 9, MiB))
)


def test_the_table_has_a_row_for_each_slot_and_the_sum() -> None:
    assert paint(stats_page(SOME)) == [
        "SLOT   PID  STATE    CPU   MEM     PROCS  THREADS  TIME  RESTARTS  AGE",
        "db.1   101  Running  0.4%  202MiB  2      9        12s   0         1m30s",
        "web.1  101  Running  5.0%  30MiB   2      9        12s   0         1m30s",
        "web.2  102  Running  9.0%  1MiB    2      9        12s   0         1m30s",
        "",
        "3 slots, 6 processes · CPU 14.4%, memory 233MiB",
    ]


def shown(order: str, height: int, offset: int = 0) -> tuple[list[str], int]:
    lines, first = top_page("shop", SOME, order, 100, height, offset, colour=False)  # type: ignore[arg-type]
    return [line.split()[0] for line in lines[2:-1]], first


def test_one_screen_shows_what_uses_most_and_scrolls_to_the_end() -> None:
    assert shown("cpu", 20) == (["web.2", "web.1", "db.1"], 0)
    assert shown("memory", 20) == (["db.1", "web.1", "web.2"], 0)
    assert shown("cpu", 5) == (["web.2", "web.1"], 0)
    assert shown("cpu", 5, offset=99) == (["web.1", "db.1"], 1)
    lines, _ = top_page("shop", SOME, "cpu", 100, 5, 0, colour=False)
    assert lines[0].startswith("shop · 3 slots, 6 processes")
    assert "CPU*" in lines[1]
    assert lines[-1].startswith("1-2 of 3 · c m n: sort")
