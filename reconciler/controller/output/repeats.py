"""Lines of the own log that come again and again: the first are written, the others are counted.

A service that dies a hundred times a second says the same two things each time. Each key has a window that
begins with its first line; what does not fit becomes one line with a number when the window ends. While it
goes on the windows grow longer, so that a crash loop writes a few lines an hour.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from reconciler.model.units import MINUTE_NS, SECOND_NS
from reconciler.model.value import Part, field

Key: TypeAlias = tuple[object, ...]
"""Lines with the same key are repeats."""

BURST: Final = 5
"""Lines of one key that are written one by one in a window."""
FIRST_WINDOW_NS: Final = 10 * SECOND_NS
LAST_WINDOW_NS: Final = 10 * MINUTE_NS
MAX_KEYS: Final = 20_000
"""Keys that are told apart: two for each of 10,000 watchers. When there are more, all windows end."""


class _Window(Part):
    ends_ns: int
    length_ns: int
    written: int = 1
    counted: int = 0


class Repeats(Part):
    """Tells which lines are written, and what became of the others."""

    next_ns: int | None = None
    """When counted lines are to be told next, None while there are none."""
    _windows: dict[Key, _Window] = field(default_factory=dict)

    def passes(self, key: Key, now_ns: int) -> bool:
        """Tell whether a line is to be written; otherwise it is counted."""
        window = self._windows.get(key)
        if window is None or (window.ends_ns <= now_ns and not window.counted):
            self._windows[key] = _Window(now_ns + FIRST_WINDOW_NS, FIRST_WINDOW_NS)
            return True
        if window.written < BURST:
            window.written += 1
            return True
        window.counted += 1
        if window.counted == 1:
            self.next_ns = min(self.next_ns or window.ends_ns, window.ends_ns)
        return False

    def ended(self, now_ns: int) -> list[tuple[Key, int, int]]:
        """Return what was counted in windows that are over: key, number of lines, and length (ns)."""
        is_full = len(self._windows) > MAX_KEYS
        if not is_full and (self.next_ns is None or now_ns < self.next_ns):
            return []
        found = []
        for key, window in tuple(self._windows.items()):
            if not is_full and window.ends_ns > now_ns:
                continue
            if window.counted:
                found.append((key, window.counted, window.length_ns))
                length_ns = min(window.length_ns * 2, LAST_WINDOW_NS)
                self._windows[key] = _Window(now_ns + length_ns, length_ns, written=BURST)
            else:
                del self._windows[key]
        if is_full:
            self._windows.clear()
        ends = (each.ends_ns for each in self._windows.values() if each.counted)
        self.next_ns = min(ends, default=None)
        return found
