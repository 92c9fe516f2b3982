"""How every watcher is: one packed fragment for each, made again only when that watcher was touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.core.reconciler import Reconciler
from reconciler.model.status import WatcherStatus
from reconciler.model.value import Part, Struct, field
from reconciler.wire import rpc

MAX_PASSES: Final = 5
"""So often it is looked which fragments were touched while others were made."""


class _Fragment(Struct, frozen=True):
    lean: bytes
    """Without what is at its default: a fifth of the whole."""
    as_desired: bool
    changes_at_ns: int | None
    """When it becomes untrue by itself: `Starting` ends after a second of life."""


class StatusBoard(Part):
    """The fragments, and who is not as desired. `last_lines` says by slot what a watcher's processes wrote last."""

    core: Reconciler
    last_lines: Callable[[str], Mapping[int, str]]
    _fragments: dict[str, _Fragment] = field(default_factory=dict)
    _wholes: dict[str, bytes] = field(default_factory=dict)
    """Those of which somebody has asked for the whole, by fragments that have not changed since."""
    _all: dict[bool, bytes] = field(default_factory=dict)
    """All fragments put together, lean and whole, as long as none of them changes."""
    _stale: set[str] = field(default_factory=set)
    """Who has to be looked at before it is known again whether all is as desired."""
    _unwanted: set[str] = field(default_factory=set)
    """Who was not as desired when looked at last."""
    _changing: set[str] = field(default_factory=set)
    """Whose fragment becomes untrue by itself."""

    def touched(self, names: Iterable[str]) -> None:
        """Forget the fragments of watchers that may look different now."""
        self._all.clear()
        for name in names:
            self._fragments.pop(name, None)
            self._wholes.pop(name, None)
            self._stale.add(name)

    def as_desired(self, name: str) -> bool:
        """Tell whether a watcher is as desired."""
        return self._fragment(name).as_desired

    def unwanted(self) -> set[str]:
        """Return who is not as desired; only those are looked at that may have changed."""
        for name in self._changing - self._stale:  # who has gone meanwhile is stale
            self._fragment(name)
        while self._stale:
            name = self._stale.pop()
            if self.core.watcher_spec(name) is None:
                self._unwanted.discard(name)
                self._changing.discard(name)
                continue
            found = self._fragment(name)
            self._stale.discard(name)
            (self._unwanted.discard if found.as_desired else self._unwanted.add)(name)
            is_changing = found.changes_at_ns is not None
            (self._changing.add if is_changing else self._changing.discard)(name)
        return self._unwanted

    def waiting(self, names: Iterable[str]) -> list[dict[str, object]]:
        """Return what watchers wait for; those that are no more are left out."""
        statuses = [self.of(name) for name in names if self.core.watcher_spec(name) is not None]
        return [
            {"name": one.name, "state": one.state, "note": one.note, "stuck": _is_stuck(one)}
            for one in statuses
        ]

    def changes_at_ns(self, names: Iterable[str]) -> int | None:
        """Return when the status of one of these watchers changes without an event, None if never."""
        found = (self._fragment(name).changes_at_ns for name in names)
        return min((each for each in found if each is not None), default=None)

    def of(self, name: str) -> WatcherStatus:
        """Return how a watcher is just now."""
        return self.core.watcher_status(
            name, clock.now_ns(), clock.wall_offset_ns(), self.last_lines(name)
        )

    def made_ready(self, names: Iterable[str] | None, *, lean: bool = True) -> Iterator[None]:
        """Pack these watchers (None: all) and look at all that were touched, one at a time.

        Then `packed` has little to do; what is touched meanwhile is packed again, by that at the latest.
        """
        pack = self._lean if lean else self._whole
        for _ in range(MAX_PASSES):
            asked = self.core.names() if names is None else names
            missing = [n for n in asked if not self._is_ready(n, lean=lean)]
            touched = [n for n in self._stale if not self._is_ready(n, lean=True)]
            work = dict.fromkeys(touched, self._lean) | dict.fromkeys(missing, pack)
            for name, make in work.items():
                if self.core.has(name):
                    make(name)
                yield
            if not work:
                return

    def _is_ready(self, name: str, *, lean: bool) -> bool:
        return not _is_void(self._fragments.get(name)) and (lean or name in self._wholes)

    def packed(self, names: Iterable[str] | None = None, *, lean: bool = False) -> bytes:
        """Return how these watchers are, packed; None: all."""
        packed = self._lean if lean else self._whole
        if names is not None:
            return rpc.pack_array([*map(packed, names)])
        self.unwanted()
        if lean not in self._all:
            fragments = [
                *map(packed, self.core.names())
            ]  # each made anew forgets what was put together
            self._all[lean] = rpc.pack_array(fragments)
        return self._all[lean]

    def _lean(self, name: str) -> bytes:
        return self._fragment(name).lean

    def _whole(self, name: str) -> bytes:
        lean = self._fragment(name).lean
        if name not in self._wholes:
            self._wholes[name] = rpc.pack(rpc.unpack(WatcherStatus, lean))
        return self._wholes[name]

    def _fragment(self, name: str) -> _Fragment:
        found = self._fragments.get(name)
        if found is None or _is_void(found):
            now = clock.now_ns()
            status, offset = self.of(name), clock.wall_offset_ns()
            dues = [slot.next_ns - offset for slot in status.slots if slot.next_ns is not None]
            again = min((due for due in dues if due > now), default=None)
            found = _Fragment(rpc.pack_lean(status), status.as_desired, again)
            self._fragments[name] = found
            self._wholes.pop(name, None)
            self._all.clear()
            self._stale.add(name)
        return found


def _is_stuck(one: WatcherStatus) -> bool:
    """Tell whether nothing more comes of a watcher by itself, as what it depends on does not."""
    is_waiting = any(slot.stuck for slot in one.slots)
    return is_waiting and all(slot.stuck or slot.as_desired for slot in one.slots)


def _is_void(fragment: _Fragment | None) -> bool:
    """Tell whether a fragment is to be made, or made anew."""
    if fragment is None:
        return True
    return fragment.changes_at_ns is not None and fragment.changes_at_ns <= clock.now_ns()
