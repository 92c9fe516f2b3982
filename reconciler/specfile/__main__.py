"""The loader as a child process: `python -I -m reconciler.specfile`.

It imports everything, then waits for one request on standard input and writes one answer, see `answering`.

A process of its own, because hostile text can crash a compiled parser, and because its limits then bind
nobody else.
"""

from __future__ import annotations

import gc

gc.disable()  # little of what is made becomes garbage, and the process ends soon

import json
import os
import sys

from reconciler.model.errors import SpecError
from reconciler.model.value import to_plain
from reconciler.specfile.answering import answer_to, limit


def main(argv: list[str]) -> int:
    """Answer one request; return the exit code."""
    question = sys.stdin.buffer.read()
    if not question:
        return 0  # whoever began this has found that there is nothing to read
    request = json.loads(question)
    limit()
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
        answer = {"errors": [to_plain(each) for each in errors], "files": {}}
    data = json.dumps(answer, separators=(",", ":")).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    os._exit(0)  # taking a large spec apart again helps nobody


if __name__ == "__main__":
    sys.exit(main(sys.argv))
