"""Connections on the control socket: who may speak, how much, and how fast.

Nothing that a client does or fails to do concerns anybody else: input is cut off by limits and deadlines,
output by a bound, and a client that does not read is not read from. When all places are taken, the one
that has been silent longest is given to the newcomer.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.controller import clock
from reconciler.controller.access import Access, peer_of
from reconciler.controller.exchange import Exchange, RememberedAnswers
from reconciler.controller.methods import METHODS
from reconciler.controller.operating import answer_again
from reconciler.controller.reactor import READ, WRITE
from reconciler.controller.readings import Readings
from reconciler.controller.refusals import Refusals
from reconciler.controller.streams import Streams
from reconciler.controller.turns import Turns
from reconciler.controller.waiting import Waiters
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.controller.access import Peer
    from reconciler.controller.loop import Controller

MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_UID: Final = 64
RESERVED_CONNECTIONS: Final = 8
"""Of all connections, those that only root and the instance's own user get."""
RESERVED_DESCRIPTORS: Final = 48
"""Of all descriptors that the controller may have open, those that only clients who may operate get."""
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
REST_NS: Final = SECOND_NS
"""How long nobody is accepted when there is no descriptor left for a client."""
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
CALLS_PER_TURN: Final = 16
READ_BYTES: Final = 64 * 1024


class Server:
    """The listening socket and its connections."""

    def __init__(self, controller: Controller, control: socket.socket) -> None:
        control.setblocking(False)
        self.controller = controller
        self.waiters = Waiters(controller)
        self.streams = Streams(controller)
        self.remembered = RememberedAnswers(answer_again)
        self.access = Access(controller)
        self.refusals = Refusals(controller)
        self.readings = Readings(controller)
        self.turns = Turns(controller.reactor)
        self._control = control
        self._connections: set[Connection] = set()
        self._short = False
        """No descriptor was left for a client when one called last."""

    def open(self) -> None:
        """Begin to accept; until then clients wait in the socket's backlog."""
        self.controller.reactor.watch(self._control, READ, lambda _: self._accept())

    def close(self) -> None:
        """Send what can be sent and leave; nobody is answered any more."""
        self.controller.reactor.ignore(self._control)
        self.controller.reactor.at(self, None, self.open)
        self.waiters.finish()
        self.streams.finish()
        for connection in tuple(self._connections):
            connection.flush()
            connection.close()

    def refused(self, peer: Peer, method: str, message: str) -> None:
        """Take note of a call that its caller may not make."""
        self.refusals.note(peer, self.access.name(peer.uid), method[:64], message)

    def touched(self, names: frozenset[str]) -> None:
        """Let those who wait for or follow one of these watchers look again."""
        self.waiters.touched(names)
        self.streams.touched(names)

    def _accept(self) -> None:
        for _ in range(CALLS_PER_TURN):
            try:
                connection, _ = self._control.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Gone before it was accepted, or we are out of descriptors or memory.
                if error.errno in SHORTAGES and not self._evict(None):
                    self._rest(error)
                return  # epoll reports the others again
            self._short = False
            if not self.controller.border.guard(
                "admitting a client", partial(self._admit, connection)
            ):
                connection.close()

    def _rest(self, error: OSError) -> None:
        """Accept nobody for a while: epoll would report the one that cannot be accepted without end."""
        if not self._short:
            self.controller.log.write("warning", "cannot accept a client", cause=error.strerror)
        self._short = True
        self.controller.reactor.ignore(self._control)
        self.controller.reactor.at(self, clock.now_ns() + REST_NS, self.open)

    def _admit(self, connection: socket.socket) -> None:
        try:
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return
        if _is_scarce(connection) and not self.may_operate(peer):
            self._turn_away(connection, "too many open files", "the last places are for operators")
            return
        same = [each for each in self._connections if each.peer.uid == peer.uid]
        full = len(same) >= MAX_CONNECTIONS_PER_UID and self._evict(peer.uid) is False
        reserved = 0 if peer.uid in {0, os.geteuid()} else RESERVED_CONNECTIONS
        crowded = len(self._connections) >= MAX_CONNECTIONS - reserved
        if full or (crowded and not self._evict(None)):
            self._turn_away(connection, "too many connections", "close some")
            return
        admitted = Connection(self, connection, peer)
        self._connections.add(admitted)
        self.access.meet(peer, admitted.begin)

    def may_operate(self, peer: Peer) -> bool:
        """Tell whether somebody may do more than look: such ones are served first."""
        permit = self.access.permit(peer)
        return permit is not None and permit.includes("operate")

    def _turn_away(self, connection: socket.socket, message: str, hint: str) -> None:
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(rpc.encode_error(0, "overloaded", message, {"hint": hint}))
        connection.close()

    def recheck(self) -> None:
        """Let go those who follow something and may not any more; all else is asked for each request."""
        for connection in tuple(self._connections):
            if connection.stream_count and self.access.permit(connection.peer) is None:
                connection.close()

    def _evict(self, uid: int | None) -> bool:
        """Close the connection that matters least, of one user or of all; False when all are busy."""
        idle = [each for each in self._connections if each.is_idle and uid in {None, each.peer.uid}]
        if not idle:
            return False
        min(idle, key=lambda each: each.active_ns).close()
        return True

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has closed itself."""
        self._connections.discard(connection)


def _is_scarce(connection: socket.socket) -> bool:
    """Tell whether but a few descriptors are left: the kernel gives the lowest number that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and connection.fileno() >= limit - RESERVED_DESCRIPTORS


class Connection:
    """One client."""

    def __init__(self, server: Server, connection: socket.socket, peer: Peer) -> None:
        connection.setblocking(False)
        self.peer = peer
        self.active_ns = clock.now_ns()
        self.stream_count = 0
        self.is_closed = False
        self._server = server
        self._reactor = server.controller.reactor
        self._socket = connection
        self._decoder = rpc.RequestDecoder()
        self._output = bytearray()
        self._in_flight = 0
        self._has_begun = False
        """It is known who this is, and what it says is read."""
        self._has_spoken = False
        self._frame_since_ns: int | None = None
        self._is_leaving = False
        self._has_ended = False
        self._is_pumping = False
        self._exchanges: set[Exchange] = set()

    # ---- input ----

    def _guard(self, call: Callable[[], object]) -> None:
        """Do something for this client: what goes wrong and is no answer ends this connection alone."""
        try:
            call()
        except Exception as error:
            self._server.controller.border.report("serving a client", error)
            self.close()

    def begin(self) -> None:
        """Read what is there already, so that a client that asks at once is not taken for an idle one."""
        self._guard(self._begin)

    def _begin(self) -> None:
        if self.is_closed:
            return
        self._has_begun = True
        self._reactor.at(self, self.active_ns + FIRST_BYTE_DEADLINE_NS, self.close)
        self._ready(READ)

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody would miss this connection just now."""
        waits = self._in_flight or self.stream_count or self._output
        return self._has_begun and not waits

    def _ready(self, events: int) -> None:
        self._guard(lambda: self._act(events))

    def _act(self, events: int) -> None:
        if events & WRITE:
            self.flush()
        if events & READ and not self.is_closed:
            self._read()
            if self._server.turns.are_taken or self._reactor.turn_is_over or not self._may_operate:
                self._go_on_soon()
            elif not self.is_closed:
                self._pump(CALLS_PER_TURN)
        else:
            self._go_on_soon()  # it kept itself waiting: those who ask anew come first

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
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
            if self._reactor.turn_is_over:
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
        if not self._is_pumping:
            self._is_pumping = True
            self._have_turn()
        self._set_watch(READ if not self._decoder.is_partial else 0)

    def _have_turn(self) -> None:
        self._server.turns.add(self.peer.uid, self._pump_again, may_operate=self._may_operate)

    @property
    def _may_operate(self) -> bool:
        return self._server.may_operate(self.peer)

    def _pump_again(self) -> None:
        self._is_pumping = False
        if not self.is_closed:
            self._guard(partial(self._pump, 1))  # then it is the turn of others

    def _settle(self) -> None:
        """Decide what to wait for, and until when."""
        now = clock.now_ns()
        if (
            self._has_ended
            and not self._output
            and self._in_flight == 0
            and not self._decoder_has_calls()
        ):
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
        self._reactor.at(self, deadline, self.close)
        self._set_watch(0 if paused or (self._has_ended and not self._is_leaving) else READ)

    def _decoder_has_calls(self) -> bool:
        return self._decoder.is_partial and len(self._output) > PAUSE_OUTPUT_BYTES

    def _set_watch(self, reading: int) -> None:
        events = reading | (WRITE if self._output else 0)
        self._reactor.watch(self._socket, events, self._ready)

    def _serve(self, call: rpc.Call | rpc.BadCall) -> None:
        if isinstance(call, rpc.BadCall):
            self.send(rpc.encode_error(call.msgid, "invalid_request", call.message, {}))
            if call.fatal:
                self._leave()
            return
        permit = self._server.access.permit(self.peer)
        if permit is None:
            hint = "allowed are root, the user who started the manager, and users in daemon.access"
            who = self._server.access.named(self.peer.uid)
            message = f"{who} may not use this manager: it has no role here"
            self._server.refused(self.peer, call.method, message)
            self.send(rpc.encode_error(call.msgid, "denied", message, {"hint": hint}))
            self._leave()
            return
        if self._in_flight >= MAX_REQUESTS_IN_FLIGHT:
            message = f"more than {MAX_REQUESTS_IN_FLIGHT} requests wait for their answers"
            self.send(rpc.encode_error(call.msgid, "overloaded", message, {}))
            return
        self._in_flight += 1
        exchange = Exchange(self._server.controller, self, call, permit)
        self._exchanges.add(exchange)
        exchange.serve(METHODS, self._server.remembered)

    # ---- output ----

    def answered(self, exchange: Exchange) -> None:
        """Note that a request has got its answer."""
        self._in_flight -= 1
        self._exchanges.discard(exchange)

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
        elif self._has_ended and not self._is_pumping:
            # The answer may have come late, as the last thing that kept the connection open.
            self._is_pumping = True
            self._have_turn()

    def flush(self) -> None:
        """Send waiting output as far as the client takes it."""
        had_output = bool(self._output)
        while self._output and not self.is_closed:
            try:
                sent = self._socket.send(memoryview(self._output)[:READ_BYTES])
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
                self._server.streams.drained(self)

    def drain(self, until_ns: int) -> None:
        """Wait until the client has taken everything, at most until an instant; only at the very end."""
        poll = select.poll()
        while self._output and not self.is_closed and clock.now_ns() < until_ns:
            poll.register(self._socket, select.POLLOUT)
            poll.poll((until_ns - clock.now_ns()) / MILLISECOND_NS)
            self.flush()

    def wait_for_end(self, until_ns: int) -> None:
        """Wait until the client hangs up, at most until an instant; only at the very end."""
        poll = select.poll()
        while not self.is_closed and not self._has_ended and clock.now_ns() < until_ns:
            poll.register(self._socket, select.POLLIN)
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
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close at once; requests under way go on, their answers go nowhere."""
        if self.is_closed:
            return
        self.is_closed = True
        self._reactor.ignore(self._socket)
        self._reactor.at(self, None, self.close)
        self._socket.close()
        self._server.forget(self)
        self._server.streams.closed(self)
        for exchange in tuple(self._exchanges):
            exchange.abandoned()
