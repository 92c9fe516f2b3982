"""The output of all processes: opened with them, read while they write, handed to the next keeper."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from reconciler.model.process import NullSink
from reconciler.model.units import SECOND_NS
from reconciler.output.log_daemon import PLACES
from reconciler.output.sinks import Sinks
from reconciler.output.stream import Pipes, Stream, fifo_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reconciler.model.process import ProcessId, Sink
    from reconciler.output.spool import Spool
    from reconciler.output.stream import Outgoing

QUIET_NS: Final = 10 * SECOND_NS
"""After so long without a large round a pipe has its usual size again: others of the user may need the share."""


class Capture:
    """All streams, and the sinks that they share."""

    def __init__(
        self,
        fifo_dir: str,
        spool: Spool,
        watch: Callable[[int, Callable[[], int]], None],
        ignore: Callable[[int], None],
        now_wall: Callable[[], float],
        daemons: Mapping[str, str] = PLACES,
    ) -> None:
        """Make the folder of FIFOs; `daemons` are the sockets of the log daemons."""
        os.makedirs(fifo_dir, 0o700, exist_ok=True)
        self.sinks = Sinks(watch, ignore, now_wall, daemons)
        self.pipes = Pipes(fifo_dir, spool, self.sinks, watch, ignore, now_wall)
        self._handed: dict[str, Outgoing] = {}

    def open(self, process: ProcessId, stdout: Sink, stderr: Sink | None) -> Streams:
        """Open the sinks and make the FIFOs of a process; `stderr` None joins standard output.

        Raises `OSError` with the file's name; nothing is left behind then.
        """
        streams: list[Stream] = []
        try:
            for name, sink in (("stdout", stdout), ("stderr", stderr)):
                if sink is not None:
                    streams.append(Stream(self.pipes, process, name, sink))
                    streams[-1].start()
        except Exception:
            for stream in streams:
                stream.close()
            raise
        return Streams(streams)

    def outgoing(self) -> dict[str, Outgoing]:
        """Return all open FIFOs, for the new code of this process."""
        return {name: stream.outgoing() for name, stream in self.pipes.open.items()}

    def go_on(
        self,
        handed: Mapping[str, Outgoing],
        unsent: bytes,
        messages: Mapping[str, Iterable[bytes]],
    ) -> None:
        """Take what the former code of this process left; `reopen` finds the FIFOs among it."""
        self._handed = dict(handed)
        self.sinks.send_on(unsent, messages)

    def reopen(
        self,
        process: ProcessId,
        stdout: Sink,
        stderr: Sink | None,
        failed: Callable[[OSError], None],
    ) -> Streams:
        """Go on with the FIFOs of a process that a former keeper started, as far as there are any.

        `failed` hears of a sink that cannot be opened; the output then goes nowhere, and nobody waits. Raises
        `OSError` when a FIFO cannot be opened just now.
        """
        streams: list[Stream] = []
        for name, sink in (("stdout", stdout), ("stderr", stderr)):
            if sink is None:
                continue
            try:
                stream = Stream(self.pipes, process, name, sink, runs=True)
            except OSError as error:
                failed(error)
                stream = Stream(self.pipes, process, name, NullSink())
            streams.append(stream)
            if not isinstance(sink, NullSink):
                stream.go_on(self._handed.pop(fifo_name(process, name), None))
        return Streams(streams)

    @property
    def due_ns(self) -> int | None:
        """Return when to `tend` (monotonic), None while no pipe is large and no sink needs it."""
        busy_ns, sinks_ns = self.pipes.enlarged.values(), self.sinks.due_ns
        dues = [] if sinks_ns is None else [sinks_ns]
        return min([*dues, *(each + QUIET_NS for each in busy_ns)], default=None)

    def tend(self) -> None:
        """Do what is due for the sinks, and give the pipes of those who are busy no longer their usual size."""
        self.sinks.tend()
        now_ns = time.monotonic_ns()
        for stream, busy_ns in list(self.pipes.enlarged.items()):
            if now_ns >= busy_ns + QUIET_NS:
                stream.shrink()


class Streams:
    """Standard output and error of one process; they are one stream when stderr joins stdout."""

    def __init__(self, streams: list[Stream]) -> None:
        self._all = streams
        self.stdout_fd = streams[0].worker_fd
        self.stderr_fd = streams[-1].worker_fd

    def close_worker_ends(self) -> None:
        """Close our copies of the worker's ends, once it has its own."""
        for stream in self._all:
            stream.close_worker_end()

    def drained(self) -> bool:
        """Read a round; tell whether all is read that was there at the first call.

        What comes later is written by others than the process that has ended, and not waited for.
        """
        return all([stream.drained() for stream in self._all])  # noqa: C419  (all are read)

    def tail(self) -> bytes:
        """Return the end of what was captured."""
        return b"".join(stream.tail for stream in self._all)

    def redirect(self, stdout: Sink, stderr: Sink | None) -> None:
        """Go on with other sinks; one that cannot be opened raises `OSError` and changes nothing.

        Streams that were one stay one, and what went to /dev/null from the start still does.
        """
        sinks = (stdout, stdout if stderr is None else stderr)
        changes = [
            (stream, sink)
            for stream, sink in zip(self._all, sinks, strict=False)
            if stream.can_go_on(sink)
        ]
        with ExitStack() as undo:
            targets = [stream.opened(sink, undo) for stream, sink in changes]
            undo.pop_all()
        for (stream, sink), target in zip(changes, targets, strict=True):
            stream.redirect(sink, target)

    def leave(self) -> None:
        """Read a last round and write what is left of a line; the FIFOs stay."""
        for stream in self._all:
            stream.leave()

    def close(self) -> None:
        """Read a last round, write what is left of a line, remove the FIFOs."""
        for stream in self._all:
            stream.close()
