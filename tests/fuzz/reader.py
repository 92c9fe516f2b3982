"""`python -m tests.fuzz.reader SEED COUNT`: reads that many drawn spec files as the loader does, within its limits.

A line for each file that was remarkable, and one of figures at the end, all JSON. It dies when a file kills it:
then the last line that begins a file says which.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time

from reconciler.cli.views.mistakes import spec_error_blocks
from reconciler.cli.views.painting import paint
from reconciler.model.errors import SpecError
from reconciler.model.value import from_plain
from reconciler.specfile.answering import CPU_LIMIT_S, MEMORY_LIMIT_BYTES, answer_to
from tests.fuzz.specs import CANARY, Specs

SLOW_S = 2.0


def main(seed: int, count: int) -> None:
    """Read files and tell."""
    specs, slowest, accepted, mistakes = Specs(seed), 0.0, 0, 0
    first_bytes = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = os.path.join(folder, "spec.yaml")
        for number in range(count):
            text = specs.draw()
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            print(json.dumps({"file": number}), flush=number % 50 == 0)
            _limit()
            begun = time.process_time()
            wrong = ""
            try:
                answer = answer_to([path], {"HOME": "/root"})
            except (MemoryError, RecursionError):
                answer = {"errors": [{}]}  # the loader says so in its own words
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
                answer = {"errors": [{}]}
            took = time.process_time() - begun
            slowest = max(slowest, took)
            errors = answer.get("errors")
            accepted += errors is None
            mistakes += len(errors) if isinstance(errors, list) else 0
            wrong = wrong or _wrong(errors)
            if wrong or took > SLOW_S:
                print(json.dumps({"text": text, "wrong": wrong, "took": took}), flush=True)
            if number == min(count // 10, 500):
                first_bytes = _resident_bytes()
    growth = _resident_bytes() - first_bytes
    print(
        json.dumps(
            {"slowest": slowest, "accepted": accepted, "mistakes": mistakes, "growth": growth}
        )
    )


def _wrong(errors: object) -> str:
    """Return what must not be in any answer: no reason, control characters, a secret."""
    if errors is None:
        return ""
    shown = json.dumps(errors, ensure_ascii=False)
    if errors == []:
        return "refused without a reason"
    if CANARY in shown:
        return "a secret is shown"
    page = "".join(paint(spec_error_blocks(from_plain(tuple[SpecError, ...], errors))))
    bad = [character for character in page if not (character.isprintable() or character == "\t")]
    return f"a terminal would be shown {bad[:5]}" if bad else ""


def _limit() -> None:
    """Give the next file the time and memory that the loader has for one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_LIMIT_S + 1
    for what, soft in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(
            what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
        )
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
