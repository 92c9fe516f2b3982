"""The benchmark counts right, judges by ratios of one run, and remembers what it found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import page
from bench.__main__ import QUICK
from bench.accounting import account, family, used_since
from bench.graphs import Graph
from bench.plots import flame
from bench.programs import Programs, compile_programs
from bench.reaches import CIRCUS, FLOOR, OURS, judge
from bench.report import Results, machine, read, text, write
from bench.samples import Samples
from tests.conftest import require_program


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    require_program("cc", "apt install gcc libc6-dev")
    return compile_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def kept(programs: Programs, tmp_path: Path) -> Path:
    """A thousand lines of writer 7, as the writer writes them."""
    fifo, path = tmp_path / "fifo", tmp_path / "out.log"
    os.mkfifo(fifo)
    told = os.open(fifo, os.O_RDWR)
    with path.open("wb") as output:
        writer = subprocess.Popen([programs.writer, fifo, "7", "1000", "0", "0"], stdout=output)
    assert len(os.read(told, 16) + os.read(told, 16)) == 32
    writer.kill()
    writer.wait()
    os.close(told)
    return path


def judged(programs: Programs, *files: Path, lines: int = 1000, prefix: int = 0) -> list[int]:
    """Return how many lines are missing, cut, doubled."""
    done = subprocess.run(
        [programs.lines, "7", str(lines), str(prefix), *files], stdout=subprocess.PIPE, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_lines_that_are_all_there_are_found_whole_in_any_order(
    programs: Programs, kept: Path
) -> None:
    data, second = kept.read_bytes(), kept.with_name("out.log.1")
    assert len(data) == 100_000
    kept.write_bytes(data[50_000:])
    second.write_bytes(data[:50_000])
    assert judged(programs, kept, second) == [0, 0, 0]


def test_a_line_that_is_missing_cut_or_doubled_is_counted(programs: Programs, kept: Path) -> None:
    data = kept.read_bytes()
    kept.write_bytes(data[:99_900])
    assert judged(programs, kept) == [1, 0, 0]
    kept.write_bytes(data + data[:200])
    assert judged(programs, kept) == [0, 0, 2]
    kept.write_bytes(data[:250] + b"\n" + data[250:])
    assert judged(programs, kept) == [1, 2, 0]
    kept.write_bytes(data[:150] + b"y" + data[151:])
    assert judged(programs, kept) == [1, 1, 0]


def test_a_time_before_a_line_is_allowed_only_where_it_was_asked_for(
    programs: Programs, kept: Path
) -> None:
    kept.write_bytes(b"".join(b"12:00 " + line for line in kept.read_bytes().splitlines(True)))
    assert judged(programs, kept, prefix=1) == [0, 0, 0]
    assert judged(programs, kept) == [1000, 1000, 0]


def test_a_family_is_told_without_its_workers_and_its_account_grows() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        while not os.readlink(f"/proc/{child.pid}/exe").endswith("sleep"):
            time.sleep(0.001)
        sleep = Path(os.readlink(f"/proc/{child.pid}/exe"))
        assert child.pid in family(os.getpid(), ())
        assert child.pid not in family(os.getpid(), (sleep,))
        before = account([os.getpid(), child.pid])
        sum(range(2_000_000))
    finally:
        child.kill()
        child.wait()
    used = used_since(before)
    assert used.cpu_ns > 1_000_000


def test_a_reach_is_judged_only_where_both_sides_were_measured() -> None:
    samples = Samples()
    effort = replace(QUICK, sizes=(10,))
    samples.add("respawn_ms@10", OURS, 2.0, 2.0, 9.0)
    assert judge(samples, effort) == []
    samples.add("respawn_ms@10", FLOOR, 1.0, 1.0, 0.5)
    assert [(reach.figure, reach.limit, reach.met) for reach in judge(samples, effort)] == [
        (2.0, 2.0, True),
        (9.0, 4.0, False),
    ]
    samples.add("memory_mib@10", OURS, 20.0)
    samples.add("memory_mib@10", CIRCUS, 19.0)
    assert [reach.met for reach in judge(samples, effort)] == [True, False, False]


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    samples = Samples()
    samples.add("up_ms@10", OURS, 100.5, 120.0, 110.0)
    samples.add("up_ms@10", FLOOR, 10.0)
    samples.notes.append("s6 is not installed; it is left out")
    results = Results(machine((0.5, 0.5, 0.5)), QUICK, samples, 12)
    write(tmp_path / "results.json", results)
    shown = text(read(tmp_path / "results.json"), judged=True)
    assert shown == text(results, judged=True)
    assert "110 (100 - 120)" in shown
    assert "s6 is not installed" in shown


def test_what_grows_is_compared_with_what_is_small_in_the_same_run() -> None:
    samples = Samples()
    effort = replace(QUICK, sizes=(10,), children=2000, reload_size=5000, graph=500)
    for what, few, many in (
        ("death_cpu_ms@{} own", "10", "2000"),
        ("death_cpu_ms@{} adopted", "10", "2000"),
        ("exit_ms@5000{}", "", " slots"),
        ("loaded respawn_ms{}", " quiet", ""),
    ):
        samples.add(what.format(few), OURS, 2.0)
        samples.add(what.format(many), OURS, 3.5)
    samples.add("graph_ms path", OURS, 1000.0)
    samples.add("graph_ms without", OURS, 500.0)
    samples.add("graph_ms", OURS, 1790.0)
    met = {reach.what: (round(reach.limit, 1), reach.met) for reach in judge(samples, effort)}
    assert met == {
        "a death among 2,000, own": (2.4, False),
        "a death among 2,000, adopted": (4.0, True),
        "one exit among 5,000 slots": (4.0, True),
        "respawn beside 3 writers, p50": (6.0, True),
        "respawn beside 3 writers, p99": (6.0, True),
        "500 that depend on each other": (1800.0, True),
    }


def test_the_longest_path_of_a_graph_is_the_longest_of_all() -> None:
    graph = Graph(12)

    def paths(index: int) -> list[int]:
        before = graph.waits_for[index]
        return [graph.delays_ms[each] + way for each in before for way in paths(each)] or [0]

    assert any(graph.waits_for)
    assert graph.longest_path_ms() == max(way for index in range(12) for way in paths(index))
    assert Graph(12).waits_for == graph.waits_for, "each run measures the same graph"


def test_the_asker_needs_nothing_of_the_bench() -> None:
    code = (
        "import bench.asking, sys; print(sorted(m for m in sys.modules if m.startswith('bench')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['bench', 'bench.asking']"


def test_the_page_keeps_its_words_and_gets_the_figures(tmp_path: Path) -> None:
    samples = Samples()
    for who, value in ((OURS, 20.0), (FLOOR, 10.0), (CIRCUS, 900.0)):
        samples.add("respawn_ms@10", who, value, value + 1, value + 2)
    results = Results(machine((0.5, 0.5, 0.5)), QUICK, samples, 12)
    copy = tmp_path / "performance.md"
    copy.write_text(page.PAGE.read_text())
    for _ in range(2):
        page.write(results, copy, tmp_path / "pictures")
    text = copy.read_text()
    assert text.startswith(page.PAGE.read_text()[:500])
    assert text.count("| respawn at 10, p50 | 21 | <= 22 ms | 2 x floor | 0.95 | met |") == 1
    assert "| respawn at 10, p50 (ms) | 21 (20 - 22) | 11 (10 - 12) | 901 (900 - 902) |" in text
    shown = ElementTree.parse(tmp_path / "pictures/respawn.svg").getroot()
    assert "".join(shown.itertext()).count("Circus") == 2


def test_every_picture_of_the_page_can_be_drawn() -> None:
    named = set(re.findall(r"\(performance/([\w-]+)\.svg\)", page.PAGE.read_text()))
    drawn = {"flame-boot", "flame-respawn", "flame-status", *page._plots(empty_results())}
    assert named == drawn


def empty_results() -> Results:
    return Results(machine((0.0, 0.0, 0.0)), QUICK, Samples(), 0)


def test_a_flame_is_as_wide_as_its_share_and_hides_what_nobody_could_read() -> None:
    picture = flame(
        "a title", [(("main", "<often>"), 900), (("main", "seldom"), 99), (("once",), 1)]
    )
    root = ElementTree.fromstring(picture)
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["main 99.9%", "<often> 90.0%", "seldom 9.9%"]
    widths = [
        float(each.attrib["width"])
        for each in root.iter("{http://www.w3.org/2000/svg}rect")
        if "rx" in each.attrib
    ]
    assert widths[1] / widths[2] == pytest.approx(900 / 99, rel=0.02)
