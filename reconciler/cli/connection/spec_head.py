"""What a spec says of the place of its instance: `name`, `runtime_dir` and `state_dir` of `daemon:`.

A command that only asks must not pay for the YAML parser. So these are read with regular expressions,
which is enough for the ways people write them. Where it is not (variables, further files, several documents'
worth of YAML), `Head.is_sure` is False, and whoever finds no manager there has the spec read properly.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.specfile.source import Source

FIELDS: Final = ("name", "runtime_dir", "state_dir")
ELSEWHERE: Final = ("include", "overrides")
"""What leads to further files, which may say something of the manager, too."""


class Head(Struct, frozen=True):
    """Of the `daemon:` block what says where the instance is; folders are absolute, None is not said."""

    name: str | None = None
    runtime_dir: str | None = None
    state_dir: str | None = None
    is_sure: bool = True


def read_head(source: Source) -> Head:
    """Return what the files say, as far as they say it in an ordinary way."""
    from reconciler.specfile.source import spec_files

    found: dict[str, str] = {}
    is_sure = True
    for path in source.paths:
        try:
            files = spec_files(path)
        except OSError:
            continue
        for file in files:
            text = _text(file)
            block, is_plain = daemon_block(text)
            is_sure &= is_plain and not any(f"\n{each}:" in f"\n{text}" for each in ELSEWHERE)
            folders = {
                key: os.path.normpath(os.path.join(os.path.dirname(file), value))
                for key, value in block.items()
                if key != "name"
            }
            found |= block | folders
    return Head(**found, is_sure=is_sure)


def loaded_head(daemon: Mapping[str, object]) -> Head:
    """Return what the `daemon` block of a spec that was read says; its folders are absolute already."""
    said = {key: value for key in FIELDS if isinstance(value := daemon.get(key), str) and value}
    return Head(said.get("name"), said.get("runtime_dir"), said.get("state_dir"))


_BLOCK: Final = r"(?m)^daemon:[ \t]*(?:#.*)?\n((?:[ \t]+.*\n|[ \t]*(?:#.*)?\n)+)"
_FLOW: Final = r"(?m)^daemon:[ \t]*\{([^{}\n]*(?:\{[^{}\n]*\}[^{}\n]*)*)\}[ \t]*(?:#.*)?$"
_ENTRY = r"(?:^|[,\n{{])[ \t]*{key}:[ \t]+(\"[^\"\n]*\"|'[^'\n]*'|[^\s,#}}\"'][^,#}}\n]*)"


def daemon_block(text: str) -> tuple[dict[str, str], bool]:
    """Return the fields of a file's `daemon:` block, and whether there can be no others."""
    if "daemon" not in text:
        return {}, True
    match = re.search(_BLOCK, text + "\n") or re.search(_FLOW, text)
    if match is None:
        return {}, "daemon" not in re.sub(r"#.*", "", text)
    found: dict[str, str] = {}
    is_sure = "<<" not in match[1]
    for key in FIELDS:
        entry = re.search(_ENTRY.format(key=key), match[1])
        value = entry[1].strip().strip("\"'") if entry else ""
        if "$" in value or value[:1] in {"*", "&", "!", "|", ">"}:
            is_sure = False
        elif value and value not in {"null", "~"}:
            found[key] = value
        elif key in match[1] and not value:
            is_sure = False
    return found, is_sure


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
