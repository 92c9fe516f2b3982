"""Methods about the spec as its files say it: what applying it would do, and doing it."""

from __future__ import annotations

from reconciler.controller.api.readings import Readings
from reconciler.controller.api.request import Answer, Request
from reconciler.controller.api.selectors import near_names
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.specs.apply import Author, only
from reconciler.controller.specs.files import CONSENT, cut_message
from reconciler.controller.specs.loader import Loaded
from reconciler.controller.specs.parts import Specs
from reconciler.controller.specs.snapshot import Snapshot
from reconciler.model.change import Change
from reconciler.model.errors import RequestError
from reconciler.model.spec import Spec
from reconciler.model.units import format_count
from reconciler.model.value import Part, replace
from reconciler.wire import rpc
from reconciler.wire.methods import Apply, AskPlan


class SpecMethods(Part):
    """`plan` and `apply`."""

    specs: Specs
    readings: Readings
    lanes: Lanes

    # ---- plan ----

    def plan(self, request: Request, asked: AskPlan) -> None:
        """Answer what applying the files would do."""
        source = _checked(asked.source)
        self._check_may_read(request, source)

        def planned(loaded: Loaded, revision: int) -> Answer:
            """Compare; what is observed meanwhile may count or not. Runs in a thread."""
            changes, drift = (
                self._changes(loaded.spec, loaded),
                self.specs.in_force.drift(loaded.spec),
            )
            return Answer(rpc.pack({"revision": revision, "changes": changes, "drift": drift}))

        def read(loaded: Loaded, _seen: Snapshot) -> None:
            revision = self.specs.in_force.revision
            self.lanes.run(
                "loader",
                lambda: planned(loaded, revision),
                request.finish,
                request.broken,
                uid=request.uid,
            )

        self.readings.ask(request, source or self.specs.source.source, read, is_shared=True)

    def _changes(self, spec: Spec, loaded: Loaded) -> tuple[Change, ...]:
        """Return what a spec changes, and when the clock fires the jobs among it next."""
        found = self.specs.in_force.changes(spec)
        runs = loaded.next_runs
        if not runs:
            return found
        return tuple(
            replace(each, next_runs=runs[each.name])
            if each.kind == "watcher" and each.how != "remove" and each.name in runs
            else each
            for each in found
        )

    def _check_may_read(self, request: Request, source: tuple[str, ...]) -> None:
        """Refuse other files than those of the instance to all but admins: mistakes quote what they read."""
        other = sorted(set(source) - set(self.specs.source.source))
        if other and not request.permit.includes("admin"):
            what = f"read {other[0][:128]}"
            raise request.denied(what, "leave the files out, or ask an admin")

    # ---- apply ----

    def apply(self, request: Request, asked: Apply) -> None:
        """Put in force what the files say."""
        source = _checked(asked.source)
        own = self.specs.source.source
        if source and source != own and not asked.replace_source and own:
            raise RequestError(
                code="conflict",
                message=f"this instance is run from {', '.join(own)}, not from {', '.join(source)}",
                hint="--replace-source makes it follow the other files",
            )

        def read(loaded: Loaded, seen: Snapshot) -> None:
            self._apply(request, asked, self._narrowed(loaded.spec, asked.only), loaded, seen)

        self.readings.ask(request, source or own, read)

    def _apply(
        self, request: Request, asked: Apply, spec: Spec, loaded: Loaded, seen: Snapshot
    ) -> None:
        """Answer what applying does, and do it unless it is a dry run. Raises `RequestError` when refused."""
        changes, drift = self._changes(spec, loaded), self.specs.in_force.drift(spec)
        planned: dict[str, object] = {"changes": changes, "drift": drift}
        if asked.dry_run:
            request.reply({"revision": self.specs.in_force.revision, **planned, "applied": False})
            return
        request.refuse_at_the_end()
        if asked.goes_on and self._goes_on(request, spec, seen):
            return
        is_other = bool(asked.source) and asked.source != self.specs.source.source
        self._check(asked, spec, seen, is_other=is_other)
        is_same = spec == self.specs.in_force.spec and not is_other
        if not is_same:
            self.specs.in_force.check_base(asked.base)
        # Nothing refuses from here on; so far nothing was done.
        self.specs.standing.warn(loaded.warnings)
        self.specs.secrets.read_again()
        if is_other:
            self.specs.files.replace_source(asked.source)
        if is_same:
            self.specs.files.unchanged(loaded.files, seen)
            self.specs.revisions.confirm(request.who)
            unchanged = planned | {"changes": ()}
            request.reply({"revision": self.specs.in_force.revision, **unchanged, "applied": True})
            return

        def stored(revision: int) -> None:
            request.guard(lambda: request.reply({"revision": revision, **planned, "applied": True}))

        request.tell(format_count(len(changes), "change"))
        author = Author(request.who, request.uid)
        self.specs.files.commit(spec, loaded.files, seen, author, then=stored)

    def _check(self, asked: Apply, spec: Spec, seen: Snapshot, *, is_other: bool) -> None:
        """Refuse what was rolled back as it is, removes too much, or looks half written. Raises `RequestError`."""
        rejected = self.specs.revisions.rejected()
        is_rejected = rejected is not None and self.specs.files.is_set_aside(seen)
        if rejected is not None and is_rejected and not is_other and not asked.goes_on:
            raise RequestError(
                code="conflict",
                message=f"these files are revision {rejected.number}, which was rolled back: {rejected.trial.reason}",
                hint="change them, or `reconcile apply --continue` tries them once more",
            )
        if asked.allow_removal:
            return
        refusal = self.specs.in_force.refusal(spec)
        if refusal is not None:
            raise RequestError(code="conflict", message=refusal, hint=CONSENT)
        cut = None if is_other else self.specs.files.looks_cut(seen, spec)
        if cut is not None:
            raise RequestError(code="conflict", message=cut_message(cut), hint=CONSENT)

    def _goes_on(self, request: Request, spec: Spec, seen: Snapshot) -> bool:
        """Go on with a paused revision; False when files that were left aside are to be tried again.

        Raises `RequestError` when there is nothing to go on with.
        """
        current, number = self.specs.revisions.current, self.specs.in_force.revision
        if self.specs.files.is_set_aside(seen):
            return False
        if current is None or current.outcome != "paused":
            outcome = (
                f"revision {number} is {current.outcome}" if current else "nothing was applied"
            )
            raise RequestError(code="conflict", message=f"{outcome}: there is nothing to continue")
        if spec != self.specs.in_force.spec:
            message = f"the files say something else than revision {number}, which is paused"
            hint = "`reconcile apply` without --continue applies"
            raise RequestError(code="conflict", message=message, hint=hint)
        self.specs.secrets.read_again()
        request.tell(f"goes on with revision {number}", revision=number)
        answer = {"revision": number, "changes": (), "applied": True}
        self.specs.applier.go_on(lambda: request.reply(answer))
        return True

    def _narrowed(self, spec: Spec, names: tuple[str, ...]) -> Spec:
        """Return the spec in force with just these watchers and sockets as the files say; none: all of them."""
        if not names:
            return spec
        old = self.specs.in_force.spec or Spec()
        known = {*spec.watchers, *old.watchers, *spec.sockets, *old.sockets}
        for name in names:
            if name not in known:
                near = near_names(name, sorted(known))
                mean = f"did you mean {', '.join(near)}?"
                hint = mean if near else "give the whole name, without slot"
                message = f"no watcher or socket {name[:128]!r}, neither in the files nor in force"
                raise RequestError(code="not_found", message=message, hint=hint)
        return only(old, spec, frozenset(names))


def _checked(source: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files that a request names. Raises `RequestError`."""
    for path in source:
        if not path.startswith("/"):
            message = f"source: expected absolute paths, found {path[:128]!r}"
            raise RequestError(code="invalid_request", message=message)
    return source
