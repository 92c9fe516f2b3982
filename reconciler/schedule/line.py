"""What a cron line may say: five fields, read as Debian's cron reads them; all else is refused with what to write.

Taken are numbers, the names of months and weekdays, lists, ranges, steps, `L` for the last day of the month and the
names from @hourly to @yearly. What other engines read each in its own way is refused: a sixth field, `?`, `W`, `H`,
`5#2`, `5/15`, ranges that wrap, steps beyond the field.
"""

from __future__ import annotations

import re
from typing import Final

from reconciler.model.value import Struct

NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class BadLine(ValueError):
    """A line that is refused: why, and what to write instead (empty: nobody knows)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class _Field(Struct, frozen=True):
    """One of the five fields: its numbers from `low` to `high`, of which `count` are different, and their names."""

    name: str
    low: int
    high: int
    count: int
    names: tuple[str, ...] = ()

    def number(self, word: str) -> int:
        """Return the number that a word stands for. Raises `BadLine`."""
        if word.lower() in self.names:
            return self.names.index(word.lower()) + self.low
        if not re.fullmatch("[0-9]{1,4}", word):
            raise BadLine(*self._not_a_number(word))
        if not self.low <= int(word) <= self.high:
            message = f"{self.name}: expected {self.low} to {self.high}, found '{word}'"
            raise BadLine(message)
        return int(word)

    def _not_a_number(self, word: str) -> tuple[str, str]:
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        message = (
            f"{self.name}: expected a number from {self.low} to {self.high}{names}, found '{word}'"
        )
        hint = "write: *" if word == "?" else ""
        if len(word) > 3 and word[:3].lower() in self.names:
            hint = f"write: {word[:3].lower()}"
        elif word.upper() == "H":
            hint = "write a number; the field jitter spreads jobs over time"
        elif re.fullmatch(r"[0-9]*W", word, re.IGNORECASE):
            hint = "a day near a weekday cannot be said: let the command look at the date"
        elif "#" in word or re.fullmatch(r"[0-9A-Z]+L", word, re.IGNORECASE):
            hint = "the nth weekday cannot be said: let the command look at the date"
        elif "~" in word:
            hint = "the field jitter spreads jobs over time"
        return message, hint


FIELDS: Final = (
    _Field("minute", 0, 59, 60),
    _Field("hour", 0, 23, 24),
    _Field("day of the month", 1, 31, 31),
    _Field("month", 1, 12, 12, _MONTHS),
    _Field("weekday", 0, 7, 7, _WEEKDAYS),
)
_DAY: Final = FIELDS[2]


def plain(text: str) -> str:
    """Return the five fields of a line, in place of @daily and the like. Raises `BadLine` when it is none."""
    line = " ".join(text.split())
    if line.startswith("@"):
        return _named(line)
    words = line.split()
    if words and re.match(r"(CRON_)?TZ=", words[0]):
        zone = words[0].partition("=")[2]
        message = "the time zone is a field of its own"
        raise BadLine(message, f"write: timezone: {zone}")
    if len(words) != len(FIELDS):
        names = "minute, hour, day of the month, month and weekday"
        hint = 'write: "0 3 * * *"' if len(words) < len(FIELDS) else _HINT_OF_MORE
        message = f"expected five fields ({names}), found {len(words)}"
        raise BadLine(message, hint)
    for field, word in zip(FIELDS, words, strict=True):
        _check(field, word)
    return line


_HINT_OF_MORE: Final = (
    "a line has no seconds and no year; every: 10s fires more often than each minute"
)


def _named(name: str) -> str:
    if name.lower() in NAMES:
        return NAMES[name.lower()]
    message = f"expected one of {', '.join(NAMES)}, found '{name}'"
    hint = ""
    if name == "@reboot":
        hint = "write run_at_start: true; a job without schedule is fired by a boot, too"
    elif name.startswith("@every"):
        hint = f"write every: {name.removeprefix('@every').strip() or '1h'} in place of cron"
    raise BadLine(message, hint)


def _check(field: _Field, word: str) -> None:
    for term in word.split(","):
        base, slash, step = term.partition("/")
        if not (field is _DAY and term.upper() == "L"):
            _check_range(field, base, step)
        if not slash:
            continue
        if not re.fullmatch("[0-9]{1,4}", step) or not int(step):
            message = f"{field.name}: expected a step from 1 up after '/', found '{step}'"
            raise BadLine(message)
        if int(step) > field.count:
            message = f"{field.name}: a step of {step} leads beyond the field: '{term}' is '{base}/{field.count}'"
            raise BadLine(message, "for such a period write every, such as every: 90m")


def _check_range(field: _Field, base: str, step: str) -> None:
    if base == "*":
        return
    first, dash, last = base.partition("-")
    low = field.number(first)
    if not dash:
        if step:
            message = f"{field.name}: a step needs a range, found '{base}/{step}'"
            raise BadLine(message, f"write: {base}-{field.high}/{step}")
        return
    if low > field.number(last):
        message = f"{field.name}: the range '{base}' ends before it begins"
        raise BadLine(message, f"write: {_unwrapped(field, first, last)}")


def _unwrapped(field: _Field, first: str, last: str) -> str:
    """Return a range that leads over the end of the field as two that do not."""
    names = field.names if not first.isdigit() else ()
    ends = field.low, field.low + field.count - 1
    low, high = (names[end - field.low] if names else str(end) for end in ends)
    before = high if field.number(first) >= ends[1] else f"{first}-{high}"
    after = low if field.number(last) == ends[0] else f"{low}-{last}"
    return f"{before},{after}".lower()
