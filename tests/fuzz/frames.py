"""Frames at a live control socket: a manager that runs real processes must go on as if nothing was sent.

A batch is some well-formed calls that make little sense, and at its end a frame that is broken. Each batch has
a connection of its own, for a broken frame ends it; several are open at a time. Meanwhile another client, in a
process of its own, asks for the status without pause. Its longest wait is told in two ways: by the clock, and
without the time that it or the controller's loop could have run and others had the processor (proc_pid_schedstat(5)),
which on a busy machine says nothing of us. What the loop works and what it waits for, such as its own threads, is
in both.

No frame may stop what runs: commands that do are only sent for watchers that do not exist, `shutdown` not at all.
"""

from __future__ import annotations

import io
import multiprocessing
import random
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack

from tests.e2e.stage import Stage, descriptors, resident_bytes, stage, until
from tests.fuzz.mutations import ODD_TEXTS, worse_bytes

SPEC = """\
watchers:
  one: {cmd: sleep 1000, numprocesses: 2}
  two: {cmd: sleep 1000}
  done: {cmd: "true", restart: never}
"""
CONNECTIONS = 12
CALLS_PER_BATCH = 8
PATIENCE_S = 60.0
READS = (
    "hello",
    "status",
    "events",
    "logs",
    "events.follow",
    "apply.follow",
    "logs.follow",
    "stream.cancel",
)
WRITES = ("start", "stop", "restart", "reload", "signal", "scale", "rerun")
KEYS = (
    "names", "labels", "usage", "since", "limit", "lines", "stream", "signal", "counts", "request_id", "client",
    "protocol", "all", "failed", "timeout_ns", "wait", "reason", "overlap", "source", "only", "x",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What a run has shown."""

    frames: int
    seconds: float
    answers: int
    longest_wait_s: float
    longest_stall_s: float
    growth_bytes: int
    descriptors_kept: int

    def __str__(self) -> str:
        return (
            f"frames: {self.frames} sent in {self.seconds:.0f} s, {self.answers} pieces of answers; "
            f"another client waited at most {self.longest_wait_s * 1e3:.0f} ms "
            f"({self.longest_stall_s * 1e3:.0f} ms not for a processor); "
            f"memory +{self.growth_bytes / 2**20:.1f} MiB, descriptors +{self.descriptors_kept}; same processes"
        )


def run(frames: int, seed: int) -> Figures:
    """Send frames and return the figures; whatever broke is an assertion that failed."""
    with stage(SPEC) as it:
        it.up()
        before = it.status()
        controller = int(before["controller_pid"])
        socket_path = it.runtime_dir / "control.sock"
        _Sender(socket_path, seed - 1).send(CALLS_PER_BATCH * 200)  # what is kept after a first use
        _until_alone(it, controller)
        memory, open_before = resident_bytes(controller), descriptors(controller)
        watch = _Watch(socket_path, controller)
        watch.start()
        begun = time.monotonic()
        sender = _Sender(socket_path, seed)
        sender.send(frames)
        seconds = time.monotonic() - begun
        watch.finish()
        until(lambda: descriptors(controller) <= open_before, "descriptors are given back")
        after = it.status()
        assert int(after["controller_pid"]) == controller, "the controller was replaced"
        assert _processes(after) == _processes(before)
        return Figures(
            sender.sent,
            seconds,
            sender.answers,
            watch.longest_wait_s,
            watch.longest_stall_s,
            resident_bytes(controller) - memory,
            descriptors(controller) - open_before,
        )


def _processes(status: dict[str, object]) -> list[object]:
    watchers = status["watchers"]
    assert isinstance(watchers, list)
    return [(w["name"], w["state"], [s["pid"] for s in w["slots"]]) for w in watchers]


def _until_alone(it: Stage, controller: int) -> None:
    """Wait until the connections of the warming up are closed: their number has stopped falling."""
    last = [descriptors(controller) + 1]

    def rests() -> bool:
        it.status()
        last.append(descriptors(controller))
        return last[-1] == last[-2]

    until(rests, "descriptors are given back", every_s=0.2)


# ---- frames ---------------------------------------------------------------------------------------


class Frames:
    """Draws frames from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        # Of calls that do nothing: with a byte less, one for nobody may be one for all.
        self._known = [self.call(READS) for _ in range(400)]

    def batch(self) -> tuple[bytes, int]:
        """Return the bytes of a batch, and of how many frames they are."""
        calls = [self.call() for _ in range(CALLS_PER_BATCH - 1)]
        return b"".join((*calls, self.broken())), CALLS_PER_BATCH

    def call(self, methods: Sequence[str] = ()) -> bytes:
        """Return a well-formed call that mostly makes no sense."""
        chance = self._chance
        method = chance.choice(methods or (READS if chance.random() < 0.6 else WRITES))
        params = {chance.choice(KEYS): self._value(3) for _ in range(chance.randrange(4))}
        if method in WRITES:
            params["names"] = [f"nobody-{chance.randrange(100)}"]
            params.pop("labels", None)
        if chance.random() < 0.05:
            method = chance.choice(ODD_TEXTS)
        message: list[object] = [0, chance.randrange(2**32), method, [params] if params else []]
        if chance.random() < 0.05 and method not in WRITES:
            message[chance.randrange(1, 4)] = self._value(4)
        return _packed(message)

    def broken(self) -> bytes:
        """Return bytes that are most likely no call."""
        chance = self._chance
        kind = chance.randrange(6)
        if kind < 3:
            return worse_bytes(chance, chance.choice(self._known), self._known)
        if kind == 3:
            return chance.randbytes(chance.randint(1, 400))
        if kind == 4:
            claim = chance.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"))
            return claim + chance.choice((b"\xff" * 4, b"\x00\x00\xff\xff", b"\x00\x10\x00\x01"))
        return bytes((chance.choice((0x91, 0x81, 0x92)),)) * chance.randint(30, 3000)

    def _value(self, depth: int) -> object:
        chance = self._chance
        kind = chance.randrange(9 if depth else 7)
        if kind == 0:
            return chance.choice((None, True, False))
        if kind == 1:
            return chance.choice((0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1))
        if kind == 2:
            return chance.choice((0.5, float("inf"), float("nan"), -1e308))
        if kind == 3:
            return chance.choice(ODD_TEXTS)
        if kind == 4:
            return chance.randbytes(chance.randrange(40))
        if kind == 5:
            return f"nobody-{chance.randrange(100)}"
        if kind == 6:
            return "x" * chance.choice((1, 255, 256, 5000))
        if kind == 7:
            return [self._value(depth - 1) for _ in range(chance.randrange(6))]
        return {chance.choice(KEYS): self._value(depth - 1) for _ in range(chance.randrange(6))}


def _packed(message: object) -> bytes:
    data: bytes = msgpack.packb(message)
    return data


# ---- sending --------------------------------------------------------------------------------------


class _Sender:
    """Keeps some connections busy, each with one batch; reads answers and throws them away."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = str(path)
        self._frames = Frames(seed)
        self._selector = selectors.DefaultSelector()
        self._unsent: dict[socket.socket, bytes] = {}
        self._since: dict[socket.socket, float] = {}
        self.sent = 0
        self.answers = 0

    def send(self, frames: int) -> None:
        while self.sent < frames or self._unsent:
            while self.sent < frames and len(self._unsent) < CONNECTIONS:
                self._open()
            for key, events in self._selector.select(PATIENCE_S):
                assert isinstance(key.fileobj, socket.socket)
                self._go_on(key.fileobj, events)
            now = time.monotonic()
            slow = [one for one, since in self._since.items() if now - since > PATIENCE_S]
            assert not slow, "a connection was neither answered nor closed"

    def _open(self) -> None:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(PATIENCE_S)
        one.connect(self._path)
        one.setblocking(False)
        self._unsent[one], count = self._frames.batch()
        self._since[one] = time.monotonic()
        self.sent += count
        self._selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _go_on(self, one: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                rest = self._unsent[one]
                self._unsent[one] = rest[one.send(rest) :]
                if not self._unsent[one]:
                    # It may be waiting for the rest of a frame that was cut: there is none.
                    one.shutdown(socket.SHUT_WR)
                    self._selector.modify(one, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                data = one.recv(2**18)
                self.answers += bool(data)
                if not data:
                    self._close(one)
        except BlockingIOError:
            return
        except OSError:
            self._close(one)

    def _close(self, one: socket.socket) -> None:
        self._selector.unregister(one)
        del self._unsent[one], self._since[one]
        one.close()


class _Watch:
    """Another client, in a process of its own: asks for the status all the while, and measures its waits."""

    def __init__(self, path: Path, controller: int) -> None:
        there = multiprocessing.get_context("spawn")
        self._here, end = there.Pipe()
        self._process = there.Process(target=_ask, args=(str(path), controller, end), daemon=True)
        self.longest_wait_s = 0.0
        self.longest_stall_s = 0.0

    def start(self) -> None:
        self._process.start()
        assert self._here.poll(PATIENCE_S), "the other client does not begin"
        self._here.recv()

    def finish(self) -> None:
        self._here.send("over")
        assert self._here.poll(PATIENCE_S), "the other client was not answered"
        self.longest_wait_s, self.longest_stall_s, failure = self._here.recv()
        self._process.join(PATIENCE_S)
        assert not failure, failure


def _ask(path: str, controller: int, end: Connection) -> None:
    """Ask until told that it is over, then tell the longest wait and stall, and what went wrong if anything did."""
    request = _packed([0, 7, "status", [{"names": ["one"]}]])
    waits, stalls, failure = [0.0], [0.0], ""
    with (
        socket.socket(socket.AF_UNIX) as client,
        open(f"/proc/{controller}/schedstat", "rb", buffering=0) as loop,
        open("/proc/self/schedstat", "rb", buffering=0) as own,
    ):
        client.settimeout(PATIENCE_S)
        client.connect(path)
        end.send("begun")
        while not failure and not end.poll(0.005):
            begun, without = time.monotonic(), _without_processor_s(loop, own)
            try:
                client.sendall(request)
                answer = _answer(client)
            except (AssertionError, OSError) as error:
                failure = f"the other client was not answered: {error!r}"
                break
            if answer[1:3] != [7, None]:
                failure = f"the other client was answered {answer}"
            waits.append(time.monotonic() - begun)
            stalls.append(waits[-1] - (_without_processor_s(loop, own) - without))
    end.send((max(waits), max(stalls), failure))


def _answer(client: socket.socket) -> list[Any]:
    unpacker = msgpack.Unpacker()
    while True:
        data = client.recv(2**18)
        assert data, "it was cut off"
        unpacker.feed(data)
        for answer in unpacker:
            return list(answer)


def _without_processor_s(*of: io.FileIO) -> float:
    """Return how long threads could have run so far and did not."""
    total = 0
    for schedstat in of:
        schedstat.seek(0)
        total += int(schedstat.read(100).split()[1])
    return total / 1e9
