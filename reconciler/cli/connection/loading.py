"""Reading a spec without a manager."""

from __future__ import annotations

import json
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, cast

from reconciler.cli.connection import places
from reconciler.cli.errors import Refused
from reconciler.model.errors import SpecError
from reconciler.model.job import Instant
from reconciler.model.value import from_plain
from reconciler.specfile.source import Source, find_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Loaded(NamedTuple):
    """What the reader found: the spec as a plain map, or None and its mistakes; and the files it
    read."""

    source: Source
    spec: dict[str, object] | None
    errors: Sequence[SpecError]
    files: list[str]
    answer: bytes = b""
    """The answer of the reader as it came, for the manager that is started."""
    warnings: Sequence[SpecError] = ()
    """What is doubtful and does not keep the spec from being used."""
    next_runs: Mapping[str, tuple[Instant, ...]] = MappingProxyType({})
    """The next instants of jobs with a schedule."""

    def block(self, name: str) -> dict[str, object]:
        """Return one of the maps of the spec, such as `daemon`, without what is at its default."""
        block = (self.spec or {}).get(name)
        return cast("dict[str, object]", block) if isinstance(block, dict) else {}


def find(given: Sequence[str]) -> Source:
    """Return the spec that is named, or the one in this folder or above it; reads no file.

    Raises `Refused` when one does not exist, or none was given and none is found.
    """
    found = find_source(given, places.working_dir())
    if isinstance(found, Source):
        return found
    place = f"{found.path}: " if given else ""
    msg = f"{place}{found.message}"
    raise Refused(msg, found.hint)


def load(source: Source) -> Loaded:
    """Read and validate a spec. Raises `Refused` when the reader itself cannot do its work."""
    from reconciler.cli.connection import reader

    request = json.dumps({"paths": list(source.paths), "environ": dict(os.environ)})
    done = reader.ask(request.encode("utf-8", "surrogateescape"))
    if done is None:
        msg = f"cannot read {', '.join(source.paths)}: the reader took longer than {reader.TIMEOUT_S:.0f}s"
        raise Refused(msg)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        said = done.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        cause = f"{how}: {said}" if said else how
        msg = f"cannot read {', '.join(source.paths)}: the reader died ({cause})"
        raise Refused(msg, "is a file nested very deeply, or very large?") from None
    files = answer.get("files")
    return Loaded(
        source,
        answer.get("spec"),
        _mistakes(answer.get("errors")),
        sorted(files) if isinstance(files, dict) else [],
        done.stdout,
        _mistakes(answer.get("warnings")),
        from_plain(dict[str, tuple[Instant, ...]], answer.get("next_runs") or {}),
    )


def _mistakes(plain: object) -> Sequence[SpecError]:
    found: Sequence[SpecError] = from_plain(tuple[SpecError, ...], plain or ())
    return found
