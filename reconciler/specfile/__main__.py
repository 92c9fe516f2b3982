"""The loader as a child process: `python -I -m reconciler.specfile`.

It imports everything, then waits for one request on standard input and writes one answer:

    {"paths": [...], "environ": {...}}
    {"spec": ..., "files": {path: {"digest": ..., "size": ...}}, "warnings": [...]}
    {"errors": [...], "files": {...}, "warnings": [...]}

A process of its own, because hostile text can crash a compiled parser, and because its limits then bind
nobody else.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from typing import Final

from reconciler.model.errors import SpecError
from reconciler.model.plain import to_plain
from reconciler.specfile import validate
from reconciler.specfile.loading import read_spec

CPU_LIMIT_S: Final = 30
MEMORY_LIMIT_BYTES: Final = 2 * 2**30


def main() -> None:
    """Answer one request."""
    validate.prepare()
    request = json.loads(sys.stdin.buffer.read())
    limit()
    gc.disable()  # little of what is made becomes garbage, and the process ends soon
    paths, environ = request["paths"], request["environ"]
    try:
        answer = answer_to(paths, environ)
    except (MemoryError, RecursionError) as error:
        what = (
            "it takes more than 2 GiB of memory"
            if isinstance(error, MemoryError)
            else "it is nested too deeply"
        )
        errors = [
            SpecError(path, 0, 0, "", f"cannot read the spec: {what}", "make it smaller")
            for path in paths
        ]
        answer = {"errors": [to_plain(each, tagged=False) for each in errors], "files": {}}
    data = json.dumps(answer, separators=(",", ":")).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    os._exit(0)  # taking a large spec apart again helps nobody


def limit() -> None:
    """Limit processor time and memory of this process, never above what it was given."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = CPU_LIMIT_S + int(used.ru_utime + used.ru_stime) + 1
    for what, wanted in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES)):
        hard = resource.getrlimit(what)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer_to(paths: list[str], environ: dict[str, str]) -> dict[str, object]:
    """Return the answer as JSON takes it."""
    outcome = read_spec(paths, environ)
    files = {
        path: {"digest": each.digest, "size": each.size} for path, each in outcome.files.items()
    }
    warnings = [to_plain(each, tagged=False) for each in outcome.warnings]
    answer: dict[str, object] = {"files": files, "warnings": warnings}
    if outcome.spec is None:
        return answer | {"errors": [to_plain(each, tagged=False) for each in outcome.errors]}
    return answer | {"spec": to_plain(outcome.spec, tagged=False)}


if __name__ == "__main__":
    main()
