"""What shall be reached, each as a figure of ours and a limit that is made of the others' in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from bench.deaths import FEW
from bench.managers import Floor, Reconcile
from bench.peers import Circus, Supervisor

if TYPE_CHECKING:
    from bench.lives import Effort
    from bench.samples import Samples

OURS: Final = Reconcile.name
FLOOR: Final = Floor.name
CIRCUS: Final = Circus.name
SUPERVISOR: Final = Supervisor.name
HEAVY_MIB: Final = 8.0
"""More than this, and what is held for one writer is no bounded buffer."""

Value: TypeAlias = float | None
"""None: it was not measured, since somebody is not installed or the run is a small one."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A figure and its limit. `is_floor`: the figure shall not be below the limit, instead of above."""

    what: str
    text: str
    figure: float
    limit: float
    unit: str
    is_floor: bool = False

    @property
    def met(self) -> bool:
        """Tell whether it is reached."""
        return self.figure >= self.limit if self.is_floor else self.figure <= self.limit


class _Judge:
    """Collects the reaches of which both sides were measured."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.found: list[Reach] = []

    def at_most(self, what: str, text: str, figure: Value, limit: Value, unit: str) -> None:
        if figure is not None and limit is not None:
            self.found.append(Reach(what, text, figure, limit, unit))

    def at_least(self, what: str, text: str, figure: Value, limit: Value, unit: str) -> None:
        if figure is not None and limit is not None:
            self.found.append(Reach(what, text, figure, limit, unit, is_floor=True))

    def ours(self, what: str) -> Value:
        return self.samples.median(what, OURS)

    def theirs(self, who: str, what: str, times: float = 1.0, plus: float = 0.0) -> Value:
        value = self.samples.median(what, who)
        return None if value is None else value * times + plus


def judge(samples: Samples, effort: Effort) -> list[Reach]:
    """Return every reach that can be judged."""
    of = _Judge(samples)
    _boot_and_respawn(of, effort)
    _deaths_and_load(of, effort)
    _idle_and_memory(of, effort)
    _status_and_edits(of, effort)
    _output(of, effort)
    _trouble(of, effort)
    return of.found


def _boot_and_respawn(of: _Judge, effort: Effort) -> None:
    most = effort.most
    first, hundred = "first_ms warm", "up_ms@100"
    limit = of.theirs(CIRCUS, first, 0.6)
    of.at_most("first process of 10", "0.6 x Circus", of.ours(first), limit, "ms")
    limit = of.theirs(CIRCUS, hundred, 0.35)
    of.at_most("100 up", "0.35 x Circus", of.ours(hundred), limit, "ms")
    up = f"up_ms@{most}"
    title = f"{most:,} up"
    of.at_most(title, "1.5 x floor + 200 ms", of.ours(up), of.theirs(FLOOR, up, 1.5, 200), "ms")
    for who in (CIRCUS, SUPERVISOR):
        of.at_most(title, f"a sixth of {who}", of.ours(up), of.theirs(who, up, 1 / 6), "ms")
    for size in effort.sizes:
        what = f"respawn_ms@{size}"
        title = f"respawn at {size:,}"
        of.at_most(f"{title}, p50", "2 x floor", of.ours(what), of.theirs(FLOOR, what, 2), "ms")
        theirs = of.samples.p99(what, FLOOR)
        limit = None if theirs is None else 4 * theirs
        of.at_most(f"{title}, p99", "4 x floor", of.samples.p99(what, OURS), limit, "ms")
    stop = f"stop_ms@{most}"
    of.at_most(f"stop {most:,}", "3 x floor", of.ours(stop), of.theirs(FLOOR, stop, 3), "ms")

    many = f"up_ms@{effort.reload_size}"
    title, limit = f"{effort.reload_size:,} up as slots of one", of.theirs(OURS, many, 1.3)
    of.at_most(title, "1.3 x as watchers", of.ours(f"{many} slots"), limit, "ms")
    one = f"exit_ms@{effort.reload_size}"
    title, limit = f"one exit among {effort.reload_size:,} slots", of.theirs(OURS, one, plus=2)
    of.at_most(title, "as a watcher + 2 ms", of.ours(f"{one} slots"), limit, "ms")
    spawning, path = of.ours("graph_ms without"), of.ours("graph_ms path")
    limit = None if spawning is None or path is None else 1.2 * (spawning + path)
    title = f"{effort.graph} that depend on each other"
    of.at_most(title, "1.2 x (longest path + spawning)", of.ours("graph_ms"), limit, "ms")


def _deaths_and_load(of: _Judge, effort: Effort) -> None:
    for origin, times in (("own", 1.2), ("adopted", 2.0)):
        few, many = (f"death_cpu_ms@{size} {origin}" for size in (FEW, effort.children))
        title, limit = f"a death among {effort.children:,}, {origin}", of.theirs(OURS, few, times)
        of.at_most(title, f"{times:g} x among {FEW}", of.ours(many), limit, "keeper's ms")
    loaded, quiet = "loaded respawn_ms", "loaded respawn_ms quiet"
    title = f"respawn beside {effort.loud} writers"
    of.at_most(f"{title}, p50", "3 x quiet", of.ours(loaded), of.theirs(OURS, quiet, 3), "ms")
    theirs = of.samples.p99(quiet, OURS)
    limit = None if theirs is None else 3 * theirs
    of.at_most(f"{title}, p99", "3 x quiet", of.samples.p99(loaded, OURS), limit, "ms")
    asked, unasked = of.ours("asked cpu%"), of.ours("unasked cpu%")
    limit = None if unasked is None else unasked + 15
    title = f"{effort.probed} slots asked each second"
    of.at_most(title, "unasked + 15 %", asked, limit, "% of a core")
    limit = of.theirs(OURS, "unasked respawn_ms", 3)
    of.at_most(f"{title}, respawn", "3 x unasked", of.ours("asked respawn_ms"), limit, "ms")


def _idle_and_memory(of: _Judge, effort: Effort) -> None:
    most, least = effort.most, min(effort.sizes)
    idle, hand = f"idle@{most}", f"idle by hand@{most}"
    title = f"idle at {most:,}"
    of.at_most(f"{title}, keeper", "0", of.ours(f"{idle} keeper wakes"), 0, "wake-ups/s")
    of.at_most(f"{title}, controller's loop", "0", of.ours(f"{idle} loop wakes"), 0, "wake-ups/s")
    of.at_most(f"{title}, file watcher", "0", of.ours(f"{idle} thread wakes"), 0, "wake-ups/s")
    of.at_most(f"{title}, apply.auto: false", "0", of.ours(f"{hand} wakes"), 0, "wake-ups/s")
    for size in sorted({least, most}):
        what = f"memory_mib@{size}"
        limit = of.theirs(CIRCUS, what, 0.9)
        of.at_most(f"memory at {size:,}", "0.9 x Circus", of.ours(what), limit, "MiB")
        after, limit = of.ours(f"{what} after a death"), of.theirs(CIRCUS, what)
        of.at_most(f"memory at {size:,}, one controller later", "Circus", after, limit, "MiB")
    few, many = of.ours(f"memory_mib@{least}"), of.ours(f"memory_mib@{most}")
    each = (
        None
        if few is None or many is None or most == least
        else (many - few) * 1024 / (most - least)
    )
    of.at_most("memory per further watcher", "6 KiB", each, 6, "KiB")


def _status_and_edits(of: _Judge, effort: Effort) -> None:
    most = effort.most
    status = f"status_ms@{most}"
    limit = of.theirs(CIRCUS, status, 0.6)
    of.at_most(f"status of {most:,}, socket", "0.6 x Circus", of.ours(status), limit, "ms")
    few, one = f"status_one_ms@{min(effort.sizes)}", f"status_one_ms@{most}"
    if most > min(effort.sizes):
        title, limit = f"status of one among {most:,}", of.theirs(OURS, few, 1.2)
        of.at_most(title, f"1.2 x among {min(effort.sizes)}", of.ours(one), limit, "ms")
    for name, times in (("status", 4.5), ("version", 3.0)):
        limit = of.theirs(OURS, "command_ms bare", times)
        title, text = f"{name} command at 10", f"{times:g} x a bare Python"
        of.at_most(title, text, of.ours(f"command_ms {name}"), limit, "ms")
    command = "status_command_ms@100"
    of.at_most(
        "status command at 100",
        "0.8 x Circus",
        of.ours(command),
        of.theirs(CIRCUS, command, 0.8),
        "ms",
    )
    add = f"add_ms@{most}"
    of.at_most(
        f"one added to {most:,}, many files",
        "a quarter of Circus",
        of.ours(add),
        of.theirs(CIRCUS, add, 0.25),
        "ms",
    )
    of.at_most(
        f"one added to {most:,}, one file",
        "Circus",
        of.ours(f"{add} in one file"),
        of.theirs(CIRCUS, add),
        "ms",
    )
    # In one file, which is large enough that the few bytes of the notification itself do not count.
    vain = f"vain@{most} in one file read"
    of.at_most("save in vain: bytes read", "the file once", of.ours(vain), 1.2, "x its size")


def _output(of: _Judge, effort: Effort) -> None:
    speed = "flat out MB/s"
    of.at_least(
        "output flat out", "supervisor", of.ours(speed), of.theirs(SUPERVISOR, speed), "MB/s"
    )
    of.at_most("output flat out, missing", "0", of.ours("flat out missing"), 0, "lines")
    of.at_most("output flat out, cut", "0", of.ours("flat out cut"), 0, "lines")
    of.at_most(
        "output flat out, growth", "bounded", of.ours("flat out grown MiB"), HEAVY_MIB, "MiB"
    )
    times = "flat out with times MB/s"
    of.at_least(
        "output with timestamps",
        "3 x Circus",
        of.ours(times),
        of.theirs(CIRCUS, times, 3),
        "MB/s",
    )
    many = f"{effort.writers} writers"
    title = f"{effort.writers} x 1,000 lines/s"
    of.at_most(f"{title}, missing", "0", of.ours(f"{many} missing"), 0, "lines")
    of.at_most(
        title,
        "half of Circus",
        of.ours(f"{many} cpu%"),
        of.theirs(CIRCUS, f"{many} cpu%", 0.5),
        "% of a core",
    )


def _trouble(of: _Judge, effort: Effort) -> None:
    crashing = f"{effort.crashers} crashing"
    of.at_most(
        crashing,
        "supervisor",
        of.ours(f"{crashing} cpu%"),
        of.theirs(SUPERVISOR, f"{crashing} cpu%"),
        "% of a core",
    )
    quiet = of.samples.p99(f"{crashing} quiet status_ms", OURS)
    of.at_most(
        f"{crashing}, status p99",
        "5 x quiet",
        of.samples.p99(f"{crashing} status_ms", OURS),
        None if quiet is None else 5 * quiet,
        "ms",
    )
    reload = f"reload@{effort.reload_size} respawn_ms"
    of.at_most(
        f"reload of {effort.reload_size:,}: latest respawn",
        "30 ms",
        of.samples.most(reload, OURS),
        30,
        "ms",
    )
