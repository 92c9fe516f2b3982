"""What `status` answers: one packed fragment per watcher, made again only when that watcher was touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from reconciler.controller import clock
from reconciler.controller.exchange import Answer
from reconciler.core.tell import orphan_message
from reconciler.model.status import OrphanStatus
from reconciler.model.value import Struct, replace
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reconciler.controller.exchange import Exchange, Later
    from reconciler.controller.loop import Controller
    from reconciler.controller.selection import Slots
    from reconciler.controller.usage import Usage
    from reconciler.model.process import Orphan
    from reconciler.model.status import SlotStatus, WatcherStatus


StoreState: TypeAlias = Literal["good", "failing", "damaged"]


class _Fragment(Struct, frozen=True):
    data: bytes
    as_desired: bool
    changes_at_ns: int | None
    """When it becomes untrue by itself: `Starting` ends after a second of life."""


class StatusBoard:
    """The fragments, and what is put around them."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._fragments: dict[str, _Fragment] = {}
        self._all: bytes | None = None
        """All fragments put together, as long as none of them changes."""
        self._stale: set[str] = set()
        """Who has to be looked at before it is known again whether all is as desired."""
        self._unwanted: set[str] = set()
        """Who was not as desired when looked at last."""
        self._changing: set[str] = set()
        """Whose fragment becomes untrue by itself."""

    def touched(self, names: Iterable[str]) -> None:
        """Forget the fragments of watchers that may look different now."""
        self._all = None
        for name in names:
            self._fragments.pop(name, None)
            self._stale.add(name)

    def as_desired(self, name: str) -> bool:
        """Tell whether a watcher is as desired."""
        return self._fragment(name).as_desired

    def settled(self) -> bool:
        """Tell whether every watcher is as desired; only those are looked at that may have changed."""
        for name in self._changing - self._stale:  # who has gone meanwhile is stale
            self._fragment(name)
        while self._stale:
            name = self._stale.pop()
            if self._controller.reconciler.watcher_spec(name) is None:
                self._unwanted.discard(name)
                self._changing.discard(name)
                continue
            found = self._fragment(name)
            self._stale.discard(name)
            (self._unwanted.discard if found.as_desired else self._unwanted.add)(name)
            is_changing = found.changes_at_ns is not None
            (self._changing.add if is_changing else self._changing.discard)(name)
        return not self._unwanted

    def unwanted(self) -> list[str]:
        """Return the watchers that are not as desired; only those are looked at that may have changed."""
        self.settled()
        return sorted(self._unwanted)

    def waiting(self, names: Iterable[str]) -> list[dict[str, object]]:
        """Return what watchers wait for; those that are no more are left out."""
        core = self._controller.reconciler
        statuses = [self.of(name) for name in names if core.watcher_spec(name) is not None]
        return [{"name": one.name, "state": one.state, "note": one.note} for one in statuses]

    def changes_at_ns(self, name: str) -> int | None:
        """Return when the status of a watcher changes without an event, None if never."""
        return self._fragment(name).changes_at_ns

    def of(self, name: str) -> WatcherStatus:
        """Return how a watcher is just now."""
        return self._controller.reconciler.watcher_status(
            name, clock.now_ns(), clock.wall_offset_ns(), self._controller.last_words.of(name)
        )

    def answer(self, names: Iterable[str] | None) -> bytes:
        """Return the packed answer about these watchers, None is all."""
        if names is None:
            return self._around(self._together())
        shown = list(names)
        return self._around(rpc.pack_array([self._fragment(name).data for name in shown]), shown)

    def answer_of_slots(self, chosen: Mapping[str, Slots]) -> bytes:
        """Return the packed answer about some slots of watchers."""
        return self._around(rpc.pack([self._of_slots(*each) for each in chosen.items()]), chosen)

    def answer_with_usage(self, exchange: Exchange, chosen: Mapping[str, Slots]) -> Later:
        """Ask the kernel for processor time and memory, off the loop, and answer then."""
        from reconciler.controller.usage import usage_of

        statuses = [self._of_slots(*each) for each in chosen.items()]
        pids = [slot.pid for status in statuses for slot in status.slots if slot.pid is not None]

        def used(usage: dict[int, Usage]) -> None:
            watchers = rpc.pack([_with_usage(status, usage) for status in statuses])
            exchange.finish(Answer(self._around(watchers, chosen)))

        return exchange.in_lane("processes", lambda: usage_of(pids), used)

    def _of_slots(self, name: str, chosen: Slots) -> WatcherStatus:
        """Return how some slots of a watcher are; None: all of them."""
        status = self.of(name)
        if chosen is None:
            return status
        return replace(status, slots=tuple(slot for slot in status.slots if slot.slot in chosen))

    def _together(self) -> bytes:
        self.settled()
        if self._all is None:
            names = self._controller.reconciler.names()
            self._all = rpc.pack_array([self._fragment(name).data for name in names])
        return self._all

    def _fragment(self, name: str) -> _Fragment:
        found = self._fragments.get(name)
        if found is None or _is_over(found):
            now = clock.now_ns()
            status, offset = self.of(name), clock.wall_offset_ns()
            dues = [slot.next_ns - offset for slot in status.slots if slot.next_ns is not None]
            again = min((due for due in dues if due > now), default=None)
            found = _Fragment(rpc.pack(status), status.as_desired, again)
            self._fragments[name] = found
            self._all = None
            self._stale.add(name)
        return found

    def _revision(self) -> dict[str, bytes]:
        """Return what is known of the revision in force."""
        revisions = self._controller.revisions
        known = revisions.current
        # Files that are left aside are so because of the one before: its reason is the one to tell.
        told = revisions.get(known.number - 1) if known and known.files_differ else known
        due_ns, waits_for = revisions.outlook()
        return {
            "outcome": rpc.pack(known.outcome if known is not None else ""),
            "reason": rpc.pack(waits_for or (told.trial.reason if told is not None else "")),
            "culprit": rpc.pack(told.trial.watcher if told is not None else ""),
            "due_ns": rpc.pack(due_ns),
            "log": rpc.pack(told.log if told is not None else ()),
            "commit": rpc.pack(known.commit if known is not None else ""),
            "dirty": rpc.pack(known is not None and known.dirty),
        }

    def _around(self, watchers: bytes, shown: Iterable[str] | None = None) -> bytes:
        controller = self._controller
        files, core = controller.files, controller.reconciler
        applied = controller.applied
        store_state, store_message = self._store()
        return rpc.pack_map(
            {
                "name": rpc.pack(controller.config.name),
                "revision": rpc.pack(applied.revision if applied is not None else 0),
                "observed_revision": rpc.pack(core.revision),
                "keeper_pid": rpc.pack(controller.keeper.pid),
                "controller_pid": rpc.pack(controller.pid),
                "containment": rpc.pack(controller.keeper.containment),
                **self._revision(),
                "source": rpc.pack(files.source),
                "auto_apply": rpc.pack(applied.spec.apply.auto if applied is not None else True),
                "spec_state": rpc.pack(files.state),
                "spec_message": rpc.pack(files.message),
                "watching": rpc.pack(files.watching),
                "spec_errors": rpc.pack(files.errors),
                "store_state": rpc.pack(store_state),
                "store_message": rpc.pack(store_message),
                "settled": rpc.pack(self.settled()),
                "others": rpc.pack(0 if shown is None else len(self._unwanted.difference(shown))),
                "watchers": watchers,
                "orphans": rpc.pack([_shown(each) for each in core.orphans]),
                "sockets": rpc.pack(core.socket_statuses()),
            }
        )

    def _store(self) -> tuple[StoreState, str]:
        """Return how it stands with the database; what was found damaged is told by this controller to its end."""
        controller = self._controller
        if controller.store_trouble:
            return "failing", controller.store_trouble
        if not controller.store_damage:
            return "good", ""
        first, *rest = controller.store_damage
        return "damaged", f"{first}; and {len(rest)} more" if rest else first


def _shown(orphan: Orphan) -> OrphanStatus:
    return OrphanStatus(
        orphan.pid,
        orphan.name,
        tuple(map(str, orphan.owners)),
        orphan.is_certain and bool(orphan.owners),
        orphan_message(orphan),
    )


def _is_over(fragment: _Fragment) -> bool:
    return fragment.changes_at_ns is not None and fragment.changes_at_ns <= clock.now_ns()


def _with_usage(status: WatcherStatus, usage: dict[int, Usage]) -> WatcherStatus:
    return replace(status, slots=tuple(_used(slot, usage) for slot in status.slots))


def _used(slot: SlotStatus, usage: dict[int, Usage]) -> SlotStatus:
    used = usage.get(slot.pid) if slot.pid is not None else None
    if used is None:
        return slot
    return replace(slot, cpu_percent=used.cpu_percent, memory_bytes=used.memory_bytes)
