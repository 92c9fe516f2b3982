"""Reading a spec without a manager, in a child process.

A hostile file can crash the compiled YAML parser, and validation needs libraries that no other
command wants to pay for. So the reader is a program of its own, for us as for the controller.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from reconciler.cli import locate, shapes
from reconciler.cli.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.shapes import Map, SpecErrorMap

TIMEOUT_S: Final = 60.0


class Loaded(NamedTuple):
    """What the reader found: the spec as a plain map, or None and its mistakes; and the files it
    read."""

    source: list[str]
    spec: Map | None
    errors: list[SpecErrorMap]
    files: list[str]

    def daemon(self) -> Map:
        """Return the `daemon` block, without what is at its default."""
        daemon = (self.spec or {}).get("daemon")
        return cast("Map", daemon) if isinstance(daemon, dict) else {}


def source_paths(given: Sequence[str]) -> list[str]:
    """Return the absolute paths of a spec: those given, or the one in this folder or above it.

    Raises `Refused` when one does not exist, or none was given and none is found.
    """
    if not given:
        found = locate.spec_here(os.getcwd())
        if found is None:
            msg = "cannot find a spec: no reconcile.yaml and no specs/ in this folder or above it"
            raise Refused(msg, "name one: reconcile up path/to/spec.yaml")
        return [found]
    for path in given:
        if not os.path.exists(path):
            msg = f"cannot read {path}: no such file or folder"
            raise Refused(msg)
        if os.path.isdir(path) and not locate.spec_files(path):
            msg = f"cannot read {path}: the folder holds no *.yaml or *.yml"
            raise Refused(msg)
    return [os.path.abspath(path) for path in given]


def load(source: Sequence[str]) -> Loaded:
    """Read and validate a spec. Raises `Refused` when the reader itself cannot do its work."""
    request = json.dumps({"paths": list(source), "environ": dict(os.environ)})
    command = [sys.executable, "-I", "-m", "reconciler.specfile"]
    try:
        done = subprocess.run(
            command,
            input=request.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"cannot read {', '.join(source)}: the reader took longer than {TIMEOUT_S:.0f}s"
        raise Refused(msg) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        said = done.stderr.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
        msg = (
            f"cannot read {', '.join(source)}: the reader died ({how}{': ' + said if said else ''})"
        )
        raise Refused(msg, "is a file nested very deeply, or very large?") from None
    files = answer.get("files")
    return Loaded(
        list(source),
        answer.get("spec"),
        shapes.spec_errors(answer.get("errors")),
        sorted(files) if isinstance(files, dict) else [],
    )
