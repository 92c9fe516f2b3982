"""Saved spec files are applied by themselves: noticed, left to rest, judged, read by a child, applied.

    resting --something changed--> settling --quiet--> judging --complete--> loading --valid--> applied
                                        ^                 |                     |
                                        +---- wait -------+--> held, missing    +--> invalid, held

Nothing here waits, and nothing is believed in haste: bytes are compared before anything is started, a
file or folder that is missing means hold and never "empty", and what is refused leaves everything as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from reconciler.controller import applying, clock, halfwritten
from reconciler.controller.entries import Applied, FilesChanged, SourceFile
from reconciler.controller.loader import Loaded, Loader, Mistaken, Reading, environment_digest
from reconciler.controller.looking import (
    Look,
    changed_wall_ns,
    folders_of,
    look,
    missing,
)
from reconciler.controller.reactor import READ
from reconciler.controller.revisions import SAVED
from reconciler.controller.watching import Wanted, Watch
from reconciler.model.news import News
from reconciler.model.spec import ApplySpec
from reconciler.model.units import SECOND_NS
from reconciler.specfile.source import is_spec_name
from reconciler.wire.manager_file import ManagerFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.controller.loader import ReadFile
    from reconciler.controller.loop import Controller
    from reconciler.model.errors import SpecError
    from reconciler.model.spec import Spec

STEP_MS: Final = 250
"""How often the watching thread looks at its list: a change is noticed in two steps, while the file comes to rest."""

MAX_WARNINGS_TOLD: Final = 5

SHORTAGE_RETRY_NS: Final = SECOND_NS
LONGEST_LOOK_NS: Final = 2 * SECOND_NS
"""Who asks for the status gets it after so long, also when the files could not be read until then."""

SpecState: TypeAlias = Literal[
    "applied", "pending", "invalid", "missing", "held", "loading", "rolled_back"
]

CONSENT = "`reconcile apply --allow-removal` applies it all the same"
CONSENT_TO_ROLLBACK = "`reconcile rollback --allow-removal` does it all the same"


class SpecFiles:
    """The files that the spec comes from, and what is thought of them."""

    def __init__(self, controller: Controller, source: tuple[str, ...]) -> None:
        self.source = source
        self.state: SpecState = "loading"
        self.message = ""
        self.errors: tuple[SpecError, ...] = ()
        self._controller = controller
        self._watch: Watch | None = None
        self._look = Look({})
        self._considered: dict[str, str] | None = None
        """Digests of what was judged last; the same bytes are not judged again."""
        self._applied: dict[str, SourceFile] = {}
        """The files that the spec in force was read from."""
        self._applied_digests: dict[str, str] = {}
        """How all files looked then, also those that the spec does not include."""
        self._warned: tuple[SpecError, ...] = ()
        self._changed_wall_ns = 0
        self._loader: Loader | None = None
        self._reading = False
        """The loader was asked; before that it only imports."""
        self._handed: Reading | None = None
        """What was read when the manager was started; good for the first judgement only."""
        self._watching = ""
        """In which way files are watched when it is not the usual one."""
        self._ordered_by = ""
        """Who has told to read the files and apply them, whatever `apply.auto` says; empty: nobody."""
        self._wanted_looks: list[Callable[[Look, bool], None]] = []
        """Who waits for the next look."""
        self._is_looking = False
        self._awaited: list[Callable[[], None]] = []
        """Told once, when the files have been judged next."""

    # ---- starting ----

    def begin(
        self,
        stored: Applied | None,
        handed: Reading | None,
        *,
        ignore: bool,
        ordered_by: str,
        ready: Callable[[], None],
    ) -> None:
        """Look at the files for the first time; `ignore` them until they change (last good spec).

        `handed` is what was read of them a moment ago, None: nothing. `ordered_by` is who started the manager;
        empty for a controller that goes on where the last one ended: that is nobody's word to apply anything.
        """
        self._ordered_by = ordered_by
        self._note_source()
        self._applied = {each.path: each for each in stored.files} if stored is not None else {}
        self._applied_digests = {path: file.digest for path, file in self._applied.items()}
        self._look = self._look_again()
        if stored is not None:
            self._recognise(self._look)
            self._in_force()
            same_environment = stored.environment == environment_digest()
            if ignore:
                self._considered = self._look.digests
                self.message = (
                    "started from the last good spec; the files are ignored until they change"
                )
                self._controller.log.write("warning", self.message)
            elif self._is_applied(self._look) and same_environment:
                self._considered = self._look.digests
        self._arm()
        if self._considered is not None:
            ready()
        else:
            self._awaited.append(ready)
            self._handed = handed
            self._judge(self._look)
            self._handed = None

    def read_again(self, then: Callable[[], None]) -> None:
        """Judge and read the files now, also when their bytes are the same (HUP); call when they are judged."""
        self._awaited.append(then)
        self._ordered_by = SAVED
        self._controller.secrets.read_again()
        self._considered = None
        self._drop_loader()
        self._look = self._look_again()
        self._judge(self._look)

    def replace_source(self, source: tuple[str, ...]) -> None:
        """Take the spec from other files from now on."""
        self.source = source
        self._note_source()
        self._look = self._look_again()
        self._considered = self._look.digests
        self._arm()

    def _note_source(self) -> None:
        """Write down whose state folder this is, for whoever wants to start a manager here or find this one."""
        config = self._controller.config
        try:
            ManagerFile(config.name, config.runtime_dir, self.source).write(config.state_dir)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            self._controller.log.write(
                "warning", "cannot note whose state folder this is", cause=cause
            )

    # ---- what was applied ----

    def _recognise(self, seen: Look) -> None:
        """Give the files of the applied spec the bytes that were seen, where they are the same."""
        for path, file in self._applied.items():
            now = seen.files.get(path)
            if now is not None and now.digest == file.digest and now.text is not None:
                self._applied[path] = SourceFile(path, file.digest, now.size, now.inode, now.text)

    def source_files(self, read: Mapping[str, ReadFile]) -> tuple[SourceFile, ...]:
        """Return what the loader read as the files of a spec, with the bytes as far as they are known."""
        seen = look((), read, self._look)
        found = []
        for path, file in read.items():
            now = seen.files.get(path)
            same = now is not None and now.digest == file.digest
            inode, text = (now.inode, now.text) if now is not None and same else (0, None)
            found.append(SourceFile(path, file.digest, file.size, inode, text))
        return tuple(found)

    def in_force(self) -> tuple[SourceFile, ...]:
        """Return the files that were taken note of last, with the bytes as far as they are known."""
        return tuple(self._applied.values())

    def set_aside(self) -> None:
        """Take note that something else is in force than these files say; they count again when they change."""
        if self.state == "applied":
            self._in_force()

    def is_set_aside(self, seen: Look) -> bool:
        """Tell whether these are the files that were left aside, byte for byte."""
        current = self._controller.revisions.current
        return current is not None and current.files_differ and self._is_applied(seen)

    def _in_force(self) -> None:
        """Say of files that are as they were taken note of what they are: applied, or left aside."""
        current = self._controller.revisions.current
        aside = current is not None and current.files_differ
        self.state = "rolled_back" if aside else "applied"
        self.message = self._controller.revisions.why_aside() if aside else ""
        self.errors = ()

    def accepted(self, files: tuple[SourceFile, ...], seen: Look, revision: int) -> None:
        """Take note that what these files say is in force. `seen` is how they looked before the reading."""
        self._applied = {each.path: each for each in files}
        # The loader's digests win: they are of the bytes that were read.
        self._considered = seen.digests | {each.path: each.digest for each in files}
        self._applied_digests = self._considered
        self._look = seen
        self._in_force()
        self._controller.log.write("info", "the spec is in force", revision=revision)
        self._drop_loader()
        self._controller.reactor.at(self, None, self._settled)
        self._arm()
        self._judged()
        self._notice()

    def _is_applied(self, seen: Look) -> bool:
        return bool(self._applied) and seen.digests == self._applied_digests

    # ---- noticing ----

    def watch_again(self) -> None:
        """Watch what is wanted now: other files have come to matter."""
        self._arm()

    def when_looked(self, then: Callable[[], None]) -> None:
        """Call once it is known what the files say: where nobody watches them, somebody who asks has them looked at.

        That takes no time while their bytes are those that were judged, and never longer than `LONGEST_LOOK_NS`.
        """
        if self._settings().auto or self._controller.shutting_down:
            then()
            return
        waiting = [then]

        def tell() -> None:
            self._controller.reactor.at(tell, None, tell)
            if waiting:
                waiting.pop()()

        self._controller.reactor.at(tell, clock.now_ns() + LONGEST_LOOK_NS, tell)
        self._look_then(lambda seen, gone: self._looked_for(tell, seen, gone))

    def _looked_for(self, tell: Callable[[], None], seen: Look, gone: bool) -> None:
        is_known = seen.digests == self._considered and not self._reading
        if is_known and gone == (self.state == "missing"):
            tell()
            return
        self._awaited.append(tell)
        if not self._reading:
            self._look = seen
            self._judge(seen)

    @property
    def quiet_period_ns(self) -> int:
        """Return how long a file must rest after its last change."""
        return self._settings().quiet_period

    def _arm(self) -> None:
        """Watch, or stop watching, as the spec in force says."""
        settings = self._settings()
        if self._watch is None:
            self._watch = Watch(STEP_MS, self._told_from_thread, self._controller.broken_thread)
            self._controller.reactor.watch(self._watch, READ, lambda _: self._woken())
        known = frozenset(self._applied) | frozenset(self._look.files)
        known |= self._controller.secrets.files()
        wanted = Wanted(folders_of(self.source, known), known) if settings.auto else Wanted()
        self._watch.want(wanted)

    @property
    def watching(self) -> str:
        """Return what keeps saved files from being noticed as usual, empty when nothing does."""
        lost = next((path for path, seen in self._look.files.items() if seen.is_unlinked), None)
        return self._watching if lost is None else lost_message(lost)

    def _told_from_thread(self, message: str) -> None:
        def take() -> None:
            self._watching = message

        self._controller.lanes.hand_over(take)
        self._controller.tell_from_thread(message)

    def _settings(self) -> ApplySpec:
        applied = self._controller.applied
        return applied.spec.apply if applied is not None else ApplySpec()

    def _woken(self) -> None:
        assert self._watch is not None
        self._watch.changed()
        if self._settings().auto:
            self._notice()
            self._controller.secrets.look_again()

    def _notice(self) -> None:
        """Look at the files, and compare what they hold with what was judged."""
        self._look_then(self._noticed)

    def _look_then(self, then: Callable[[Look, bool], None]) -> None:
        """Look off the loop, for a disk may hang, and go on with what is seen and whether something is missing.

        Of several that wait for a look, all get one that began after they asked.
        """
        self._wanted_looks.append(then)
        if not self._is_looking:
            self._start_looking()

    def _start_looking(self) -> None:
        wanted, self._wanted_looks = self._wanted_looks, []
        self._is_looking = bool(wanted)
        if not wanted:
            return
        source, known, before = self.source, self._known(), self._look

        def looked(found: tuple[Look, bool]) -> None:
            if self._watch is None:
                return  # everything ends
            if self._look is before and self.source == source:
                for then in wanted:
                    then(*found)
            else:
                self._wanted_looks = wanted + self._wanted_looks  # others have looked meanwhile
            self._start_looking()

        def failed(said: str) -> None:
            message = f"cannot look at the spec files: {said}; tried again until it works"
            self._controller.tell(News("spec.failed", message))
            self._wanted_looks = wanted + self._wanted_looks
            due = clock.now_ns() + SHORTAGE_RETRY_NS
            self._controller.reactor.at((self, "look"), due, self._start_looking)

        self._controller.lanes.run(
            "files", lambda: (look(source, known, before), bool(missing(source))), looked, failed
        )

    def _noticed(self, seen: Look, gone: bool) -> None:
        """When the bytes differ from what was judged, let them come to rest."""
        controller = self._controller
        changed = changed_wall_ns(self._look, seen, clock.wall_ns())
        before, self._look = self.watching, seen
        if self.watching not in {before, self._watching}:
            controller.tell(News("files.watching", self.watching))
        if changed is not None:
            self._changed_wall_ns = changed
        if seen.digests == self._considered and gone == (self.state == "missing"):
            if not self._reading:
                self._drop_loader()
                controller.reactor.at(self, None, self._settled)
            return
        if self._reading:
            self._drop_loader()  # what it reads is of yesterday
        if self._loader is None and not gone:
            self._loader = self._new_loader()
        self._settle(self._settings().quiet_period)

    def _settle(self, quiet_ns: int) -> None:
        rest = max(quiet_ns - (clock.wall_ns() - self._changed_wall_ns), 0)
        self._controller.reactor.at(self, clock.now_ns() + rest, self._settled)

    def _settled(self) -> None:
        self._look_then(self._rested)

    def _rested(self, seen: Look, _gone: bool) -> None:
        changed = changed_wall_ns(self._look, seen, clock.wall_ns())
        self._look = seen
        quiet = self._settings().quiet_period
        if changed is not None:
            self._changed_wall_ns = changed
            if clock.wall_ns() - changed < quiet:
                self._notice()
                return
        self._judge(seen)

    def _known(self) -> frozenset[str]:
        """Return the files that matter besides those of the source."""
        included = (path for path in self._look.files if not is_spec_name(path))
        return frozenset(self._applied).union(included)

    def _look_again(self) -> Look:
        return look(self.source, self._known(), self._look)

    # ---- judging ----

    def _judge(self, seen: Look) -> None:
        if self._controller.shutting_down:
            # Nothing new takes effect: the next start reads the files.
            self._judged()
            return
        gone = missing(self.source)
        if gone:
            self._considered = seen.digests
            if self.state != "missing":
                message = f"{gone[0]} is missing; what runs stays as it is until it is back"
                self._refused("missing", message, "spec.missing")
            self._judged()
            return
        if (self._considered is not None and self._is_applied(seen)) or self.is_set_aside(seen):
            self._considered = seen.digests
            self._drop_loader()
            if self.state not in {"applied", "rolled_back"}:
                self._controller.tell(
                    News("spec.restored", "the files are again as they were applied")
                )
            self._in_force()
            self._judged()
            return
        verdict, path, rest_ns = self._half_written(seen)
        if verdict == "wait":
            self._drop_loader()
            due = clock.now_ns() + halfwritten.STABLE_NS - rest_ns
            self._controller.reactor.at(self, due, self._settled)
            return
        self._considered = seen.digests
        if verdict == "cut":
            self._refused("held", cut_message(path), "spec.held")
            self._judged()
            return
        handed = self._handed
        if isinstance(handed, Loaded) and self._is_as_read(handed.files, seen):
            self._read(handed, seen, path if verdict == "maybe" else "")
            return
        loader = self._loader = self._loader or self._new_loader()
        if loader is None:
            self._considered = None
            self._controller.reactor.at(self, clock.now_ns() + SHORTAGE_RETRY_NS, self._settled)
            return
        self._reading = True
        maybe_cut = path if verdict == "maybe" else ""
        applied = self._controller.applied
        known = applied.spec if applied is not None else None
        loader.ask(self.source, lambda reading: self._read(reading, seen, maybe_cut), known)

    def _new_loader(self) -> Loader | None:
        """Start a reader; None when there is no room for a process just now, which is said once."""
        try:
            return Loader(self._controller.reactor, self._controller.lanes)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            message = f"cannot start the reader of the spec: {cause}; tried again until it works"
            if message != self.message:
                self.message = message
                self._controller.tell(News("spec.failed", message))
            return None

    def _is_as_read(self, read: Mapping[str, ReadFile], seen: Look) -> bool:
        """Tell whether the files are still as they were read, and none has joined them."""
        now = look((), read, seen).files
        same = all(path in now and now[path].digest == each.digest for path, each in read.items())
        return same and seen.files.keys() <= read.keys()

    def looks_cut(self, seen: Look, spec: Spec) -> str | None:
        """Return the file that seems to be half written, for somebody who has asked and will not wait."""
        verdict, path, _ = self._half_written(seen, is_stable=True)
        if verdict == "cut":
            return path
        old = self._controller.applied
        if (
            verdict == "maybe"
            and old is not None
            and not halfwritten.only_whole_entries_gone(old.spec, spec)
        ):
            return path
        return None

    def look_at(self, source: tuple[str, ...]) -> Look:
        """Return how some source's files look now."""
        return self._look_again() if source == self.source else look(source, (), None)

    def _half_written(
        self, seen: Look, *, is_stable: bool = False
    ) -> tuple[halfwritten.Verdict, str, int]:
        """Return the worst that can be said about a file, which one, and how long it has rested (ns)."""
        found: tuple[halfwritten.Verdict, str, int] = ("complete", "", 0)
        order = ("complete", "maybe", "wait", "cut")
        for path, before in self._applied.items():
            now = seen.files.get(path)
            if now is None or now.text is None or now.digest == before.digest:
                continue
            rest = halfwritten.STABLE_NS if is_stable else clock.wall_ns() - now.changed_wall_ns
            verdict = halfwritten.judge(before.text, before.inode, now.text, now.inode, rest)
            if order.index(verdict) > order.index(found[0]):
                found = (verdict, path, max(rest, 0))
        return found

    def _read(self, reading: Reading, seen: Look, maybe_cut: str) -> None:
        self._loader, self._reading = None, False
        controller = self._controller
        match reading:
            case Mistaken(errors):
                self.errors = errors
                first = str(errors[0]) if errors else "no reason given"
                more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
                self._refused("invalid", f"{first}{more}", "spec.rejected", errors)
            case Loaded(spec, files, warnings):
                self.warn(warnings)
                old = controller.applied.spec if controller.applied is not None else None
                if (
                    maybe_cut
                    and old is not None
                    and not halfwritten.only_whole_entries_gone(old, spec)
                ):
                    self._refused("held", cut_message(maybe_cut), "spec.held")
                elif old is not None and spec == old:
                    self.unchanged(self.source_files(files), seen)
                elif controller.shutting_down:
                    pass
                elif not (self._ordered_by or self._settings().auto):
                    waiting = applying.waiting(len(applying.pending_changes(controller, spec)))
                    self._refused("pending", waiting, "spec.pending")
                elif (refusal := applying.refusal(controller, spec)) is not None:
                    self._refused("held", f"{refusal}; {CONSENT}", "spec.held")
                else:
                    who = self._ordered_by or SAVED
                    applying.commit(controller, spec, self.source_files(files), seen, who=who)
                    return
        self._judged()

    def warn(self, warnings: tuple[SpecError, ...]) -> None:
        """Tell what is doubtful about the files of a spec, each doubt once."""
        new = [each for each in warnings if each not in self._warned]
        self._warned = warnings
        for warning in new[:MAX_WARNINGS_TOLD]:
            self._controller.tell(News("spec.warning", str(warning)))

    def unchanged(self, files: tuple[SourceFile, ...], seen: Look) -> None:
        """The bytes differ, their meaning does not: a comment, a space."""
        applied = self._controller.applied
        assert applied is not None
        self._controller.store.write(FilesChanged(applying.storable(files), environment_digest()))
        self._controller.revisions.files_agree()
        self.accepted(files, seen, applied.revision)

    def _refused(
        self, state: SpecState, message: str, type_: str, errors: tuple[SpecError, ...] = ()
    ) -> None:
        self._drop_loader()
        self.state, self.message, self.errors = state, message, errors
        level = {"invalid": "error", "pending": "info"}.get(state, "warning")
        self._controller.log.write(level, "the spec is not applied", state=state, cause=message)
        for error in errors[:20]:
            self._controller.log.write(level, "mistake in the spec", place=str(error))
        details = {"errors": [str(error) for error in errors[:20]]} if errors else {}
        self._controller.tell(News(type_, message, details=details))

    def _judged(self) -> None:
        self._ordered_by = ""
        awaited, self._awaited = self._awaited, []
        for call in awaited:
            call()

    def _drop_loader(self) -> None:
        if self._loader is not None:
            self._loader.cancel()
        self._loader, self._reading = None, False

    def close(self) -> None:
        """End the thread and the child."""
        self._drop_loader()
        if self._watch is not None:
            self._controller.reactor.ignore(self._watch)
            self._watch.close()
            self._watch = None


def cut_message(path: str) -> str:
    """Return what is told of a file that seems to be half written."""
    return f"{path} holds only the beginning of what was applied, as if its writer had stopped half-way; {CONSENT}"


def lost_message(path: str) -> str:
    """Return what is told of a mounted file whose name stands for another file by now, where it comes from."""
    return (
        f"{path} was replaced outside of this mount, and the former file is seen here: no edit arrives any more; "
        "mount the folder that holds it, or mount it once more"
    )
