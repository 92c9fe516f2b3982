"""The child process that reads a spec: `python -I -m reconciler.specfile`.

It may be started before there is anything to ask: while it imports, the files come to rest. A request
goes to its standard input, one JSON answer comes back; whatever goes wrong with it, from a crash of the
compiled parser to a file that takes too long, is a mistake in the spec and never ours.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Never, TypeAlias

from reconciler.controller.runtime.child import Answer, Child
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.digest import sha256
from reconciler.model.errors import SpecError
from reconciler.model.job import Instant
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import PlainError, Raw, Struct, field, from_json, from_plain, replace

WALL_LIMIT_NS: Final = 30 * SECOND_NS
NICE: Final = 10
"""Of a child that reads for somebody who may only look."""
ANSWER_LIMIT_BYTES: Final = 128 * 2**20
_EMPTY: Final[Mapping[str, Never]] = {}
_MAPS: Final = tuple(
    name for name in WatcherSpec.__struct_fields__ if getattr(WatcherSpec(()), name) == {}
)
_NOT_FOR_SPECS: Final = ("RECONCILE_LINK_FD", "RECONCILE_CONTROL_FD")


class ReadFile(Struct, frozen=True):
    """A file that the loader has read."""

    digest: str
    size: int


class Loaded(Struct, frozen=True):
    """A valid spec."""

    spec: Spec
    files: Mapping[str, ReadFile]
    warnings: tuple[SpecError, ...] = ()
    next_runs: Mapping[str, tuple[Instant, ...]] = field(default_factory=dict)
    """The next instants of jobs with a schedule, as of then."""


class Mistaken(Struct, frozen=True):
    """Every mistake that was found."""

    errors: tuple[SpecError, ...]


Reading: TypeAlias = Loaded | Mistaken


def environment() -> dict[str, str]:
    """Return what `${env.NAME}` means in a spec: the manager's environment."""
    return {key: value for key, value in os.environ.items() if key not in _NOT_FOR_SPECS}


def environment_digest() -> str:
    """Return a digest of the environment, to know whether a spec could read differently now."""
    text = json.dumps(sorted(environment().items()))
    return sha256(text.encode(errors="surrogateescape")).hexdigest()


class Loader:
    """One child, for one request."""

    def __init__(self, reactor: Reactor, lanes: Lanes, *, is_urgent: bool = True) -> None:
        """Start the child, so that it can import what it needs. One that is not urgent lets others go first.

        Raises `OSError` when there is no room for another process just now.
        """
        self._lanes = lanes
        command = [sys.executable, "-I", "-m", "reconciler.specfile"]
        self._child = Child(reactor, command, complains=True)
        self._done: Callable[[Reading], None] | None = None
        if not is_urgent:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._child.pid, NICE)

    def ask(
        self, paths: tuple[str, ...], done: Callable[[Reading], None], known: Spec | None = None
    ) -> None:
        """Send the request; `done` is called once with what became of it, unless it is cancelled.

        `known` is the spec in force: its watchers stand in the new one wherever they are equal.
        """
        self._done = done
        request = json.dumps({"paths": paths, "environ": environment()}).encode()

        def ended(answer: Answer) -> None:
            # A large answer takes a while to become values: not the loop's while.
            self._lanes.run(
                "loader",
                lambda: self._reading(answer, paths, known),
                self._answered,
                lambda said: self._answered(
                    _failed(paths, f"cannot take the loader's answer: {said}")
                ),
            )

        self._child.ask(request, ANSWER_LIMIT_BYTES, WALL_LIMIT_NS, ended)

    def cancel(self) -> None:
        """Kill the child and forget the question."""
        self._done = None
        self._child.cancel()

    def _answered(self, reading: Reading) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(reading)

    def _reading(self, answer: Answer, paths: tuple[str, ...], known: Spec | None) -> Reading:
        try:
            if answer.trouble:
                raise ValueError(answer.trouble)
            return reading_of(answer.output, known)
        except (PlainError, ValueError, RecursionError) as error:
            more = f" ({answer.complaint})" if answer.complaint else ""
            return _failed(paths, f"the loader failed: {error}{more}")


def _failed(paths: tuple[str, ...], message: str) -> Mistaken:
    hint = "is it nested very deeply, or very large? `reconcile validate` reads it the same way"
    return Mistaken(tuple(SpecError(path, 0, 0, "", message, hint) for path in paths))


def handed_over(keeper_pid: int, descriptor: int | None) -> Reading | None:
    """Return what was read when the manager was started; the first controller gets it, and only once.

    The command line has to read the spec to know where the instance lives, and leaves the answer in
    memory that the keeper holds; it is emptied here. None: there is nothing, or it cannot be used.
    """
    if descriptor is None:
        return None
    try:
        with open(f"/proc/{keeper_pid}/fd/{descriptor}", "r+b", buffering=0) as file:
            data = file.read()
            file.truncate(0)
        return reading_of(data) if data else None
    except (OSError, PlainError, ValueError, RecursionError):
        return None  # the loader will tell what is wrong, if anything


def reading_of(answer: bytes | bytearray, known: Spec | None = None) -> Reading:
    """Return what the loader's answer says; watchers that are equal to those of a known spec are the very same.

    Off the loop, and in small parts: a call that makes values of thousands of watchers at once keeps the loop from
    going on, in whatever thread. All that the loop compares afterwards is the same object.

    Raises `PlainError` or `ValueError` when it is no answer.
    """
    try:
        parts: dict[str, Raw] = from_json(dict[str, Raw], answer)
    except PlainError:
        raise
    except ValueError:
        # Paths may be no text (surrogateescape); only Python's own reader takes them.
        plain = json.loads(answer)
        is_mistaken = isinstance(plain, dict) and "errors" in plain
        reading: Reading = from_plain(Mistaken if is_mistaken else Loaded, plain)
        return reading
    if "errors" in parts:
        mistaken: Mistaken = from_json(Mistaken, answer)
        return mistaken
    rest: Loaded = from_json(Loaded, _text_of({**parts, "spec": Raw(b"{}")}))
    return replace(rest, spec=_spec_of(parts.get("spec", Raw(b"null")), known or Spec()))


def _spec_of(text: Raw, known: Spec) -> Spec:
    fields: dict[str, Raw] = from_json(dict[str, Raw], text)
    texts: dict[str, Raw] = from_json(dict[str, Raw], fields.pop("watchers", Raw(b"{}")))
    rest: Spec = from_json(Spec, _text_of(fields))
    watchers, words = {}, dict[str, str]()
    for name, each in texts.items():
        found: WatcherSpec = from_json(WatcherSpec, each)
        same = known.watchers.get(name)
        watchers[name] = same if same is not None and same == found else _slim(found, words)
    return replace(rest, watchers=watchers)


def _slim(found: WatcherSpec, words: dict[str, str]) -> WatcherSpec:
    """Return a watcher that has its words, and what is empty in it, in common with others: nobody changes them."""
    folder = found.working_dir
    return replace(
        found,
        cmd=tuple(words.setdefault(each, each) for each in found.cmd),
        working_dir=None if folder is None else words.setdefault(folder, folder),
        **{name: _EMPTY for name in _MAPS if not getattr(found, name)},
    )


def _text_of(parts: Mapping[str, Raw]) -> bytes:
    return b"{%s}" % b",".join(
        b'"%s":%s' % (name.encode(), bytes(each)) for name, each in parts.items()
    )
