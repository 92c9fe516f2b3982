"""The methods status and options: how everything is, and by which spec."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal, TypeAlias

from reconciler.controller.api.lines import in_pieces
from reconciler.controller.api.request import Answer, Request
from reconciler.controller.api.selectors import Slots, Wanted, select, wanted
from reconciler.controller.output.status_board import StatusBoard
from reconciler.controller.output.usage import Usage, usage_of
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.parts import Specs
from reconciler.controller.state.saving import Saving
from reconciler.core.events import orphan_message
from reconciler.core.notation import options
from reconciler.core.reconciler import Reconciler
from reconciler.model.answer import Options
from reconciler.model.errors import RequestError
from reconciler.model.observation import KeeperIntroduced
from reconciler.model.process import Orphan
from reconciler.model.status import OrphanStatus, SlotStatus, WatcherStatus
from reconciler.model.value import Part, replace
from reconciler.wire import rpc
from reconciler.wire.methods import AskOptions, AskStatus

StoreState: TypeAlias = Literal["good", "failing", "damaged"]


class StatusMethods(Part):
    """`status` and `options`."""

    config: Config
    keeper: KeeperIntroduced
    core: Reconciler
    reactor: Reactor
    board: StatusBoard
    specs: Specs
    saving: Saving

    def status(self, request: Request, asked: AskStatus) -> None:
        """Answer how everything is, or the watchers that are meant."""
        selection, usage, lean = wanted(asked), asked.usage, asked.lean
        pack = rpc.pack_lean if lean else rpc.pack
        is_whole = not usage and selection.is_all
        slots = {} if is_whole else select(self.core, selection).slots

        statuses: list[WatcherStatus] = []

        def looked() -> None:
            if usage or any(each is not None for each in slots.values()):
                in_pieces(self.reactor, request, ones(), shown)
            else:
                names = None if is_whole else tuple(slots)
                pieces = self.board.made_ready(names, lean=lean)
                in_pieces(self.reactor, request, pieces, partial(ready, names))

        def ready(names: tuple[str, ...] | None) -> None:
            packed = self.board.packed(names, lean=lean)
            request.finish(Answer(self.around(packed, names)))

        def ones() -> Iterator[None]:
            for name, chosen in slots.items():
                if self.core.has(name):  # it may have gone meanwhile
                    statuses.append(self._status(name, chosen))
                yield
            yield from self.board.made_ready(())

        def shown() -> None:
            if not usage:
                request.finish(Answer(self.around(pack(statuses), slots)))
                return
            pids = [slot.pid for one in statuses for slot in one.slots if slot.pid is not None]
            request.in_lane("processes", lambda: usage_of(pids), used)

        def used(found: dict[int, Usage]) -> None:
            watchers = pack([_with_usage(status, found) for status in statuses])
            request.finish(Answer(self.around(watchers, slots)))

        self.specs.files.when_looked(lambda: request.guard(looked))

    def options(self, request: Request, asked: AskOptions) -> None:
        """Answer what is in force of a watcher's spec, field by field."""
        found = select(self.core, Wanted((asked.name,)), needed=True).slots
        name, slots = next(iter(found.items()))
        spec = self.core.watcher_spec(name)
        if len(found) > 1 or slots is not None or spec is None:
            message = f"{asked.name!r} is not one watcher"
            raise RequestError(
                code="invalid_request", message=message, hint="name one, without a slot"
            )
        request.reply(Options(name, tuple(options(spec))))

    def _status(self, name: str, chosen: Slots) -> WatcherStatus:
        """Return how some slots of a watcher are; None: all of them."""
        status = self.board.of(name)
        if chosen is None:
            return status
        slots = tuple(slot for slot in status.slots if slot.slot in chosen)
        # Those that are left out count, too, for how the watcher is.
        return replace(status, slots=slots, told_conditions=status.conditions)

    def around(self, watchers: bytes, shown: Iterable[str] | None) -> bytes:
        """Return the packed answer about watchers that are packed already; None: about all of them."""
        store_state, store_message = self._store()
        unwanted = self.board.unwanted()
        return rpc.pack_map(
            {
                "name": rpc.pack(self.config.name),
                "revision": rpc.pack(self.specs.in_force.revision),
                "observed_revision": rpc.pack(self.core.revision),
                "keeper_pid": rpc.pack(self.keeper.pid),
                "controller_pid": rpc.pack(os.getpid()),
                "containment": rpc.pack(self.keeper.containment),
                **self._revision(),
                "source": rpc.pack(self.specs.source.source),
                "auto_apply": rpc.pack(self.specs.in_force.settings.auto),
                "spec_state": rpc.pack(self.specs.standing.state),
                "spec_message": rpc.pack(self.specs.standing.message),
                "watching": rpc.pack(self.specs.source.trouble or self.specs.watched_files.trouble),
                "spec_errors": rpc.pack(self.specs.standing.errors),
                "store_state": rpc.pack(store_state),
                "store_message": rpc.pack(store_message),
                "settled": rpc.pack(not unwanted),
                "others": rpc.pack(0 if shown is None else len(unwanted - {*shown})),
                "watchers": watchers,
                "orphans": rpc.pack([_shown(each) for each in self.core.orphans]),
                "sockets": rpc.pack(self.core.socket_statuses()),
            }
        )

    def _revision(self) -> dict[str, bytes]:
        """Return what is known of the revision in force."""
        known = self.specs.revisions.current
        # Files that are left aside are so because of the one before: its reason is the one to tell.
        told = (
            self.specs.revisions.known.get(known.number - 1)
            if known and known.files_differ
            else known
        )
        due_ns, waits_for = self.specs.revisions.outlook()
        return {
            "outcome": rpc.pack(known.outcome if known is not None else ""),
            "reason": rpc.pack(waits_for or (told.trial.reason if told is not None else "")),
            "culprit": rpc.pack(told.trial.watcher if told is not None else ""),
            "due_ns": rpc.pack(due_ns),
            "log": rpc.pack(told.log if told is not None else ()),
            "commit": rpc.pack(known.commit if known is not None else ""),
            "dirty": rpc.pack(known is not None and known.dirty),
        }

    def _store(self) -> tuple[StoreState, str]:
        """Return how it stands with the database; what was found damaged is told by this controller to its end."""
        if self.saving.trouble:
            return "failing", self.saving.trouble
        if not self.saving.damage:
            return "good", ""
        first, *rest = self.saving.damage
        return "damaged", f"{first}; and {len(rest)} more" if rest else first


def _shown(orphan: Orphan) -> OrphanStatus:
    return OrphanStatus(
        orphan.pid,
        orphan.name,
        tuple(map(str, orphan.owners)),
        orphan.is_certain and bool(orphan.owners),
        orphan_message(orphan),
    )


def _with_usage(status: WatcherStatus, usage: dict[int, Usage]) -> WatcherStatus:
    def used(slot: SlotStatus) -> SlotStatus:
        found = usage.get(slot.pid or 0)
        if found is None:
            return slot
        return replace(slot, cpu_percent=found.cpu_percent, memory_bytes=found.memory_bytes)

    return replace(status, slots=tuple(map(used, status.slots)))
