"""Specs that are read for requests: each by a child, a few at a time, and users take turns.

A user has one reading of a kind (a plan, an apply) at a time, and some places are kept for admins, so that
nobody who may only look keeps anybody from working. Requests for the same plan that wait together are
answered by one reading.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from reconciler.controller.api.request import Request
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.loader import Loaded, Loader, Mistaken, Reading
from reconciler.controller.specs.snapshot import Snapshot
from reconciler.model.errors import RequestError
from reconciler.model.value import Part, field

MAX_READINGS: Final = 8
"""Specs that are read for requests at the same time, each by a child of its own."""
RESERVED_READINGS: Final = 4
"""Of them, those that only admins get."""
MAX_WAITING_READINGS: Final = 256
"""Requests of one user that wait for a reading of one kind."""

Then: TypeAlias = "Callable[[Loaded, Snapshot], object]"
_Kind: TypeAlias = tuple[int, str]
"""A user, and the method that was called."""


class _Waiting(Part):
    request: Request
    source: tuple[str, ...]
    then: Then
    is_shared: bool


class Readings(Part):
    """What is being read, and what waits."""

    reactor: Reactor
    lanes: Lanes
    look_at: Callable[[tuple[str, ...]], Snapshot]
    """Says how the files of a source look."""
    _waiting: OrderedDict[_Kind, deque[_Waiting]] = field(default_factory=OrderedDict)
    _running: set[_Kind] = field(default_factory=set)

    def ask(
        self, request: Request, source: tuple[str, ...], then: Then, *, is_shared: bool = False
    ) -> None:
        """Have a spec read for a request, which `then` answers; mistakes are its answer, too.

        `is_shared`: the answer is good for all who ask the same. Raises `RequestError` when a user has too
        many.
        """
        if not source:
            message, hint = "this instance has no spec files", "give `source`"
            raise RequestError(code="invalid_request", message=message, hint=hint)
        kind = request.uid, request.method
        waiting = self._waiting.setdefault(kind, deque())
        if len(waiting) >= MAX_WAITING_READINGS:
            message = f"{len(waiting)} requests of {request.who} wait for their {request.method}"
            hint = "wait for their answers; one is worked on at a time for each user"
            raise RequestError(code="overloaded", message=message, hint=hint)
        waiting.append(_Waiting(request, source, then, is_shared))
        self._go_on()

    def _go_on(self) -> None:
        """Start what may be started, those who have waited longest first."""
        for kind in tuple(self._waiting):
            waiting = self._waiting[kind]
            while waiting and not waiting[0].request.is_wanted:
                waiting.popleft()
            if not waiting:
                del self._waiting[kind]
                continue
            is_admin = waiting[0].request.permit.includes("admin")
            places = MAX_READINGS if is_admin else MAX_READINGS - RESERVED_READINGS
            if kind in self._running or len(self._running) >= places:
                continue
            first = waiting.popleft()
            del self._waiting[kind]
            group = [first]
            if first.is_shared:
                group += [each for each in waiting if each.source == first.source]
                waiting = deque(each for each in waiting if each.source != first.source)
            if waiting:
                self._waiting[kind] = waiting  # behind all others
            self._start(kind, group, is_urgent=is_admin)

    def _start(self, kind: _Kind, group: list[_Waiting], *, is_urgent: bool) -> None:
        first = group[0]
        self._running.add(kind)

        def start() -> None:
            seen = self.look_at(first.source)
            try:
                loader = Loader(self.reactor, self.lanes, is_urgent=is_urgent)
            except OSError as error:
                cause = (error.strerror or str(error)).lower()
                message = f"cannot start the reader of the spec: {cause}"
                hint = "nothing was changed; try again when there is room"
                raise RequestError(code="overloaded", message=message, hint=hint) from None
            loader.ask(first.source, partial(self._ended, kind, group, seen))

        first.request.guard(start)
        if first.request.answer is not None:
            self._finish(kind, group)

    def _ended(self, kind: _Kind, group: list[_Waiting], seen: Snapshot, reading: Reading) -> None:
        first = group[0]
        if first.is_shared:
            first.request.when_answered = partial(self._finish, kind, group)
        first.request.guard(lambda: first.then(_valid(reading), seen))
        if not first.is_shared:
            self._finish(kind, group)

    def _finish(self, kind: _Kind, group: list[_Waiting]) -> None:
        answer = group[0].request.answer
        for each in group[1:]:
            if answer is not None:
                each.request.guard(partial(each.request.finish, answer))
        self._running.discard(kind)
        self.reactor.soon(self._go_on)


def _valid(reading: Reading) -> Loaded:
    """Return what was read. Raises `RequestError` with the mistakes."""
    if isinstance(reading, Mistaken):
        errors = reading.errors
        count = "one mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
        message = f"the spec has {count}: {errors[0]}" if errors else "the spec cannot be read"
        details = {"errors": list(errors)}
        raise RequestError(code="invalid_spec", message=message, details=details)
    return reading
