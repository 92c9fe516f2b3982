"""The spec is read while its files come to rest: what was read counts if they have not changed by then.

Reading a large spec takes as long as many files rest. Its answer says which bytes were read, so that it is known
whether a reading that begins now would say the same; else the files are read once more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import cause_of
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.loader import Loaded, Loader, Reading
from reconciler.controller.specs.snapshot import Snapshot
from reconciler.controller.specs.source import SourceWatch
from reconciler.model.value import Part

PART_OF_QUIET_PERIOD: Final = 5
"""After this part of the time that files must rest they are read; the reader imports for about as long."""


class EarlyReader(Part):
    """The one reader of saved files: begun early, and asked early once for each time that the files change."""

    source: SourceWatch
    in_force: InForce
    reactor: Reactor
    lanes: Lanes
    put_off: Callable[[str], None]
    """Takes why there is no reader just now."""
    loader: Loader | None = None
    _seen: Snapshot | None = None
    """How the files looked when the reader was asked, None: it was not."""
    _read: Reading | None = None
    """What it answered before anybody wanted it."""
    _then: Callable[[Reading], None] | None = None
    """Who wants the answer."""
    _no_room: Callable[[], None] = lambda: None
    _in_vain: bool = False
    """The files have changed while they were read early: they are not, as long as they have not come to rest."""

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody waits for what the files say."""
        return self._then is not None

    def prepare(self, seen: Snapshot) -> None:
        """Have a reader ready for files that have changed and look so by now, and read them when they seem to rest."""
        if self.is_wanted:
            self.drop()  # what it reads is of yesterday
        elif self._seen is not None and self._seen != seen:
            self.drop()
            self._in_vain = True
        if seen.missing or self._seen is not None:
            return
        self.loader = self.loader or self._new()
        if not self._in_vain:
            rest_ns = self.in_force.settings.quiet_period // PART_OF_QUIET_PERIOD
            self.reactor.at(self, clock.now_ns() + rest_ns, partial(self._ask, seen))

    def read(
        self, seen: Snapshot, then: Callable[[Reading], None], no_room: Callable[[], None]
    ) -> None:
        """Call `then` with what the files say that look so by now, or `no_room` when no reader can be started."""
        self._in_vain = False
        if self._seen != seen:
            if self._seen is not None:
                self.drop()
            self.loader = self.loader or self._new()
            if self.loader is None:
                no_room()
                return
        self._then, self._no_room = then, no_room
        if self._seen is None:
            self._ask(seen)
        elif self._read is not None:
            self._answered(seen, self._read, is_early=True)

    def drop(self) -> None:
        """End the reader, and forget what it has read."""
        self.reactor.at(self, None, self.drop)
        if self.loader is not None:
            self.loader.cancel()
        self.loader, self._seen, self._read, self._then = None, None, None, None
        self._in_vain = False

    def _new(self) -> Loader | None:
        try:
            return Loader(self.reactor, self.lanes)
        except OSError as error:
            cause = cause_of(error)
            self.put_off(
                f"cannot start the reader of the spec: {cause}; tried again until it works"
            )
            return None

    def _ask(self, seen: Snapshot) -> None:
        self.reactor.at(self, None, self.drop)
        if self.loader is not None:
            self._seen = seen
            answered = partial(self._answered, seen, is_early=not self.is_wanted)
            self.loader.ask(self.source.source, answered, self.in_force.spec)

    def _answered(self, seen: Snapshot, reading: Reading, *, is_early: bool) -> None:
        then = self._then
        if then is None:
            self._read = reading
        elif is_early and not _is_of(reading, seen):
            no_room = self._no_room
            self.drop()
            self.read(seen, then, no_room)
        else:
            self.loader, self._seen, self._read, self._then = None, None, None, None
            then(reading)


def _is_of(reading: Reading, seen: Snapshot) -> bool:
    """Tell whether these very files were read, and the spec is valid: mistakes are not told before the files rest."""
    return isinstance(reading, Loaded) and all(
        path in seen.files and seen.files[path].digest == each.digest
        for path, each in reading.files.items()
    )
