"""Turns spec files into a `Spec`, or into every mistake with its place: the only home of pyyaml.

| file | subject |
|---|---|
| `source` | which files a spec is made of, the name of its instance (imports neither third party) |
| `later` | the files that are read after the spec: of secrets and hooks |
| `trust` | whether somebody else could have written a file |
| `reading` | bytes from disk, within limits |
| `yaml_text` | YAML to nodes with places |
| `shapes` | what the declarations of `model.spec` mean for nodes |
| `merge` | several files, `defaults` |
| `substitute` | `${...}` |
| `foreign` | variables of other tools |
| `commands` | the words of a command, and what only a shell understands |
| `resolve` | nodes to data |
| `env_files` | NAME=value lines |
| `watchers` | one watcher |
| `values` | data to values, by the declarations |
| `validate` | what does not fit, to mistakes with places |
| `rules` | what concerns more than one field |
| `machine` | what this machine says to it |
| `hints` | near names, and the words of other tools |
| `cures` | what to write instead of a value that does not fit |
| `mistakes` | collects what is wrong, hides secrets |
| `loading` | all of it in order |
| `schema` | the language as JSON Schema |
| `words` | types, defaults and effects of fields in words |
| `reference` | the language as a page, and the explanation of one field |
| `answering` | what the loader is asked and answers, within limits |
| `__main__` | the loader as a child process |

Names are imported when they are first asked for: who wants the schema does not pay for pyyaml.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reconciler.specfile.loading import Loaded as Loaded
    from reconciler.specfile.loading import Outcome as Outcome
    from reconciler.specfile.loading import load as load
    from reconciler.specfile.loading import read_spec as read_spec
    from reconciler.specfile.reading import FileRead as FileRead
    from reconciler.specfile.reference import explain as explain
    from reconciler.specfile.reference import reference_markdown as reference_markdown
    from reconciler.specfile.schema import json_schema as json_schema
    from reconciler.specfile.source import Source as Source
    from reconciler.specfile.source import find_source as find_source
    from reconciler.specfile.source import instance_name as instance_name

_HOMES: Final = {
    "FileRead": "reading",
    "Loaded": "loading",
    "Outcome": "loading",
    "Source": "source",
    "explain": "reference",
    "find_source": "source",
    "instance_name": "source",
    "json_schema": "schema",
    "load": "loading",
    "read_spec": "loading",
    "reference_markdown": "reference",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{home}"), name)
