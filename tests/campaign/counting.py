"""Counts losses from outside: in /proc, in what the workers wrote, in the log files and at the client."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.campaign.arena import is_there
from tests.e2e.stage import born_ticks, environ_of, is_alive, until

if TYPE_CHECKING:
    from tests.campaign.arena import Arena, Said
    from tests.e2e.stage import Stage

LOOK_EVERY_S = 0.1


@dataclass
class Losses:
    """What a campaign has cost.

    `unknown`, `never_began` and `unread` only where no keeper lived, all below them never.
    """

    times: int = 0
    processes: int = 0
    lines: int = 0
    connections: int = 0
    unknown: int = 0
    """Exit statuses that nobody could tell, and that are said to be unknown."""
    never_began: int = 0
    """Runs that were written down when the keeper was killed, never had a process, and are said to be lost."""
    unread: int = 0
    """Lines that died unread with their process while no keeper lived, or unwritten with the keeper."""
    doubled: int = 0
    lost: int = 0
    wrong: int = 0
    missing_lines: int = 0
    doubled_lines: int = 0
    refused: int = 0
    fired_twice: int = 0
    strays: int = 0
    """Processes that outlived the one they belong to, or the shutdown."""
    details: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing was lost, doubled, wrong or refused."""
        return not any(
            (
                self.doubled,
                self.lost,
                self.wrong,
                self.missing_lines,
                self.doubled_lines,
                self.refused,
                self.fired_twice,
                self.strays,
            )
        )

    def note(self, what: str, number: int, detail: object) -> None:
        """Count a loss, and keep what is known of it."""
        if number:
            setattr(self, what, getattr(self, what) + number)
            self.details.append(f"{what}: {detail}")


class Doubles(threading.Thread):
    """Walks /proc all the while, and notes every slot that two processes are at once."""

    def __init__(self, it: Stage) -> None:
        super().__init__(daemon=True)
        self.it, self.over = it, threading.Event()
        self.found: set[tuple[str, ...]] = set()
        self._token = (it.state_dir / "instance").read_text().split()[0]
        self._places: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        while not self.over.wait(LOOK_EVERY_S):
            there = self._look()
            for place, pids in there.items():
                # Both at the same time: of two that follow each other the first is gone by now.
                if len(pids) > 1 and len([p for p in pids if is_alive(p)]) > 1:
                    self.found.add((place, *map(str, pids)))

    def _look(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = defaultdict(list)
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and (place := self._place_of(int(entry))):
                places[place].append(int(entry))
        return places

    def _place_of(self, pid: int) -> str:
        """Return watcher and slot of a process that leads its session, nothing for any other."""
        born = born_ticks(pid)
        if born is None:
            return ""
        key = (pid, born)
        if key not in self._places:
            try:
                environ = environ_of(pid)
                mark = environ.get("RECONCILE_ID", "")
                ours = os.getsid(pid) == pid and mark.startswith(self._token)
            except (OSError, ValueError):
                return ""
            known = "RECONCILE_SLOT" in environ and ours
            place = f"{environ['RECONCILE_WATCHER']}.{environ['RECONCILE_SLOT']}" if known else ""
            self._places[key] = place
        return self._places[key] if is_alive(pid) else ""


def check_who_lives(arena: Arena, losses: Losses) -> None:
    """Count, at rest, steady processes that are others by now, and slots with none or too many."""
    there = arena.pids()
    for name, pids in arena.steady.items():
        now = there[name]
        losses.note("lost", sum(now.get(slot) != pid for slot, pid in pids.items()), (name, now))
        arena.steady[name] = now
    first = there["pool"].get(1)
    losses.note("lost", int(first != arena.first), ("pool.1", arena.first, first))
    arena.first = first
    told = {pid for name in ("web", "counter", "pool") for pid in there[name].values()}
    real = {pid for pid in arena.it.marked() if _role(pid) in {"web", "counter", "pool"}}
    losses.note("doubled", len(real - told), ("not told", real - told))
    losses.note("lost", len(told - real), ("not there", told - real))


def check_children(arena: Arena, losses: Losses) -> None:
    """Count, at rest, children that outlived their process, and more than one program in the background."""
    truth = arena.truth()
    mains = {each.name: each for each in truth if each.what == "start"}
    children = [each for each in truth if each.what == "child" and is_there(each)]
    orphans = [
        each for each in children if each.watcher == "forker" and not is_there(mains[each.name])
    ]
    losses.note("strays", len(orphans), ("without their parent", orphans))
    daemons = [each for each in children if each.watcher == "background"]
    losses.note("strays", max(len(daemons) - 1, 0), ("in the background", daemons))


def check_nothing_is_left(arena: Arena, losses: Losses) -> None:
    """Count what outlived the shutdown, marked or not."""
    told = [each for each in arena.truth() if each.what in {"start", "child"}]
    left = sorted({each.numbers[0] for each in told if is_there(each)})
    losses.note("strays", len(left), ("after the shutdown", left))
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def _role(pid: int) -> str:
    try:
        return environ_of(pid).get("RECONCILE_WATCHER", "")
    except OSError:
        return ""


def check_births(arena: Arena, losses: Losses) -> None:
    """Count lives of mortals that the manager did not count, or counted twice; each life begins once.

    A life that began and ended while no keeper lived may be missing: the keeper that was killed wrote down
    that it would start it, and nobody can tell whether it did.
    """

    def births(*, seen: bool = False) -> Counter[str]:
        truth = [each for each in arena.truth() if each.watcher == "mortal"]
        ends_ns = {each.name: each.at_ns for each in truth if each.what == "end"}
        return Counter(
            each.place
            for each in truth
            if each.what == "start"
            and not (seen and arena.was_unwatched_all(each.at_ns, ends_ns.get(each.name)))
        )

    def counted() -> Counter[str]:
        slots = arena.it.watcher("mortal")["slots"]
        return Counter({f"mortal.{s['slot']}": s["restarts"] + 1 for s in slots})

    def agree() -> bool:
        before, told, after = births(seen=True), counted(), births()
        return all(before[place] <= told[place] <= after[place] for place in after)

    try:
        until(agree, "births are counted", within_s=10)
    except AssertionError:
        told, real = counted(), births()
        losses.note("wrong", sum(abs(told[p] - real[p]) for p in real), (dict(told), dict(real)))


def check_runs(arena: Arena, losses: Losses) -> None:
    """Compare the ledger of the job with what its processes say: each was fired once, each exit is its own."""
    truth = [each for each in arena.truth() if each.watcher == "batch"]
    ends = {each.name: each for each in truth if each.what == "end"}
    starts = [each for each in truth if each.what == "start"]
    fired = Counter((each.place, each.numbers[1]) for each in starts)
    twice = {key: number for key, number in fired.items() if number > 1}
    losses.note("fired_twice", sum(twice.values()) - len(twice), twice)
    rows = arena.runs()
    _check_lost(arena, rows, losses)
    for place in sorted({each.place for each in starts}):
        real = [ends[each.name] for each in starts if each.place == place]
        slot = int(place.partition(".")[2])
        told = sorted((r for r in rows if r["slot"] == slot), key=lambda r: r["generation"])
        _compare(arena, real, told, losses)


def _check_lost(arena: Arena, rows: list[dict[str, Any]], losses: Losses) -> None:
    """Count runs that are told as lost although a keeper lived from their firing until that was told."""
    since_ns = time.time_ns() - time.monotonic_ns()
    for row in rows:
        if row["outcome"] == "lost" and not arena.was_unwatched_between(
            row["fired_ns"] - since_ns, row["ended_ns"] - since_ns
        ):
            losses.note("wrong", 1, ("told as lost under a keeper's eyes", row))


def _compare(arena: Arena, real: list[Said], told: list[dict[str, Any]], losses: Losses) -> None:
    """Go through what really ended and what is told of it, in order.

    A row that is lost may stand for a process that ended while no keeper lived, or for none.
    """
    at, lost = 0, 0
    for row in [*told, None]:
        code = None if row is None or row["exit"] is None else row["exit"]["code"]
        if row is not None and code is None:
            lost += 1
            continue
        while at < len(real) and lost and real[at].numbers[0] != code:
            if not arena.was_unwatched(real[at].at_ns):
                break
            at, lost = at + 1, lost - 1
            losses.unknown += 1
        if row is not None and at < len(real) and real[at].numbers[0] == code:
            at += 1
        elif row is not None or at < len(real):
            losses.note("wrong", 1, ("told", row, "really", real[at : at + 3]))
            return
    losses.note("never_began", lost, ("slot", told[0]["slot"] if told else None, "runs", lost))


def check_lines(arena: Arena, losses: Losses) -> None:
    """Count numbered lines that are missing or doubled; each process says itself how many it wrote.

    What a process wrote last and nobody has read dies with it when no keeper lives: the pipe is gone. And
    what a keeper has read and not written yet dies with the keeper: a few lines on end of one process.
    """
    begun_ns = {each.name: each.at_ns for each in arena.truth() if each.what == "start"}
    seen: dict[str, list[int]] = defaultdict(list)
    for path in sorted((arena.it.state_dir / "logs").glob("*.log")):
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if number.isdecimal():
                seen[name].append(int(number))
    for end in (each for each in arena.truth() if each.what == "end"):
        numbers, last = seen.get(end.name, []), end.numbers[1]
        losses.lines += len(numbers)
        losses.note("doubled_lines", len(numbers) - len(set(numbers)), end)
        missing = sorted(set(range(1, last + 1)) - set(numbers))
        on_end = bool(missing) and missing[-1] - missing[0] + 1 == len(missing)
        lost_keeper = any(
            (begun_ns[end.name] <= begin and end.at_ns >= begin) or arena.was_unwatched(end.at_ns)
            for begin, _ in arena.unwatched
        )
        if on_end and lost_keeper and end.watcher not in arena.steady:
            losses.unread += len(missing)
        else:
            losses.note("missing_lines", len(missing), (end, missing[:5]))
        losses.note("wrong", int(numbers != sorted(numbers)), (end, "lines out of order"))
