"""What the loader is asked and answers, within limits.

{"paths": [...], "environ": {...}}
{"spec": ..., "files": {path: {"digest": ..., "size": ...}}, "warnings": [...], "next_runs": {job: [{at_ns, shown}]}}
{"errors": [...], "files": {...}, "warnings": [...]}
"""

from __future__ import annotations

import resource
from typing import Final

from reconciler.model.value import to_plain
from reconciler.specfile.loading import read_spec
from reconciler.specfile.schedules import next_runs

CPU_LIMIT_S: Final = 30
MEMORY_LIMIT_BYTES: Final = 2 * 2**30


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
    warnings = [to_plain(each) for each in outcome.warnings]
    answer: dict[str, object] = {"files": files, "warnings": warnings}
    if outcome.spec is None:
        return answer | {"errors": [to_plain(each) for each in outcome.errors]}
    answer |= {"next_runs": to_plain(next_runs(outcome.spec))}
    return answer | {"spec": to_plain(outcome.spec)}
