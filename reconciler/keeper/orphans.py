"""Processes that the keeper did not start, and whose they are: descendants that outlived their parents.

The keeper is a subreaper (prctl(2)): whoever loses its parent below it becomes its child. Orphans of an
adopted process go to whoever stands above that one; the kernel layer tells of those with a sign of ours.

The signs, in this order: the control group and the marker in the environment, which many servers overwrite
with their title; the session, whose number nobody else gets while one of its members lives (setsid(2)); that
it was below a process when that one was last signalled; and parentage. A child of ours without any sign comes
from one of our own processes. It is taken for a remnant of the only one that has died since the last look and
ended well: so do programs that put themselves into the background. Else it is one of those that have died if
nothing that lives could have left it: nothing that was there before it and has, or has waited for, children.
Where that is not certain it is nobody's, is reported, and is looked at again when one of its suspects has
died: the last one that is left was it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from reconciler.keeper.records import Stranger, as_stranger
from reconciler.keeper.succession.notes import OTHERS, STRANGERS
from reconciler.model.process import MAIN, Orphan, ProcessId, Survivor
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reconciler.keeper.kernel import Kernel
    from reconciler.keeper.records import Process
    from reconciler.system.facts import Identity

NAME_AGAIN_NS: Final = 100 * MILLISECOND_NS
LOOK_NS: Final = 2 * SECOND_NS
"""After the last start of a process, by when its own have mostly gone into the background."""

_MARKER: Final = re.compile(r"(?:.*/)?([^/:]+?)(?:\.(\d{1,18}))?(?::([^/]+))?/(\d{1,18})")
"""Of which process an incarnation is, as `ProcessId` says it: owner, slot, role; and the incarnation.

A program can make up any marker: one of any length is read in one go, and numbers are no larger than ours.
"""

Key: TypeAlias = tuple[ProcessId, int]
"""An incarnation of a process."""


class Orphans:
    """All strangers that live, by pid, and the signs by which new ones are known."""

    def __init__(
        self, kernel: Kernel, processes: Mapping[ProcessId, Process], by_pid: Mapping[int, Process]
    ) -> None:
        self._kernel = kernel
        self._processes = processes
        self._by_pid = by_pid
        self._by_marker: dict[str, Key] = {}
        self._by_session: dict[int, Key] = {}
        self._strangers: dict[int, Stranger] = {}
        self._owned: dict[Key, dict[int, None]] = {}
        """Which of them an incarnation has left, or may have left."""
        self._changed: dict[Key, None] = {}
        """Incarnations of whose remnants something has changed since that was last asked for."""
        self.has_changed = False
        """Something has changed since that was last told."""
        self._below: dict[Key, dict[int, int]] = {}
        """What was below a process when that was signalled last: pids, and when each was started."""
        self._parentless: dict[Key, None] = {}
        """Those of whom that process is dead, so that others may have inherited what was below it."""
        self._look_at_ns: int | None = None
        """When to look for those that were left by what lives, which no signal tells."""
        self._others: set[int] = set()
        """Children that are nobody's remnant."""
        self.unreadable: set[int] = set()
        """Those that are between two programs, so that nobody can say whose they are."""
        self._young: dict[int, int] = {}
        """When to ask those for their name again that were met as they may have been between fork and exec."""
        self._untaken: Mapping[int, Identity] = {}
        """Who was found by a search and could not be taken: the next one finds only who has come since."""
        self._scanned = self._searched = False

    # ---- the signs ---------------------------------------------------------------------------------

    def expect(self, process: Process, *, in_session: bool = True) -> None:
        """Know from here on what a process leaves behind."""
        self._look_at_ns = self._kernel.now_ns() + LOOK_NS
        self._others.discard(process.pid)
        self._by_marker[self._kernel.marker(*process.key)] = process.key
        if process.session and in_session:
            self._by_session[process.session] = process.key

    def forget(self, process: Process) -> None:
        """Expect nothing more of a process: what it left behind on purpose is left alone."""
        self._by_marker.pop(self._kernel.marker(*process.key), None)
        if self._by_session.get(process.session) == process.key:
            del self._by_session[process.session]
        self._below.pop(process.key, None)
        self._parentless.pop(process.key, None)
        self.has_changed |= process.key in self._owned

    def see_below(self, process: Process) -> None:
        """Take note of all that is below a process: it may be about to lose its parent.

        The number of one that is dead may be another's by now, and what is below that one is not meant.
        """
        own = [process.pid] if process.pid and process.died is None else []
        roots = [*own, *self.of(process)]
        self._below.setdefault(process.key, {}).update(self._kernel.below(roots))
        if process.died is not None:
            self._parentless[process.key] = None

    def forget_session(self, process: Process) -> None:
        """Nobody is left in its session: from here on the number may be that of another's."""
        members = (self._kernel.identify(pid) for pid in self.of(process))
        if any(each is not None and each.session == process.session for each in members):
            return
        if self._by_session.get(process.session) == process.key:
            del self._by_session[process.session]

    # ---- what others ask ---------------------------------------------------------------------------

    def of(self, process: Process) -> list[int]:
        """Return what a process has left behind, dead or alive as it may be itself."""
        owned = self._owned.get(process.key, ())
        return [pid for pid in owned if self._strangers[pid].is_certain]

    def survivors(self, process: Process) -> tuple[set[int], tuple[Survivor, ...]]:
        """Return what is left of a dead process: whom its scope asks to be gone, and all others."""
        scope, left = process.record.settings.scope, self.of(process)
        within = {
            pid
            for pid in left
            if scope == "tree" or (scope == "group" and self._strangers[pid].group == process.pid)
        }
        return within, self.named(pid for pid in left if pid not in within)

    def named(self, pids: Iterable[int]) -> tuple[Survivor, ...]:
        """Return processes as people are told of them."""
        return tuple(Survivor(pid, self._strangers[pid].name) for pid in sorted(pids))

    def reported(self) -> tuple[Orphan, ...]:
        """Return those that belong to no record, or to none for certain."""
        return tuple(
            Orphan(pid, each.name, tuple(key[0] for key in each.owners), each.is_certain)
            for pid, each in sorted(self._strangers.items())
            if not each.is_hidden and each.is_readable and not self._is_held(each)
        )

    def unclaimed(self) -> list[int]:
        """Return those that belong to nobody for certain, and so were not left alone on purpose."""
        return [
            pid
            for pid, each in self._strangers.items()
            if not each.is_hidden and not (each.is_certain and each.owners)
        ]

    def hidden(self) -> list[int]:
        """Return those that belong to the manager itself, such as a helper that has outlived its controller."""
        return [pid for pid, each in self._strangers.items() if each.is_hidden]

    def written(self) -> dict[int, Stranger]:
        """Return all strangers, by pid, as the next keeper is told of them."""
        return dict(sorted(self._strangers.items()))

    def handed_on(self, controller: int | None) -> dict[str, object]:
        """Return what our own new code has to know: all strangers, and who is nobody's remnant."""
        own = () if controller is None else (controller,)
        return {STRANGERS: self.written(), OTHERS: sorted({*self._others, *own})}

    def _is_held(self, stranger: Stranger) -> bool:
        return stranger.is_certain and any(map(self.held, stranger.owners))

    def held(self, key: Key) -> Process | None:
        """Return the process of this incarnation while it is held."""
        process = self._processes.get(key[0])
        return process if process is not None and process.key == key else None

    def counts(self, process: Process, pid: int) -> bool | None:
        """Tell whether a process is one of those that this one has started; None when it is dead."""
        line = self._kernel.ancestors(pid)
        if not line:
            return None
        if not {process.pid, *self.of(process)}.isdisjoint(line):
            return True
        identity = self._kernel.identify(pid)
        if identity is not None and self._owner(identity) == process.key:
            return True
        if self._kernel.ancestors(process.pid):
            return False
        # It may have lost its parent, whose end nobody has heard of yet.
        known = (self._by_pid, self._strangers, self._others)
        return line[-1] in self._kernel.children().difference(*known)

    def descendants(self, process: Process) -> dict[int, int]:
        """Return all that is left of a dead process and below that, with when each was started."""
        born = {pid: self._strangers[pid].born for pid in process.survivors}
        return {**self._kernel.below(born), **born}

    # ---- finding them ------------------------------------------------------------------------------

    def spare(self, others: Iterable[int]) -> None:
        """Take these children for nobody's remnant."""
        self._others |= {*others}

    def take(self, pid: int, stranger: Stranger) -> None:
        """Know a stranger that a former keeper knew, or that was found by its sign."""
        is_there = self._kernel.adopt(pid, stranger.born) != "gone"
        self._others.discard(pid)
        if is_there and pid not in self._by_pid:
            self._know(pid, stranger)

    def _know(self, pid: int, stranger: Stranger | None) -> None:
        """Take note of who a stranger is, None: it is there no more."""
        former = self._strangers.pop(pid, None)
        if stranger is not None:
            self._strangers[pid] = stranger
        if stranger == former:
            return
        self.has_changed = True
        for key in () if former is None else former.owners:
            self._changed[key] = None
            del self._owned[key][pid]
            if not self._owned[key]:
                del self._owned[key]
        for key in () if stranger is None else stranger.owners:
            self._changed[key] = None
            self._owned.setdefault(key, {})[pid] = None

    def died(self, pid: int) -> bool:
        """Forget a stranger that is dead; False when it was none."""
        self._young.pop(pid, None)
        self.unreadable.discard(pid)
        self._others.discard(pid)  # the number may be that of a remnant soon
        was_known = pid in self._strangers
        self._know(pid, None)
        return was_known

    def begin_step(self) -> None:
        """Look again when that is asked for: once in a step is enough, but for who has died meanwhile."""
        self._scanned = self._searched = False

    def scan(self, dead: Iterable[Process], spared: int | None, *, adopted: bool) -> None:
        """Find new strangers.

        `dead` have died since the last look; the pid that is `spared` is the controller's. `adopted` tells
        that some of the dead were no children of ours.
        """
        suspects = list(dead)
        self._parentless |= {each.key: None for each in suspects if each.key in self._below}
        if adopted and not self._searched:
            self._search()
            self._searched = True  # unless it failed: then another look in this step is no waste
        elif self._scanned and not suspects and not self.unreadable:
            return
        self._take_from_below()
        ours = self._kernel.children()
        for pid in sorted(ours.difference(self._by_pid, self._strangers, self._others, (spared,))):
            self._meet(pid, suspects)
        for pid in sorted(self.unreadable):
            self._meet(pid, suspects)
        if suspects:
            self._judge_again(suspects)
        self._scanned = True

    def take_changed(self) -> list[Process]:
        """Return those of whose remnants some were found, renamed or no longer are there, since asked last."""
        changed, self._changed = self._changed, {}
        return [process for key in changed if (process := self.held(key))]

    def look_due(self) -> bool:
        """Tell whether to look for what went into the background below something that lives."""
        if self._look_at_ns is None or self._look_at_ns > self._kernel.now_ns():
            return False
        self._look_at_ns = None
        return True

    def name_again(self) -> int | None:
        """Ask those that were met a moment ago for their name; return when to go on."""
        now_ns = self._kernel.now_ns()
        for pid in [pid for pid, due_ns in self._young.items() if due_ns <= now_ns]:
            del self._young[pid]
            stranger, identity = self._strangers.get(pid), self._kernel.identify(pid)
            if stranger is not None and identity is not None and identity.name != stranger.name:
                self._know(pid, replace(stranger, name=identity.name))
        look_ns = () if self._look_at_ns is None else (self._look_at_ns,)
        return min((*self._young.values(), *look_ns), default=None)

    def _search(self) -> None:
        """Adopt what belongs to adopted processes: their orphans became the children of somebody else."""
        found = {**self._untaken, **self._kernel.search(self._by_session)}
        self._untaken = found
        for pid, identity in found.items():
            if pid in self._by_pid or pid in self._strangers:
                continue
            owner = self._owner(identity)
            process = None if owner is None else self.held(owner)
            if process is None or not process.adopted:
                continue
            # Not the dead one itself, which its parent has not reaped yet.
            if pid != process.pid and self._is_orphan(identity, process):
                self.take(pid, as_stranger(identity, process.key))
        self._untaken = {}

    def _take_from_below(self) -> None:
        """Know those again by no other sign that were below a process that is dead, whoever inherited them."""
        for key in list(self._parentless):
            below = self._below[key]
            found = {pid: self._kernel.identify(pid) for pid in below if pid not in self._strangers}
            there = {
                pid: who
                for pid, who in found.items()
                if who and who.born == below[pid] and not who.is_dead
            }
            self._below[key] = {pid: below[pid] for pid in there}
            for pid, who in there.items():
                is_signless = who.marker == "" and self._owner(who) is None
                if is_signless and who.parent not in there and who.parent not in self._strangers:
                    self.take(pid, as_stranger(who, key))
            if not there:
                del self._below[key]
                self._parentless.pop(key, None)

    def _is_orphan(self, identity: Identity, owner: Process) -> bool:
        """Tell whether nobody of its own kind stands above a process any more."""
        above = identity.parent
        return owner.died is not None or (above != owner.pid and above not in self._strangers)

    def _owner(self, identity: Identity) -> Key | None:
        return self._by_marker.get(identity.marker or "") or self._by_session.get(identity.session)

    def _meet(self, pid: int, dead: list[Process]) -> None:
        """Find out whose a child of ours is that we did not start."""
        self.unreadable.discard(pid)
        identity = self._kernel.identify(pid)
        if identity is None:
            self._know(pid, None)
            return
        stranger = as_stranger(identity)
        owner = self._owner(identity)
        if owner is not None:
            stranger = replace(stranger, owners=(owner,))
        elif identity.marker is None:
            self.unreadable.add(pid)
            stranger = replace(stranger, is_certain=False, is_readable=False)
        elif identity.marker:
            stranger = replace(stranger, **self._of_forgotten(identity.marker))
        elif seen := [key for key, below in self._below.items() if below.get(pid) == stranger.born]:
            stranger = replace(stranger, owners=tuple(seen))
        else:
            stranger = self._judge(stranger, dead)
        self._know(pid, stranger)
        self._young[pid] = self._kernel.now_ns() + NAME_AGAIN_NS

    def _of_forgotten(self, marker: str) -> dict[str, object]:
        """Return what a marker says whose incarnation is held no more, or is none."""
        if (found := _MARKER.fullmatch(marker)) is not None:
            owner, slot, role, number = found.groups()
            key = ProcessId(owner, int(slot or 0), role or MAIN), int(number)
            if self._kernel.marker(*key) == marker:
                return {"owners": (key,)}
        return {"is_hidden": True}  # of another instance that we run, or a controller's helper

    # ---- parentage ---------------------------------------------------------------------------------

    def _judge(self, stranger: Stranger, dead: Iterable[Process]) -> Stranger:
        """Return a stranger without a sign as the remnant of whoever can have left it."""
        before = [each for each in dead if each.born <= stranger.born]
        died = tuple(each.key for each in before)
        if len(before) == 1 and _ended_well(before[0]) and not self._kernel.is_init:
            return replace(stranger, owners=died, is_certain=True)
        live = self._may_have_left(stranger.born)
        is_certain = not live if died else len(live) == 1
        if self._kernel.is_init:  # it may come from anybody who was let into the container
            is_certain = False
        return replace(stranger, owners=(*died, *live), is_certain=is_certain)

    def _may_have_left(self, born: int) -> list[Key]:
        """Return who was there before such a process and could be its ancestor.

        All are asked, which takes long where many run; it is rare that a process has no sign at all.
        """
        found: dict[Key, None] = {}
        for pid, process in self._by_pid.items():
            if process.born <= born and self._kernel.has_forked(pid):
                found[process.key] = None
        for pid, other in self._strangers.items():
            if other.is_certain and other.born < born and self._kernel.has_forked(pid):
                found |= dict.fromkeys(other.owners)
        return list(found)

    def _judge_again(self, dead: list[Process]) -> None:
        """See whether the last one that may have left a stranger has died."""
        gone = set() if self._kernel.is_init else {each.key for each in dead}
        for pid in {pid: None for key in gone for pid in self._owned.get(key, ())}:
            stranger = self._strangers[pid]
            if stranger.is_certain or not stranger.is_readable:
                continue
            held = [process for key in stranger.owners if (process := self.held(key))]
            if all(process.died is not None for process in held):
                owners = tuple(process.key for process in held)
                self._know(pid, replace(stranger, owners=owners, is_certain=True))


def _ended_well(process: Process) -> bool:
    return process.died is not None and process.died.exit.code == 0
