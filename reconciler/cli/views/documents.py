"""Answers for programs: JSON or YAML on standard output."""

from __future__ import annotations

import sys
from typing import Final

from reconciler.cli.errors import Refused
from reconciler.model.value import Struct, to_whole

DOCUMENTS: Final = frozenset({"json", "yaml"})
"""Formats of an answer as one document for programs."""


def print_document(value: object, output: str) -> None:
    """Write an answer as JSON or YAML to standard output."""
    if output == "json":
        print_json(value)
        return
    from reconciler.cli.views import terminal
    from reconciler.cli.views.yaml_text import yaml_text

    terminal.stdout().write(yaml_text(to_whole(value)))


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Write one JSON document to standard output. Bytes that are no text are escaped."""
    import json

    # JSON itself escapes only some control characters; a terminal gets none of the others either.
    text = json.dumps(value, indent=indent, ensure_ascii=sys.stdout.isatty(), default=_jsonable)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _jsonable(value: object) -> object:
    if isinstance(value, Struct):
        return to_whole(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    msg = f"cannot write {type(value).__name__} as JSON"
    raise Refused(msg)
