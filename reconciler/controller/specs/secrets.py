"""The values of secrets: read here, kept in memory only, and put into a launch on its way to the keeper.

Everybody else knows a keyed hash of them. Its key lies in the state folder, so that hashes that outlive
this controller (in the keeper's records and in the ledger of jobs) can be compared with new ones, and say
nothing to whoever finds them without the key.

A source (a file, a command) is read once, however many watchers name it, and a command with `refresh` again
when its time has come: the first time when this controller begins, which does not know when a former one did.
Files are read in a background lane. A command is user code and runs in a process group of its own, within
limits of time and output; what it writes besides its value is not kept, for nobody knows what it is. When a
controller dies, a command that it started is left to end by itself: its output leads nowhere then.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import cause_of
from reconciler.controller.runtime.child import Answer, Child
from reconciler.controller.runtime.file_watch import Signature, signature_at, signature_of
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.loader import environment
from reconciler.core.backoff import doubled_ns, share
from reconciler.core.secrets import FIRST_RETRY_NS
from reconciler.model.action import Spawn
from reconciler.model.observation import Observation, SecretsRead, SecretsUnreadable
from reconciler.model.process import MAIN
from reconciler.model.spec import SecretSpec, Spec
from reconciler.model.units import MINUTE_NS
from reconciler.model.value import Part, Struct, field, replace
from reconciler.specfile.trust import refusal

MAX_SECRET_BYTES: Final = 64 * 1024
"""Length of one value."""
MAX_COMMANDS: Final = 8
"""Commands that run at the same time; the others wait for their turn."""
LAST_RETRY_NS: Final = 5 * MINUTE_NS
"""How long until what should have been read again, and could not be, is tried once more."""
KEY_FILE: Final = "secrets.key"
KEY_BYTES: Final = 32


class Value(Struct, frozen=True):
    """What a source holds; of a file, how it looked then. Never shown: its text is in no `repr`."""

    text: str
    signature: Signature = None

    def __repr__(self) -> str:
        return "Value(...)"


class Unreadable(Struct, frozen=True):
    """Why a source has no value, as a sentence that follows the name of the secret."""

    cause: str
    signature: Signature = None


class Readings(Struct, frozen=True):
    """How often a source was read, how often in vain since, and when it is read again; None: it is being read."""

    count: int = 0
    failures: int = 0
    due_ns: int | None = None


class Secrets(Part):
    """Reads secrets when the core asks for them, and again when they may have changed."""

    def __repr__(self) -> str:
        return "Secrets(...)"

    state_dir: str
    reactor: Reactor
    lanes: Lanes
    feed: Callable[[Observation], None]
    quiet_ns: Callable[[], int]
    """Says how long a file must rest after its last change."""
    files_changed: Callable[[], None]
    """Called when `files` are others than before."""
    _key: bytes = b""
    _wanted: dict[str, Mapping[str, SecretSpec]] = field(default_factory=dict)
    """What the watchers of the spec in force need; only those that need something."""
    _used: frozenset[SecretSpec] = frozenset()
    """All sources of these."""
    _found: dict[SecretSpec, Value | Unreadable] = field(default_factory=dict)
    _reading: set[SecretSpec] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    """Watchers that wait for their answer."""
    _values: dict[str, dict[str, str]] = field(default_factory=dict)
    """What the processes of a watcher get."""
    _waiting: dict[str, list[Callable[[Mapping[str, str] | str], None]]] = field(
        default_factory=dict
    )
    """Who waits for the values of a watcher."""
    _queue: deque[SecretSpec] = field(default_factory=deque)
    _commands: dict[SecretSpec, Child] = field(default_factory=dict)
    _readings: dict[SecretSpec, Readings] = field(default_factory=dict)
    """Of the sources that are read again by the clock."""

    # ---- what others ask for ----

    def follow(self, spec: Spec) -> None:
        """Know what is needed from now on.

        Files are read at once, and all that is read again by the clock; other commands when a process needs them.
        """
        self._wanted = {name: each.secrets for name, each in spec.watchers.items() if each.secrets}
        self._used = frozenset(s for each in self._wanted.values() for s in each.values())
        self._found = {s: found for s, found in self._found.items() if s in self._used}
        self._values = {n: v for n, v in self._values.items() if n in self._wanted}
        self._asked &= self._wanted.keys()
        self._readings = {s: each for s, each in self._readings.items() if s in self._used}
        for name, sources in self._wanted.items():
            is_of_files = all(each.cmd is None for each in sources.values())
            begins = {each for each in sources.values() if each.refresh} - self._readings.keys()
            if begins or (is_of_files and name not in self._values):
                self.read(name)
        self._wake_for_next()
        self.files_changed()

    def read(self, name: str) -> None:
        """Read what a watcher needs and is not at hand, and tell the core what came of it."""
        sources = self._wanted.get(name, {})
        self._asked.add(name)
        for source in sources.values():
            if not isinstance(self._found.get(source), Value):
                self._read(source)
        self._answer()

    def read_again(self) -> None:
        """Read all sources again whose values are in use: somebody has applied, or asked by a signal."""
        self._asked |= self._values.keys()
        for source in {s for name in self._values for s in self._wanted.get(name, {}).values()}:
            self._read(source)

    def filled(self, action: Spawn) -> Spawn:
        """Return a start with the values that its process gets; hooks and helpers get none."""
        values = self._values.get(action.id.owner)
        if not values or action.id.role != MAIN:
            return action
        return replace(action, launch=replace(action.launch, env={**action.launch.env, **values}))

    def give(self, name: str, then: Callable[[Mapping[str, str] | str], None]) -> None:
        """Hand over the values of a watcher once all are at hand, or why that cannot be."""
        if name in self._values or name not in self._wanted:
            then(self._values.get(name, {}))
            return
        self._waiting.setdefault(name, []).append(then)
        self.read(name)

    def files(self) -> frozenset[str]:
        """Return the files that values come from, to be watched."""
        return frozenset(each.file for each in self._used if each.file is not None)

    def look_again(self) -> None:
        """Read those files again that do not look as they did, once they have rested."""
        changed = [source for source in self._found if self._has_changed(source)]
        if changed:
            due_ns = clock.now_ns() + self.quiet_ns()
            self.reactor.at(self, due_ns, partial(self._read_changed, changed))

    def close(self) -> None:
        """End the commands that run."""
        for command in tuple(self._commands.values()):
            command.cancel()
        self._commands.clear()

    # ---- reading ----

    def _has_changed(self, source: SecretSpec) -> bool:
        path, found = source.file, self._found.get(source)
        return found is not None and path is not None and found.signature != signature_at(path)

    def _read_changed(self, sources: list[SecretSpec]) -> None:
        for source in sources:
            if self._has_changed(source):
                self._ask_for(source)

    def _read(self, source: SecretSpec) -> None:
        if source in self._reading:
            return
        self._reading.add(source)
        if source.file is not None:
            path = source.file
            self.lanes.run(
                "files",
                lambda: read_file(path),
                lambda found: self._finished(source, found),
                lambda said: self._finished(source, Unreadable(f"{path}: {said}")),
            )
        else:
            self._queue.append(source)
            self._run_commands()

    def _run_commands(self) -> None:
        while self._queue and len(self._commands) < MAX_COMMANDS:
            source = self._queue.popleft()
            assert source.cmd is not None
            try:
                child = Child(self.reactor, source.cmd, cwd=source.working_dir, env=environment())
            except (OSError, ValueError) as error:
                answer = Answer(b"", f"cannot be run: {cause_of(error)}")
                self.reactor.soon(partial(self._answered, source, answer))
                continue
            self._commands[source] = child
            limit = MAX_SECRET_BYTES + 2
            child.ask(b"", limit, source.timeout, partial(self._answered, source))

    def _answered(self, source: SecretSpec, answer: Answer) -> None:
        self._commands.pop(source, None)
        self._run_commands()
        found = Unreadable(answer.trouble) if answer.trouble else value_of(answer.output)
        if isinstance(found, Unreadable):
            program = source.cmd[0] if source.cmd else ""
            hint = "it runs as the manager does; its output is not shown"
            found = Unreadable(f"{program}: {found.cause} ({hint})")
        self._finished(source, found)

    def _finished(self, source: SecretSpec, found: Value | Unreadable) -> None:
        self._reading.discard(source)
        if source in self._used:
            self._found[source] = found
            if source.refresh:
                self._read_later(source, source.refresh, is_read=isinstance(found, Value))
        self._answer()

    # ---- reading by the clock ----

    def _read_later(self, source: SecretSpec, refresh_ns: int, *, is_read: bool) -> None:
        """Have a source read again in its time: a tenth earlier at most, so that not all are read at once."""
        before, now_ns = self._readings.get(source, Readings()), clock.now_ns()
        if is_read:
            seed = f"{self._get_key().hex()} {source.cmd} {before.count}"
            early_ns = refresh_ns * share(seed) // 10_000
            readings = Readings(before.count + 1, 0, now_ns + refresh_ns - early_ns)
        else:
            failures = before.failures + 1
            wait_ns = doubled_ns(FIRST_RETRY_NS, min(LAST_RETRY_NS, refresh_ns), failures)
            readings = Readings(before.count, failures, now_ns + wait_ns)
        self._readings[source] = readings
        self._wake_for_next()

    def _wake_for_next(self) -> None:
        dues = (each.due_ns for each in self._readings.values() if each.due_ns is not None)
        self.reactor.at((self, "refresh"), min(dues, default=None), self._read_due)

    def _read_due(self) -> None:
        now_ns = clock.now_ns()
        for source, each in list(self._readings.items()):
            if each.due_ns is not None and each.due_ns <= now_ns:
                self._readings[source] = replace(each, due_ns=None)
                self._ask_for(source)
        self._wake_for_next()

    def _ask_for(self, source: SecretSpec) -> None:
        """Read a source, and tell the core of all watchers that name it."""
        self._asked.update(n for n, wanted in self._wanted.items() if source in wanted.values())
        self._read(source)

    # ---- what the core is told ----

    def _answer(self) -> None:
        """Tell the core of those watchers of which everything was tried."""
        for name in sorted(self._asked):
            sources = self._wanted.get(name, {})
            if self._reading.isdisjoint(sources.values()):
                self._asked.discard(name)
                self._tell(name, sources)

    def _tell(self, name: str, sources: Mapping[str, SecretSpec]) -> None:
        values = {}
        for key, source in sources.items():
            found = self._found.get(source, Unreadable("it was not read"))
            if isinstance(found, Unreadable):
                message = f"cannot read the secret {key}: {found.cause}"
                self.feed(SecretsUnreadable(name, message, sources))
                self._hand_over(name, message)
                return
            values[key] = found.text
        self._values[name] = values
        self.feed(SecretsRead(name, self._digest(name, values), sources))
        self._hand_over(name, values)

    def _hand_over(self, name: str, found: Mapping[str, str] | str) -> None:
        for then in self._waiting.pop(name, ()):
            then(found)

    def _digest(self, name: str, values: Mapping[str, str]) -> str:
        import hmac  # late: it loads OpenSSL, and most specs have no secrets

        text = json.dumps([name, sorted(values.items())])
        return hmac.new(self._get_key(), text.encode(), "sha256").hexdigest()[:16]

    def _get_key(self) -> bytes:
        self._key = self._key or key_in(self.state_dir)
        return self._key


# ---- files ----------------------------------------------------------------------------------------


def read_file(path: str) -> Value | Unreadable:
    """Return the value that a file holds; only a regular file is read, and never waited for."""
    if (doubt := refusal(path)) is not None:
        return Unreadable(f"cannot trust {path}: {doubt}", signature_at(path))
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        status = os.fstat(descriptor)
        found = (
            value_of(os.read(descriptor, MAX_SECRET_BYTES + 3))
            if stat.S_ISREG(status.st_mode)
            else Unreadable("it is not a regular file")
        )
    except OSError as error:
        return Unreadable(f"{path}: {(error.strerror or '').lower()}", signature_at(path))
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if isinstance(found, Unreadable):
        return Unreadable(f"{path}: {found.cause}", signature_of(status))
    return Value(found.text, signature_of(status))


def value_of(data: bytes | bytearray) -> Value | Unreadable:
    """Return the value that bytes mean: text without NUL; one line break at the end is left out."""
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        return Unreadable("it is empty")
    if len(data) > MAX_SECRET_BYTES:
        return Unreadable(f"it is longer than {MAX_SECRET_BYTES} bytes")
    if b"\0" in data:
        return Unreadable("it holds a NUL byte, which no environment can")
    try:
        return Value(data.decode())
    except UnicodeDecodeError:
        return Unreadable("it is not UTF-8 text")


# ---- the key --------------------------------------------------------------------------------------


def key_in(folder: str) -> bytes:
    """Return the key of this instance, made if there is none.

    When it can be neither read nor written, a key for this life only: then secrets look changed to the next.
    """
    path = os.path.join(folder, KEY_FILE)
    for _ in range(2):
        with suppress(OSError), open(path, "rb", opener=_no_link) as file:
            key = file.read(KEY_BYTES + 1)
            if len(key) == KEY_BYTES:
                return key
        _write_key(path)
    return os.urandom(KEY_BYTES)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _write_key(path: str) -> None:
    """Put a new key in the place of what is there, whole or not at all."""
    beside = f"{path}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO}:
            raise
