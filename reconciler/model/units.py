"""How the words of the spec language read: durations, sizes, modes, signals, names.

Each kind of text has a pure parser that raises `ValueError` with what was expected, and a marker that
stands in the annotations of `spec`, for the border (`specfile`) to read by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from reconciler.model.value import Struct

MICROSECOND_NS: Final = 1_000
MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

PERIODS_NS: Final = {"hourly": HOUR_NS, "daily": DAY_NS, "weekly": 7 * DAY_NS}
"""Periods that have a name."""

DURATION_UNITS_NS: Final = {
    "us": MICROSECOND_NS,
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "m": MINUTE_NS,
    "h": HOUR_NS,
    "d": DAY_NS,
}
SIZE_UNITS_BYTES: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
MAX_DURATION_NS: Final = 3650 * DAY_NS
MAX_SIZE_BYTES: Final = 2**50
MAX_FORMAT_CHARACTERS: Final = 100
"""Of the form of a time that stands before each line."""
MAX_SHARE: Final = 10_000

SIGNAL_NAMES: Final = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)  # fmt: skip
"""Signal names of signal(7) on Linux, without SIG, by their numbers from 1 on (MIPS, SPARC and Alpha have others)."""

SLOT_PATTERN: Final = r"slot(?P<step>\+[0-9]{1,9}|-1)?(?::0(?P<width>[1-9]))?"
"""What `${...}` may hold of a slot's number: a number that is added, or 1 taken away (slots count from 1), and a width
that is filled up with zeros."""
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

# Compiled when a text is read: most programs read none.
_DURATION_PART: Final = r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)"
_SIZE: Final = r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)"
_FORMULA: Final = r"cpus(?: ?([*/]) ?([1-9]\d{0,3}))?(?: ?([+-]) ?([1-9]\d{0,3}))?"
_DIRECTIVE: Final = r"%[aAbBcdDeFfGHhIjmMpRSTuUVwWxXyYzZ%]"
_REALTIME: Final = r"RTM(IN\+(\d{1,2})|AX-(\d{1,2})|IN|AX)"


def parse_duration_ns(value: object, *, bare_seconds: bool = False) -> int:
    """Return the nanoseconds of a duration such as `500ms`, `30s` or `1h30m`.

    `bare_seconds` also accepts a bare number of seconds, for the fields that were seconds in Circus.
    Raises `ValueError` when it is something else, negative or longer than ten years.
    """
    expected = "a duration such as 500ms, 30s or 1h30m"
    if bare_seconds and isinstance(value, int | float) and not isinstance(value, bool):
        in_reach = abs(value) < MAX_DURATION_NS  # not so .nan and .inf, which cannot be rounded
        nanoseconds = round(value * SECOND_NS) if in_reach else -1
    elif value == 0 and not isinstance(value, bool):
        nanoseconds = 0
    elif isinstance(value, str) and value:
        parts = list(re.finditer(_DURATION_PART, value))
        if "".join(part.group() for part in parts) != value:
            msg = f"expected {expected}"
            raise ValueError(msg)
        # Digits enough make an infinite number, which cannot be rounded.
        amounts = [(min(float(p[1]), MAX_DURATION_NS), DURATION_UNITS_NS[p[2]]) for p in parts]
        nanoseconds = sum(round(amount * unit) for amount, unit in amounts)
    else:
        msg = f"expected {expected}, with its unit"
        raise ValueError(msg)
    if not 0 <= nanoseconds <= MAX_DURATION_NS:
        msg = "expected a duration from 0s to 3650d"
        raise ValueError(msg)
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Return a short text for people, in at most two units: `1h30m`, `12s`, `1.5s`, `250ms`."""
    if nanoseconds < SECOND_NS:
        return f"{nanoseconds // MILLISECOND_NS}ms"
    if nanoseconds < 10 * SECOND_NS and nanoseconds % SECOND_NS >= 100 * MILLISECOND_NS:
        return f"{nanoseconds / SECOND_NS:.1f}s"
    for unit, size, lesser, lesser_size in (
        ("d", DAY_NS, "h", HOUR_NS),
        ("h", HOUR_NS, "m", MINUTE_NS),
        ("m", MINUTE_NS, "s", SECOND_NS),
    ):
        if nanoseconds >= size:
            rest = nanoseconds % size // lesser_size
            return f"{nanoseconds // size}{unit}" + (f"{rest}{lesser}" if rest else "")
    return f"{nanoseconds // SECOND_NS}s"


def parse_period_ns(value: object) -> int:
    """Return a period that begins at the same times of every day: `daily`, `6h`, `2d`.

    Raises `ValueError` for one that is shorter than a minute, or that a day is no multiple of, nor it of a day.
    """
    period_ns = PERIODS_NS.get(value) if isinstance(value, str) else None
    if period_ns is None:
        expected = (
            "expected hourly, daily, weekly, whole days, or a part of a day such as 15m or 6h"
        )
        try:
            period_ns = parse_duration_ns(value)
        except ValueError:
            raise ValueError(expected) from None
        if period_ns < MINUTE_NS or (DAY_NS % period_ns and period_ns % DAY_NS):
            raise ValueError(expected)
    return period_ns


def format_period(period_ns: int) -> str:
    """Return a period as users write it."""
    named = (name for name, each_ns in PERIODS_NS.items() if each_ns == period_ns)
    return next(named, format_duration(period_ns))


def parse_size_bytes(value: object) -> int:
    """Return the bytes of a size such as `100MiB` or `512KB`; a bare `0` needs no unit."""
    expected = "a size such as 64KiB, 100MiB or 1GB"
    if value == 0 and not isinstance(value, bool):
        return 0
    match = re.fullmatch(_SIZE, value) if isinstance(value, str) else None
    if match is None or match[2] not in SIZE_UNITS_BYTES:
        msg = f"expected {expected}"
        raise ValueError(msg)
    size = round(min(float(match[1]), 2 * MAX_SIZE_BYTES) * SIZE_UNITS_BYTES[match[2]])
    if size > MAX_SIZE_BYTES:
        msg = "expected a size of at most 1048576GiB"
        raise ValueError(msg)
    return size


def parse_bytes(value: object) -> int:
    """Return the bytes of a whole number, or of a size such as `512MiB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_size_bytes(value)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 watcher`, `2 watchers`, `2 processes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def format_few(things: Sequence[object], most: int) -> str:
    """Return the first few of many: `a, b and 3 more`."""
    more = len(things) - most
    shown = ", ".join(map(str, things[:most]))
    return f"{shown} and {more} more" if more > 0 else shown


def format_size(size: int) -> str:
    """Return a size for people: `10MiB`, `512B`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= SIZE_UNITS_BYTES[unit]:
            amount = size / SIZE_UNITS_BYTES[unit]
            return f"{amount:.0f}{unit}" if amount == int(amount) else f"{amount:.1f}{unit}"
    return f"{size}B"


def parse_mode(value: object) -> int:
    """Return the permission bits of octal text such as `"0660"`, `"022"` or `0o22`."""
    if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,4}", value):
        return int(value.removeprefix("0o"), 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o7777:
        return value
    msg = 'expected an octal mode such as "0660" or "022"'
    raise ValueError(msg)


def format_mode(mode: int) -> str:
    """Return the octal text of a mode: `0660`."""
    return f"{mode:04o}"


def parse_signal(value: object) -> str:
    """Return the canonical name of a signal: `TERM`, also from `SIGTERM` or `term`; `RTMIN+1`.

    Numbers are refused: their meaning differs between machines, and the name reads better.
    """
    if isinstance(value, str):
        name = value.upper().removeprefix("SIG")
        if name in SIGNAL_NAMES or re.fullmatch(_REALTIME, name):
            return name
    msg = "expected a signal's name such as TERM, INT, QUIT, USR1 or RTMIN+1"
    raise ValueError(msg)


def signal_number(name: str) -> int | None:
    """Return the number of a signal, for an exit code; None when there is none of that name. RTMIN is glibc's."""
    if name in SIGNAL_NAMES:
        return 1 + SIGNAL_NAMES.index(name)
    realtime = re.fullmatch(_REALTIME, name)
    if realtime is None:
        return None
    return (
        64 - int(realtime[3] or 0) if realtime[1].startswith("AX") else 34 + int(realtime[2] or 0)
    )


def parse_percent(value: object) -> int:
    """Return the whole number of a percentage from `0%` to `100%`."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}%", value) and int(value[:-1]) <= 100:
        return int(value[:-1])
    msg = "expected a percentage from 0% to 100%"
    raise ValueError(msg)


class Formula(Struct, frozen=True):
    """A number of processes by that of the processors: `cpus`, `cpus*2`, `cpus/2`, `cpus*2+1`."""

    text: str
    factor: int = 1
    divisor: int = 1
    addend: int = 0

    def of(self, processors: int) -> int:
        """Return the number on a machine with so many processors: rounded down, and at least 1."""
        return max(1, processors * self.factor // self.divisor + self.addend)


def parse_formula(value: object) -> Formula:
    """Return the formula that a text is: `cpus`, times or divided by a whole number, plus or minus one.

    Raises `ValueError` when it is something else; what was expected depends on what else may stand there.
    """
    match = re.fullmatch(_FORMULA, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    operator, number, sign, addend = match.groups()
    text = "".join(match[0].split())
    factor, divisor = (int(number), 1) if operator == "*" else (1, int(number or 1))
    return Formula(text, factor, divisor, int(f"{sign}{addend}") if sign else 0)


def parse_cpu_percent(value: object) -> int:
    """Return a share of one processor, from `1%` on; two processors that are used up are `200%`."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}%", value) and int(value[:-1]) > 0:
        return int(value[:-1])
    msg = "expected a percentage of one processor, such as 90% or 150%"
    raise ValueError(msg)


def parse_timestamps(value: object) -> bool | str:
    """Return the form of a time: true (also for `iso`), false, `local`, `unix`, or a format of strftime(3).

    Raises `ValueError`, also for a format that not every C library knows.
    """
    if value == "iso":
        return True
    if isinstance(value, bool) or value in {"local", "unix"}:
        return bool(value) if isinstance(value, bool) else str(value)
    if not isinstance(value, str) or "%" not in value or not value.isprintable():
        msg = 'expected true, false, iso, local, unix or a format such as "%Y-%m-%d %H:%M:%S"'
        raise ValueError(msg)
    if len(value) > MAX_FORMAT_CHARACTERS:
        msg = f"expected a format of at most {MAX_FORMAT_CHARACTERS} characters"
        raise ValueError(msg)
    unknown = re.search(r"%.?", re.sub(_DIRECTIVE, "", value))
    if unknown is not None:
        msg = f"'{unknown[0]}' is no part of a time; see strftime(3), and %f for microseconds"
        raise ValueError(msg)
    return value


def parse_share(value: object) -> int | str:
    """Return a whole number from 0 to 10,000, or a percentage as text: `2`, `25%`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SHARE:
        return value
    try:
        return f"{parse_percent(value)}%"
    except ValueError:
        msg = f"expected a number from 0 to {MAX_SHARE}, or a percentage such as 25%"
        raise ValueError(msg) from None


def share_of(share: int | str, whole: int) -> int:
    """Return how many of `whole` a share is; of a percentage rounded down."""
    return share if isinstance(share, int) else whole * int(share[:-1]) // 100


def some_of(share: int | str, whole: int) -> int:
    """Return how many of `whole` a share is, at least one unless it is none at all."""
    return max(1, share_of(share, whole)) if share_of(share, 100) else 0


class Reads(Struct, frozen=True):
    """Marks a field whose value is read from text by `parse`; stands in `Annotated`.

    `kind` names the sort of text in the reference; `pattern` and `example` go to the JSON Schema;
    `also` are further JSON types that the text may come in.
    """

    kind: str
    parse: Callable[[object], object]
    example: str
    pattern: str | None = None
    also: tuple[str, ...] = ()

    def json_schema(self) -> dict[str, object]:
        """Return the JSON Schema of the text as users write it."""
        text: dict[str, object] = {"type": [*self.also, "string"] if self.also else "string"}
        if self.pattern:
            text["pattern"] = self.pattern
        return text | {"examples": [self.example]}


class Between(Struct, frozen=True):
    """Marks a whole number with bounds, both included."""

    low: int
    high: int


_DURATION_PATTERN = r"^(\d+(\.\d+)?(us|ms|s|m|h|d))+$"
DURATION = Reads("duration", parse_duration_ns, "30s", _DURATION_PATTERN)
SECONDS = Reads(
    "duration",
    lambda value: parse_duration_ns(value, bare_seconds=True),
    "30s",
    _DURATION_PATTERN,
    ("number",),
)
TIMESTAMPS = Reads("true, false or time format", parse_timestamps, "iso", also=("boolean",))
PERIOD = Reads("period", parse_period_ns, "daily")
SIZE = Reads("size", parse_size_bytes, "10MiB", r"^\d+(\.\d+)?\s*(B|KB|MB|GB|KiB|MiB|GiB)$")
BYTES = Reads("size", parse_bytes, "512MiB", SIZE.pattern, ("integer",))
MODE = Reads("octal mode", parse_mode, "0660", r"^(0o)?[0-7]{1,4}$", ("integer",))
SIGNAL = Reads("signal", parse_signal, "TERM", r"^(SIG)?[A-Za-z0-9+-]+$")
FORMULA = Reads(
    "formula", parse_formula, "cpus*2", r"^cpus( ?[*/] ?[1-9]\d{0,3})?( ?[+-] ?[1-9]\d{0,3})?$"
)
PERCENT = Reads("percentage", parse_percent, "50%", r"^\d{1,3}%$")
CPU_PERCENT = Reads("percentage of a processor", parse_cpu_percent, "150%", r"^\d{1,6}%$")
SHARE = Reads("number or percentage", parse_share, "25%", PERCENT.pattern, ("integer",))
