"""One client's connection: input is cut off by limits and deadlines, output by a bound.

A client that does not read is not read from.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import partial
from socket import SHUT_WR
from socket import socket as Socket
from typing import Final

from reconciler.controller.api.auth import Access, Peer
from reconciler.controller.api.turns import Turns
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.reactor import READ, WRITE, Reactor
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import Part, field
from reconciler.wire import rpc

MAX_REQUESTS_IN_FLIGHT: Final = 64
"""Unanswered requests of one connection."""
MAX_OUTPUT_BYTES: Final = 2**20
"""Waiting output of one connection. Above it streams drop, and another answer ends the connection."""
PAUSE_OUTPUT_BYTES: Final = 2**18
"""Above this a connection's further requests wait until it has read."""
FRAME_DEADLINE_NS: Final = 5 * SECOND_NS
"""From the first byte of a request to its last."""
FIRST_BYTE_DEADLINE_NS: Final = 60 * SECOND_NS
STALLED_DEADLINE_NS: Final = 60 * SECOND_NS
"""A client without streams that does not read its answers."""
LINGER_NS: Final = SECOND_NS
"""After an error that ends a connection: its reader may still be writing, and shall see the error."""
CALLS_PER_TURN: Final = 16
READ_BYTES: Final = 64 * 1024


class Connection(Part):
    """One client. `serve` has its requests answered, `drained` and `closed` tell that it has read and is gone."""

    socket: Socket
    peer: Peer
    reactor: Reactor
    border: Border
    turns: Turns
    access: Access
    serve: Callable[[Connection, rpc.Call], None]
    drained: Callable[[Connection], None]
    closed: Callable[[Connection], None]
    active_ns: int = field(default_factory=clock.now_ns)
    stream_count: int = 0
    is_closed: bool = False
    _decoder: rpc.RequestDecoder = field(default_factory=rpc.RequestDecoder)
    _output: bytearray = field(default_factory=bytearray)
    _unanswered: set[Callable[[], None]] = field(default_factory=set)
    """What tells requests without an answer that the client has left."""
    _has_begun: bool = False
    """It is known who this is, and what it says is read."""
    _has_spoken: bool = False
    _frame_since_ns: int | None = None
    _is_leaving: bool = False
    _has_ended: bool = False
    _is_pumping: bool = False

    def __post_init__(self) -> None:
        self.socket.setblocking(False)

    # ---- input ----

    def _guard(self, call: Callable[[], object]) -> None:
        """Do something for this client: what goes wrong and is no answer ends this connection alone."""
        try:
            call()
        except Exception as error:
            self.border.report("serving a client", error)
            self.close()

    def begin(self) -> None:
        """Read what is there already, so that a client that asks at once is not taken for an idle one."""
        if not self.is_closed:
            self._has_begun = True
            self.reactor.at(self, self.active_ns + FIRST_BYTE_DEADLINE_NS, self.close)
            self._ready(READ)

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody would miss this connection just now."""
        waits = self._unanswered or self.stream_count or self._output
        return self._has_begun and not waits

    def _ready(self, events: int) -> None:
        self._guard(lambda: self._act(events))

    def _act(self, events: int) -> None:
        if events & WRITE:
            self.flush()
        if events & READ and not self.is_closed:
            self._read()
            if self.turns.are_taken or self.reactor.turn_is_over or not self._may_operate:
                self._go_on_soon()
            elif not self.is_closed:
                self._pump(CALLS_PER_TURN)
        else:
            self._go_on_soon()  # it kept itself waiting: those who ask anew come first

    def _read(self) -> None:
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self._is_leaving:
            if not data:
                self.close()
            return
        if not data:
            # It may have closed its writing half only, and still read its answers.
            self._has_ended = True
            return
        self.active_ns = clock.now_ns()
        self._has_spoken = True
        self._decoder.feed(data)

    def _pump(self, count: int) -> None:
        """Serve what was read, a few calls at a time, as long as the client reads its answers."""
        for _ in range(count):
            if self.is_closed or self._is_leaving or len(self._output) > PAUSE_OUTPUT_BYTES:
                break
            call = self._decoder.next()
            if call is None:
                break
            self._frame_since_ns = None
            self._serve(call)
            if self.reactor.turn_is_over:
                self._go_on_soon()
                return
        else:
            self._go_on_soon()
            return
        if not self.is_closed:
            self._settle()

    def _go_on_soon(self) -> None:
        """Let others have their turn before the next call of this client."""
        if self.is_closed:
            return
        self._have_turn()
        self._set_watch(READ if not self._decoder.is_partial else 0)

    def _have_turn(self) -> None:
        if not self._is_pumping:
            self._is_pumping = True
            self.turns.add(self.peer.uid, self._pump_again, may_operate=self._may_operate)

    @property
    def _may_operate(self) -> bool:
        return self.access.may_operate(self.peer)

    def _pump_again(self) -> None:
        self._is_pumping = False
        if not self.is_closed:
            self._guard(partial(self._pump, 1))  # then it is the turn of others

    def _settle(self) -> None:
        """Decide what to wait for, and until when."""
        now = clock.now_ns()
        if self._has_ended and not self._output and not self._unanswered:
            self.close()
            return
        deadline = None
        paused = len(self._output) > PAUSE_OUTPUT_BYTES
        if self._is_leaving:
            deadline = self.active_ns + LINGER_NS
        elif not self._has_spoken:
            deadline = self.active_ns + FIRST_BYTE_DEADLINE_NS
        elif self._output and self.stream_count == 0:
            deadline = self.active_ns + STALLED_DEADLINE_NS
        elif self._decoder.is_partial and not paused:
            self._frame_since_ns = self._frame_since_ns or now
            deadline = self._frame_since_ns + FRAME_DEADLINE_NS
        self.reactor.at(self, deadline, self.close)
        self._set_watch(0 if paused or (self._has_ended and not self._is_leaving) else READ)

    def _set_watch(self, reading: int) -> None:
        events = reading | (WRITE if self._output else 0)
        self.reactor.watch(self.socket, events, self._ready)

    def _serve(self, call: rpc.Call | rpc.BadCall) -> None:
        if isinstance(call, rpc.BadCall):
            data = rpc.encode_error(call.msgid, "invalid_request", call.message, {})
            (self.dismiss if call.fatal else self.send)(data)
            return
        if len(self._unanswered) >= MAX_REQUESTS_IN_FLIGHT:
            message = f"more than {MAX_REQUESTS_IN_FLIGHT} requests wait for their answers"
            self.send(rpc.encode_error(call.msgid, "overloaded", message, {}))
            return
        self.serve(self, call)

    # ---- output ----

    def asked(self, abandoned: Callable[[], None]) -> None:
        """Note that a request waits for its answer; `abandoned` is called when the client leaves before."""
        self._unanswered.add(abandoned)

    def answered(self, abandoned: Callable[[], None]) -> None:
        """Note that a request has got its answer."""
        self._unanswered.discard(abandoned)

    def dismiss(self, data: bytes) -> None:
        """Send a last answer and close once it is sent."""
        self.send(data)
        self._leave()

    def send(self, data: bytes) -> None:
        """Send an answer. A client that lets too much wait is disconnected."""
        if self.is_closed:
            return
        if len(self._output) > MAX_OUTPUT_BYTES:
            self.close()
            return
        self._append(data)

    def send_of_stream(self, data: bytes) -> bool:
        """Send an element of a stream; False when it had to be dropped."""
        if self.is_closed or len(self._output) + len(data) > MAX_OUTPUT_BYTES:
            return False
        self._append(data)
        return True

    @property
    def has_room(self) -> bool:
        """Tell whether a stream may go on."""
        return not self.is_closed and len(self._output) <= PAUSE_OUTPUT_BYTES

    def _append(self, data: bytes) -> None:
        self._output += data
        self.flush()
        if self.is_closed:
            return
        if self._output:
            self._settle()
        elif self._has_ended:
            # The answer may have come late, as the last thing that kept the connection open.
            self._have_turn()

    def flush(self) -> None:
        """Send waiting output as far as the client takes it."""
        had_output = bool(self._output)
        while self._output and not self.is_closed:
            try:
                sent = self.socket.send(memoryview(self._output)[:READ_BYTES])
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            self.active_ns = clock.now_ns()
            del self._output[:sent]
        if self.is_closed:
            return
        if had_output and not self._output:
            if self._is_leaving:
                self._shut_writing()
            if self.stream_count:
                self.drained(self)

    def drain(self, until_ns: int) -> None:
        """Wait until the client has taken everything, at most until an instant; only at the very end."""
        poll = select.poll()
        while self._output and not self.is_closed and clock.now_ns() < until_ns:
            poll.register(self.socket, select.POLLOUT)
            poll.poll((until_ns - clock.now_ns()) / MILLISECOND_NS)
            self.flush()

    def wait_for_end(self, until_ns: int) -> None:
        """Wait until the client hangs up, at most until an instant; only at the very end."""
        poll = select.poll()
        while not self.is_closed and not self._has_ended and clock.now_ns() < until_ns:
            poll.register(self.socket, select.POLLIN)
            if poll.poll((until_ns - clock.now_ns()) / MILLISECOND_NS):
                self._read()

    # ---- the end ----

    def _leave(self) -> None:
        """Close once the answer is sent and the client has stopped writing, or soon."""
        self._is_leaving = True
        self.active_ns = clock.now_ns()
        if not self._output:
            self._shut_writing()

    def _shut_writing(self) -> None:
        # Closing with unread bytes would reset the connection and take our answer with it.
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close at once; requests under way go on, their answers go nowhere."""
        if self.is_closed:
            return
        self.is_closed = True
        self.reactor.ignore(self.socket)
        self.reactor.at(self, None, self.close)
        self.socket.close()
        self.closed(self)
        for abandoned in tuple(self._unanswered):
            abandoned()
