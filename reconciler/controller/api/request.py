"""One request under way: served, perhaps waited for, answered once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from reconciler.controller.api.auth import Access, Permit
from reconciler.controller.api.connection import Connection
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.lanes import LaneName, Lanes
from reconciler.controller.state.records import Answered
from reconciler.model.errors import RequestError
from reconciler.model.event import Event
from reconciler.model.value import Part, Struct, field
from reconciler.wire import rpc
from reconciler.wire.methods import METHODS, Ordering, Parameters
from reconciler.wire.parameters import read

T = TypeVar("T")

REMEMBERED_ANSWERS: Final = 1000
_IN_WORDS: Final = {"shutdown": "shut down this manager", "upgrade": "upgrade this manager"}
MAX_REMEMBERED_BYTES: Final = 8 * 2**20


Handler: TypeAlias = "Callable[[Request, Any], None]"
"""Answers a request, now or later; gets its parameters as `wire.methods` has them."""


class Answer(Struct, frozen=True, gc=True):
    """What was answered: a packed result, or an error.

    Unlike a mere value it leads back to itself: an error holds the frames that it passed, and they the request.
    """

    result: bytes = b""
    error: RequestError | None = None

    def encoded(self, msgid: int) -> bytes:
        """Return the response to one request."""
        if self.error is None:
            return rpc.encode_result(msgid, self.result)
        return rpc.encode_error(msgid, self.error.code, self.error.message, self.error.details)


AnswerAgain: TypeAlias = "Callable[[Request, Any, Sequence[Mapping[str, object]]], None]"


class RememberedAnswers(Part):
    """The newest answers to mutations by their request id, so that a retried one is not done twice.

    Those that change what is stored are stored with it: `recall` has what former controllers did.
    """

    again: AnswerAgain
    _recalled: dict[tuple[int, str], Answered] = field(default_factory=dict)
    _answers: dict[tuple[int, str], tuple[str, Answer | None]] = field(default_factory=dict)
    _waiting: dict[tuple[int, str], list[Request]] = field(default_factory=dict)
    _bytes: int = 0

    def recall(self, answered: tuple[Answered, ...]) -> None:
        """Take note of what former controllers have answered, or would have."""
        self._recalled = {(each.uid, each.request_id): each for each in answered}

    def knows(self, request: Request, request_id: str, asked: Parameters) -> bool:
        """Answer a request that was asked before, now or together with the first; False when it is new.

        Raises `RequestError` when the id was used for another method.
        """
        key = (request.uid, request_id)
        recalled = self._recalled.get(key)
        if recalled is not None:
            if recalled.method != request.method:
                raise _used_otherwise(request_id, recalled.method)
            self.again(request, asked, recalled.results)
            return True
        if key not in self._answers:
            self._answers[key] = (request.method, None)
            return False
        method, answer = self._answers[key]
        if method != request.method:
            raise _used_otherwise(request_id, method)
        if answer is None:
            self._waiting.setdefault(key, []).append(request)
        else:
            request.finish(answer)
        return True

    def remember(self, request: Request, request_id: str, answer: Answer) -> None:
        """Keep an answer, and give it to those who have asked again meanwhile."""
        key = (request.uid, request_id)
        for again in self._waiting.pop(key, ()):
            again.finish(answer)
        self._answers[key] = (request.method, answer)
        self._bytes += len(answer.result)
        done = [key for key, (_, kept) in self._answers.items() if kept is not None]
        while len(done) > REMEMBERED_ANSWERS or self._bytes > MAX_REMEMBERED_BYTES:
            _, kept = self._answers.pop(done.pop(0))
            self._bytes -= len(kept.result) if kept is not None else 0


class Dispatcher(Part):
    """Serves requests: all that they have in common."""

    handlers: Mapping[str, Handler]
    lanes: Lanes
    border: Border
    access: Access
    is_ending: Callable[[], bool]
    tell: Callable[[Event], None]
    remembered: RememberedAnswers

    def serve(self, connection: Connection, call: rpc.Call) -> None:
        """Find the method of a request and let it answer; what is wrong with the request is its answer.

        Who may ask nothing is dismissed.
        """
        permit = self.access.permit(connection.peer)
        if permit is None:
            hint = "allowed are root, the user who started the manager, and users in daemon.access"
            who = self.access.named(connection.peer)
            message = f"{who} may not use this manager: it has no role here"
            self.access.deny(connection.peer, call.method, message)
            connection.dismiss(rpc.encode_error(call.msgid, "denied", message, {"hint": hint}))
            return
        request = Request(self, connection, call, permit)
        connection.asked(request.abandoned)
        request.guard(request.serve)


class Request:
    """One request of one client."""

    def __init__(
        self, dispatcher: Dispatcher, connection: Connection, call: rpc.Call, permit: Permit
    ) -> None:
        self._dispatcher = dispatcher
        self.permit = permit
        self.connection = connection
        self.peer = connection.peer
        self.uid = connection.peer.uid
        self.pid = connection.peer.pid
        self.method = call.method
        self._msgid = call.msgid
        self._params: Mapping[str, object] = call.params
        self.request_id: str | None = None
        self.reason = ""
        """Why its caller wants it, as he says."""
        self.answer: Answer | None = None
        """What was answered, None as long as nothing was."""
        self.when_answered: Callable[[], None] | None = None
        self.when_abandoned: Callable[[], None] | None = None
        """Called when the client leaves before its answer."""

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody waits for the answer, or may ask for it again."""
        return not self.connection.is_closed or self.request_id is not None

    def guard(self, call: Callable[[], object]) -> None:
        """Do a part of the request: what is wrong with it, or goes wrong, is its answer."""
        try:
            call()
        except RequestError as error:
            if error.code == "denied":
                self._dispatcher.access.deny(self.peer, self.method, error.message)
            self.fail(error)
        except Exception as error:
            self.broken(self._dispatcher.border.report(f"serving {self.method}", error))

    def in_lane(self, lane: LaneName, ask: Callable[[], T], then: Callable[[T], object]) -> None:
        """Go on with what a background task finds, as long as the client waits for it."""
        self._dispatcher.lanes.run(
            lane,
            ask,
            lambda found: self.guard(lambda: then(found)),
            self.broken,
            uid=self.uid,
            is_wanted=lambda: self.is_wanted,
        )

    def broken(self, said: str) -> None:
        """Answer that something went wrong that nobody expected."""
        if self.answer is not None:
            self.connection.close()  # an answer that did not get out is one that will not come
            return
        hint = "nothing else is concerned; the manager's own log may say more"
        self.fail(RequestError("internal", f"cannot answer {self.method}: {said}", hint=hint))

    def serve(self) -> None:
        """Let the method answer. Raises `RequestError`."""
        method, handler = METHODS.get(self.method), self._dispatcher.handlers.get(self.method)
        if method is None or handler is None:
            raise _unknown_method(self.method)
        if not self.permit.includes(method.role):
            raise self.denied(self.method, f"{self.method} needs the role {method.role}")
        asked = read(method.parameters, self._params)
        if isinstance(asked, Ordering):
            self.reason = asked.reason
        if method.mutates:
            if self.method not in {"shutdown", "signal"}:
                self.refuse_at_the_end()
            # Who only reads may send an id, too: to repeat it does no harm.
            if asked.request_id is not None:
                if self._dispatcher.remembered.knows(self, asked.request_id, asked):
                    return
                self.request_id = asked.request_id
        handler(self, asked)

    def refuse_at_the_end(self) -> None:
        """Raise `RequestError` once the order to end was given: nothing new takes effect, also what began before."""
        if self._dispatcher.is_ending():
            raise RequestError(code="shutting_down", message="everything is being stopped")

    @property
    def who(self) -> str:
        """Return the caller's name, or its number when it has none."""
        return self._dispatcher.access.who(self.peer)

    def denied(self, what: str, hint: str) -> RequestError:
        """Return the error that the caller may not do something."""
        limit = "".join(
            f" of {','.join(f'{key}={value}' for key, value in each.items())}"
            for each in self.permit.labels
        )
        who = self._dispatcher.access.named(self.peer)
        message = (
            f"{who} may not {_IN_WORDS.get(what, what)}: its role is {self.permit.role}{limit}"
        )
        return RequestError("denied", message, hint=hint)

    def tell(self, message: str, watcher: str = "", **details: object) -> None:
        """Tell of an order: who did what, why, and what comes of it."""
        who, why = self.who, f' ("{self.reason}")' if self.reason else ""
        text = f"{self.method} by {who}{why}: {message}"
        details |= {"who": who, "uid": self.uid, "pid": self.pid, "reason": self.reason}
        self._dispatcher.tell(Event(f"operator.{self.method}", text, watcher, details=details))

    def reply(self, result: object) -> None:
        """Answer with a result."""
        self.finish(Answer(rpc.pack(result)))

    def fail(self, error: RequestError) -> None:
        """Answer that it cannot be, and why."""
        self.finish(Answer(error=error))

    def finish(self, answer: Answer) -> None:
        """Answer, once; an answer to a client that has left is remembered all the same."""
        if self.answer is not None:
            return
        self.answer = answer
        self.connection.answered(self.abandoned)
        self.connection.send(answer.encoded(self._msgid))
        if self.request_id is not None:
            self._dispatcher.remembered.remember(self, self.request_id, answer)
        if self.when_answered is not None:
            self.when_answered()

    def abandoned(self) -> None:
        """Take note that the client has left. A request with an id is finished: it may ask again."""
        if self.when_abandoned is not None and self.request_id is None:
            self.when_abandoned()


def _used_otherwise(request_id: str, method: str) -> RequestError:
    msg = f"request_id {request_id!r} was used for {method!r}"
    return RequestError("conflict", msg, hint="use another id for each request")


def _unknown_method(name: str) -> RequestError:
    from difflib import get_close_matches

    near = get_close_matches(name, METHODS, 1)
    hint = f"did you mean {', '.join(near)}?" if near else f"methods: {', '.join(sorted(METHODS))}"
    return RequestError("unsupported", f"unknown method: {name[:64]!r}", hint=hint)
