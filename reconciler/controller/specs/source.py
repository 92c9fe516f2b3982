"""The files of the spec's source as they lie on the disk: watched, and looked at off the loop, for a disk may hang."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.file_watch import Wanted, Watch
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.controller.specs.accepted import Accepted
from reconciler.controller.specs.snapshot import Snapshot, changed_wall_ns, folders_of, look
from reconciler.model.event import Event
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field
from reconciler.specfile.source import is_spec_name

Then = Callable[[Snapshot], None]

STEP_MS: Final = 250
"""How often the watching thread looks at its list: a change is noticed in two steps, while the file comes to rest."""
SHORTAGE_RETRY_NS: Final = SECOND_NS


class SourceWatch(Part):
    """Looks at the files; `newest` is how they looked last."""

    source: tuple[str, ...]
    accepted: Accepted
    reactor: Reactor
    lanes: Lanes
    border: Border
    tell: Callable[[Event], None]
    looked_for: Callable[[], tuple[str, ...]]
    """Says where further files may appear."""
    changed_wall_ns: int = 0
    """When the youngest change came about that a look has shown."""
    newest: Snapshot = field(default_factory=lambda: Snapshot({}))
    _watch: Watch | None = None
    _polls: str = ""
    """In which way files are watched when it is not the usual one."""
    _wanted_looks: list[Then] = field(default_factory=list)
    """Who waits for the next look."""
    _is_looking: bool = False

    # ---- watching ----

    def watch(self, others: frozenset[str], changed: Callable[[], None], *, wanted: bool) -> None:
        """Watch the source and `others`, or nothing when it is not `wanted`."""
        if self._watch is None:
            self._watch = Watch(STEP_MS, self.lanes.hand_over, self._is_polling, self.border.report)
            self.reactor.watch(self._watch, READ, lambda _: self._woken(changed))
        known = frozenset({*self._known(), *self.newest.files, *others})
        folders = Wanted(folders_of(self.source, known), known) if wanted else Wanted()
        self._watch.want(folders)

    @property
    def trouble(self) -> str:
        """Return what keeps saved files from being noticed as usual, empty when nothing does."""
        files = self.newest.files.items()
        lost = next((path for path, seen in files if seen.is_unlinked), None)
        if lost is None:
            return self._polls
        # It is mounted, and where it comes from its name stands for another file by now.
        return (
            f"{lost} was replaced outside of this mount, and the former file is seen here: no edit arrives any "
            "more; mount the folder that holds it, or mount it once more"
        )

    def _is_polling(self, message: str) -> None:
        self._polls = message
        if message:
            self.tell(Event("files.watching", message))

    def _woken(self, changed: Callable[[], None]) -> None:
        assert self._watch is not None
        self._watch.changed()
        changed()

    # ---- looking ----

    def look_now(self) -> Snapshot:
        """Snapshot, and wait for it."""
        self.newest = look(self.source, self._known(), self.newest)
        return self.newest

    def look_at(self, source: tuple[str, ...]) -> Snapshot:
        """Return how some source's files look now."""
        if source == self.source:
            return look(source, self._known(), self.newest)
        return look(source, (), Snapshot({}))

    def look_then(self, then: Then) -> None:
        """Look off the loop, and go on with what is seen.

        Of several that wait for a look, all get one that began after they asked.
        """
        self._wanted_looks.append(then)
        if not self._is_looking:
            self._start_looking()

    def take(self, seen: Snapshot) -> bool:
        """Take a look as the newest; tell whether anything has changed since the one before."""
        changed = changed_wall_ns(self.newest, seen, clock.wall_ns())
        before, self.newest = self.trouble, seen
        if self.trouble not in {before, self._polls}:
            self.tell(Event("files.watching", self.trouble))
        if changed is not None:
            self.changed_wall_ns = changed
        return changed is not None

    def _known(self) -> frozenset[str]:
        """Return the files that matter besides those of the source."""
        included = (path for path in self.newest.files if not is_spec_name(path))
        return frozenset(self.accepted.files).union(included, self.looked_for())

    def _start_looking(self) -> None:
        wanted, self._wanted_looks = self._wanted_looks, []
        self._is_looking = bool(wanted)
        if not wanted:
            return
        source, known, before = self.source, self._known(), self.newest

        def looked(seen: Snapshot) -> None:
            if self._watch is None:
                return  # everything ends
            if self.newest is before and self.source == source:
                for then in wanted:
                    then(seen)
            else:
                self._wanted_looks = wanted + self._wanted_looks  # others have looked meanwhile
            self._start_looking()

        def failed(said: str) -> None:
            message = f"cannot look at the spec files: {said}; tried again until it works"
            self.tell(Event("spec.failed", message))
            self._wanted_looks = wanted + self._wanted_looks
            due = clock.now_ns() + SHORTAGE_RETRY_NS
            self.reactor.at((self, "look"), due, self._start_looking)

        self.lanes.run("files", partial(look, source, known, before), looked, failed)

    def close(self) -> None:
        """End the thread."""
        if self._watch is not None:
            self.reactor.ignore(self._watch)
            self._watch.close()
            self._watch = None
