"""Files that are read after the spec, not with it, and decide what its reader runs: of secrets and of hooks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reconciler.model.spec import HookSpec, HooksSpec, declared_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.spec import Spec


def read_later(spec: Spec) -> Iterator[str]:
    """Yield these files, there or not. Modules of hooks that run as another user are that user's affair."""
    for watcher in spec.watchers.values():
        yield from (secret.file for secret in watcher.secrets.values() if secret.file is not None)
        folder = watcher.working_dir
        if watcher.user not in {None, "root", 0, "0"} or folder is None or "$" in folder:
            continue
        for each in declared_fields(HooksSpec):
            hook = getattr(watcher.hooks, each.name)
            if isinstance(hook, HookSpec) and hook.python is not None:
                yield from _modules(folder, hook.python.split("."))


def _modules(folder: str, parts: list[str]) -> Iterator[str]:
    """Yield the files that the import of a dotted path reads in a folder."""
    for part in parts:
        folder, file = os.path.join(folder, part), os.path.join(folder, f"{part}.py")
        if os.path.isfile(file):
            yield file
        if not os.path.isdir(folder):
            return
        yield os.path.join(folder, "__init__.py")
