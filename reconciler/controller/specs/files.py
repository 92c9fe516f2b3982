"""Saved spec files are applied by themselves: noticed, left to rest, judged, read by a child, applied.

    resting --something changed--> settling --quiet--> judging --complete--> loading --valid--> applied
                                        ^                 |                     |
                                        +---- wait -------+--> held, missing    +--> invalid, held

Nothing here waits, and nothing is believed in haste: bytes are compared before anything is started, a
file or folder that is missing means hold and never "empty", and what is refused leaves everything as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import cause_of
from reconciler.controller.runtime.config import Config
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.accepted import (
    STABLE_NS,
    Accepted,
    are_as_read,
    only_whole_entries_gone,
    with_bytes,
)
from reconciler.controller.specs.apply import Applier, Author, Then
from reconciler.controller.specs.early import EarlyReader
from reconciler.controller.specs.in_force import InForce
from reconciler.controller.specs.loader import (
    Loaded,
    Mistaken,
    ReadFile,
    Reading,
    environment_digest,
)
from reconciler.controller.specs.revisions import SAVED, Revisions
from reconciler.controller.specs.secrets import Secrets
from reconciler.controller.specs.snapshot import Snapshot
from reconciler.controller.specs.source import SHORTAGE_RETRY_NS, SourceWatch
from reconciler.controller.specs.standing import Standing
from reconciler.controller.state.records import SourceFile
from reconciler.model.spec import Spec
from reconciler.model.units import SECOND_NS, format_count
from reconciler.model.value import Part, field
from reconciler.wire.manager_file import ManagerFile

LONGEST_LOOK_NS: Final = 2 * SECOND_NS
"""Who asks for the status gets it after so long, also when the files could not be read until then."""
CONSENT: Final = "`reconcile apply --allow-removal` applies it all the same"


class SpecFiles(Part):
    """What becomes of the files that the spec comes from."""

    source: SourceWatch
    accepted: Accepted
    standing: Standing
    in_force: InForce
    applier: Applier
    revisions: Revisions
    secrets: Secrets
    reactor: Reactor
    lanes: Lanes
    config: Config
    is_ending: Callable[[], bool]
    reader: EarlyReader

    _considered: dict[str, str] | None = None
    """Digests of what was judged last; the same bytes are not judged again."""
    _ordered_by: str = ""
    """Who has told to read the files and apply them, whatever `apply.auto` says; empty: nobody."""
    _awaited: list[Callable[[], None]] = field(default_factory=list)
    """Told once, when the files have been judged next."""

    # ---- starting ----

    def begin(
        self, handed: Reading | None, *, ignore: bool, ordered_by: str, ready: Callable[[], None]
    ) -> None:
        """Look at the files for the first time; `ignore` them until they change (last good spec).

        `handed` is what was read of them a moment ago, None: nothing. `ordered_by` is who started the manager;
        empty for a controller that goes on where the last one ended: that is nobody's word to apply anything.
        """
        self._ordered_by = ordered_by
        self._note_source()
        seen, applied = self.source.look_now(), self.in_force.applied
        if applied is not None:
            self.accepted.recognise(seen)
            self.standing.accept()
            if ignore:
                self._considered = seen.digests
                self.standing.ignore()
            elif self.accepted.are(seen) and applied.environment == environment_digest():
                self._considered = seen.digests
        self.watch_again()
        if self._considered is not None:
            ready()
        else:
            self._awaited.append(ready)
            self._judge(seen, handed)

    def read_again(self, then: Callable[[], None]) -> None:
        """Judge and read the files now, also when their bytes are the same (HUP); call when they are judged."""
        self._awaited.append(then)
        self._ordered_by = SAVED
        self.secrets.read_again()
        self._considered = None
        self.reader.drop()
        self._judge(self.source.look_now())

    def replace_source(self, source: tuple[str, ...]) -> None:
        """Take the spec from other files from now on."""
        self.source.source = source
        self._note_source()
        self._considered = self.source.look_now().digests
        self.watch_again()

    def _note_source(self) -> None:
        """Write down whose state folder this is, for whoever wants to start a manager here or find this one."""
        config, source = self.config, self.source.source
        try:
            ManagerFile(config.name, config.runtime_dir, source).write(config.state_dir)
        except OSError as error:
            cause, text = cause_of(error), "cannot note whose state folder this is"
            self.standing.log.write("warning", text, cause=cause)

    # ---- putting in force ----

    def commit(
        self,
        spec: Spec,
        read: Mapping[str, ReadFile],
        seen: Snapshot,
        author: Author,
        then: Then | None = None,
    ) -> None:
        """Put in force what these files say; `seen` is how they looked before they were read."""
        given, files = self.source.source, with_bytes(read, self.source.newest)
        number = self.applier.put_in_force(spec, given, files, author, then)
        # The files are taken note of at once: what comes next is compared with them.
        self._accept(files, seen)
        self.revisions.find_commit(number, files, given)

    def unchanged(self, read: Mapping[str, ReadFile], seen: Snapshot) -> None:
        """The bytes differ, their meaning does not: a comment, a space."""
        files = with_bytes(read, self.source.newest)
        self.applier.note_files(files)
        self._accept(files, seen)

    def restore(self, number: int, spec: Spec, author: Author, then: Then | None = None) -> None:
        """Put the content of an older revision in force; the files are left aside until they change."""
        files = tuple(self.accepted.files.values())
        self.applier.put_in_force(spec, self.source.source, files, author, then, restores=number)
        if self.standing.state == "applied":
            self.standing.accept()

    def is_set_aside(self, seen: Snapshot) -> bool:
        """Tell whether these are the files that were left aside, byte for byte."""
        current = self.revisions.current
        return current is not None and current.files_differ and self.accepted.are(seen)

    def _accept(self, files: tuple[SourceFile, ...], seen: Snapshot) -> None:
        self.accepted.take(files, seen)
        self._considered = self.accepted.digests
        self.source.newest = seen
        self.standing.accept()
        revision = self.in_force.revision
        self.standing.log.write("info", "the spec is in force", revision=revision)
        self.reader.drop()
        self.reactor.at(self, None, self._settled)
        self.watch_again()
        self._judged()
        self._notice()

    # ---- noticing ----

    def watch_again(self) -> None:
        """Watch what is wanted now: other files have come to matter, or the spec in force says otherwise."""
        auto = self.in_force.settings.auto
        self.source.watch(self.secrets.files(), self._woken, wanted=auto)

    def when_looked(self, then: Callable[[], None]) -> None:
        """Call once it is known what the files say: where nobody watches them, somebody who asks has them looked at.

        That takes no time while their bytes are those that were judged, and never longer than `LONGEST_LOOK_NS`.
        """
        if self.in_force.settings.auto or self.is_ending():
            then()
            return
        waiting = [then]

        def tell() -> None:
            self.reactor.at(tell, None, tell)
            if waiting:
                waiting.pop()()

        self.reactor.at(tell, clock.now_ns() + LONGEST_LOOK_NS, tell)
        self.source.look_then(partial(self._looked_for, tell))

    def _looked_for(self, tell: Callable[[], None], seen: Snapshot) -> None:
        if self._is_judged(seen) and not self.reader.is_wanted:
            tell()
            return
        self._awaited.append(tell)
        if not self.reader.is_wanted:
            self.source.newest = seen
            self._judge(seen)

    def _is_judged(self, seen: Snapshot) -> bool:
        """Tell whether this is what was judged last."""
        was_missing = self.standing.state == "missing"
        return seen.digests == self._considered and bool(seen.missing) == was_missing

    def _woken(self) -> None:
        if self.in_force.settings.auto:
            self._notice()
            self.secrets.look_again()

    def _notice(self) -> None:
        """Look at the files, and compare what they hold with what was judged."""
        self.source.look_then(self._noticed)

    def _noticed(self, seen: Snapshot) -> None:
        """When the bytes differ from what was judged, let them come to rest."""
        self.source.take(seen)
        if self._is_judged(seen):
            if not self.reader.is_wanted:
                self.reader.drop()
                self.reactor.at(self, None, self._settled)
            return
        self.reader.prepare(seen)
        self.reactor.at(self, clock.now_ns() + self._unrested_ns(), self._settled)

    def _unrested_ns(self) -> int:
        """Return how much longer the files must rest."""
        rested_ns = clock.wall_ns() - self.source.changed_wall_ns
        return max(self.in_force.settings.quiet_period - rested_ns, 0)

    def _settled(self) -> None:
        self.source.look_then(self._rested)

    def _rested(self, seen: Snapshot) -> None:
        if self.source.take(seen) and self._unrested_ns():
            self._notice()
            return
        self._judge(seen)

    # ---- judging ----

    def _judge(self, seen: Snapshot, handed: Reading | None = None) -> None:
        if self.is_ending():
            # Nothing new takes effect: the next start reads the files.
            self._judged()
            return
        gone = seen.missing
        is_known = self._considered is not None and self.accepted.are(seen)
        is_known = is_known or self.is_set_aside(seen)
        verdict, path, rest_ns = self.accepted.half_written(seen)
        if verdict == "wait" and not gone and not is_known:
            self.reader.drop()
            due = clock.now_ns() + STABLE_NS - rest_ns
            self.reactor.at(self, due, self._settled)
            return
        self._considered = seen.digests
        if gone:
            if self.standing.state != "missing":
                message = f"{gone[0]} is missing; what runs stays as it is until it is back"
                self.standing.refuse("missing", message)
        elif is_known:
            self.standing.restored()
        elif verdict == "cut":
            self.standing.refuse("held", cut_message(path))
        else:
            self._load(seen, path if verdict == "maybe" else "", handed)
            return
        self.reader.drop()
        self._judged()

    def _load(self, seen: Snapshot, maybe_cut: str, handed: Reading | None) -> None:
        """Have the files read, unless that was done a moment ago."""
        if isinstance(handed, Loaded) and are_as_read(handed.files, seen):
            self._read(handed, seen, maybe_cut)
            return
        read = partial(self._read, seen=seen, maybe_cut=maybe_cut)
        self.reader.read(seen, read, self._try_later)

    def _try_later(self) -> None:
        self._considered = None
        self.reactor.at(self, clock.now_ns() + SHORTAGE_RETRY_NS, self._settled)

    def looks_cut(self, seen: Snapshot, spec: Spec) -> str | None:
        """Return the file that seems to be half written, for somebody who has asked and will not wait."""
        verdict, path, _ = self.accepted.half_written(seen, is_stable=True)
        is_cut = verdict == "cut" or (verdict == "maybe" and self._lacks_more(spec))
        return path if is_cut else None

    def _lacks_more(self, spec: Spec) -> bool:
        """Tell whether more is gone from a spec than whole entries."""
        old = self.in_force.spec
        return old is not None and not only_whole_entries_gone(old, spec)

    def _read(self, reading: Reading, seen: Snapshot, maybe_cut: str) -> None:
        """Apply what was read, unless something is against it."""
        if isinstance(reading, Mistaken):
            errors = reading.errors
            first = str(errors[0]) if errors else "no reason given"
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            self.standing.refuse("invalid", f"{first}{more}", errors)
            self._judged()
            return
        self.standing.warn(reading.warnings)
        spec = reading.spec
        if maybe_cut and self._lacks_more(spec):
            self.standing.refuse("held", cut_message(maybe_cut))
        elif spec == self.in_force.spec:
            self.unchanged(reading.files, seen)
        elif self.is_ending():
            pass
        elif not (self._ordered_by or self.in_force.settings.auto):
            count = len(self.in_force.changes(spec))
            wait = f"{format_count(count, 'change')} wait{'s' if count == 1 else ''}"
            text = f"{wait} for reconcile apply (see: reconcile plan)"
            self.standing.refuse("pending", text)
        elif (refusal := self.in_force.refusal(spec)) is not None:
            self.standing.refuse("held", f"{refusal}; {CONSENT}")
        else:
            self.commit(spec, reading.files, seen, Author(self._ordered_by or SAVED))
        self._judged()

    def _judged(self) -> None:
        self._ordered_by = ""
        awaited, self._awaited = self._awaited, []
        for call in awaited:
            call()

    def close(self) -> None:
        """End the thread and the child."""
        self.reader.drop()
        self.source.close()


def cut_message(path: str) -> str:
    """Return what is told of a file that seems to be half written."""
    return f"{path} holds only the beginning of what was applied, as if its writer had stopped half-way; {CONSENT}"
