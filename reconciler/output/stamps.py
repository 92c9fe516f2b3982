"""The time that stands before a line of output where `logs.timestamps` asks for it, and how it is found there again.

`True` is UTC, `local` has its offset from UTC, `unix` are seconds since 1970, each with microseconds: these are read
again. Any other text is a format of strftime(3), in local time, with `%f` for microseconds; whose times are not known.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_FOUND: Final = re.compile(
    rb"(?:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(?:Z|[+-]\d\d:\d\d))|(\d{1,11})\.(\d{6})) "
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def stamp(wall_ns: int, form: str | bool = True) -> bytes:
    """Return a time as it stands before a line."""
    second, micros = divmod(wall_ns // 1000, 10**6)
    if form is True or form in {"unix", "local"}:
        before, after = _around_micros(second, form)
        return b"%s.%06d%s" % (before, micros, after)
    local = datetime.fromtimestamp(second, UTC).astimezone().replace(microsecond=micros)
    return local.strftime(str(form)).encode(errors="backslashreplace")


@lru_cache(maxsize=4)
def _around_micros(second: int, form: str | bool) -> tuple[bytes, bytes]:
    """Return what stands before and behind the microseconds, the same for all lines of a second."""
    if form == "unix":
        return b"%d" % second, b""
    time = datetime.fromtimestamp(second, UTC)
    if form is True:
        return time.strftime("%Y-%m-%dT%H:%M:%S").encode(), b"Z"
    text = time.astimezone().isoformat()
    return text[:19].encode(), text[19:].encode()


def is_local(form: str | bool) -> bool:
    """Tell whether times of this form are in the zone of the machine."""
    return isinstance(form, str) and form != "unix"


def time_of(line: bytes) -> int | None:
    """Return the time before a line (wall clock, nanoseconds), None where there is none that is known."""
    found = _FOUND.match(line)
    if found is None:
        return None
    if found[1] is None:
        return int(found[2]) * 10**9 + int(found[3]) * 1000
    try:
        return (datetime.fromisoformat(found[1].decode()) - _EPOCH) // _MICROSECOND * 1000
    except ValueError:  # such as the 30th of February: it looks like one only
        return None
