"""Which files a spec is made of, and what the instance that runs it is called.

Reads no file: only names are looked at, so that every command may ask (no yaml here).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from reconciler.model.errors import SpecError
from reconciler.model.value import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC_FILE: Final = "reconcile.yaml"
SPEC_FOLDER: Final = "specs"
SHARED_FOLDERS: Final = frozenset({"specs", "spec", "conf", "config"})
"""Folders that say nothing about whose spec they hold: the instance is named after the folder above."""
FALLBACK_NAME: Final = "reconcile"

SPEC_SUFFIXES: Final = (".yaml", ".yml")


class Source(Struct, frozen=True):
    """A spec by its absolute paths: files, or folders that mean their files. `folder` holds the first."""

    paths: tuple[str, ...]
    folder: str


def find_source(arguments: Sequence[str] | None, cwd: str) -> Source | SpecError:
    """Return the source that the arguments name, or the one in `cwd` or the nearest folder above it.

    The answer is a `SpecError` with what to try when there is none.
    """
    if not arguments:
        return _found_above(cwd)
    paths = tuple(_absolute(argument, cwd) for argument in arguments)
    for path in paths:
        if not os.path.exists(path):
            return _problem(
                path, "no such file or folder", "is the path right? It was looked for from " + cwd
            )
        try:
            empty = os.path.isdir(path) and not spec_files(path)
        except OSError as error:
            return _problem(
                path, (error.strerror or str(error)).lower(), "may you read that folder?"
            )
        if empty:
            hint = (
                "name a file, or put *.yaml files there (files deeper down are reached by include:)"
            )
            return _problem(path, "the folder holds no *.yaml or *.yml", hint)
    first = paths[0]
    return Source(paths, first if os.path.isdir(first) else os.path.dirname(first))


def spec_files(path: str) -> tuple[str, ...]:
    """Return the files that a path means: itself, or a folder's *.yaml and *.yml by name, not deeper.

    Dot files and editors' temporaries are none (`.#a.yaml` and `a.yaml~` do not match by their names).
    Raises `OSError` when the folder cannot be listed.
    """
    if not os.path.isdir(path):
        return (path,)
    names = sorted(name for name in os.listdir(path) if is_spec_name(name))
    return tuple(
        each for each in (os.path.join(path, name) for name in names) if not os.path.isdir(each)
    )


def is_spec_name(name: str) -> bool:
    """Tell whether a file of this name in a spec folder belongs to the spec."""
    return name.endswith(SPEC_SUFFIXES) and not is_temporary(name)


def is_temporary(name: str) -> bool:
    """Tell whether a file is an editor's own, by its name: nobody means it as a spec."""
    return name.startswith((".", "#", "~")) or name.endswith(("~", "#"))


def instance_name(daemon_name: str | None, source: Source) -> str:
    """Return the name of the instance: `daemon.name`, else the folder's, made fit to be a name."""
    if daemon_name:
        return daemon_name
    folder = source.folder
    if os.path.basename(folder) in SHARED_FOLDERS:
        folder = os.path.dirname(folder)
    fit = re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(folder)).strip("-_")[:64]
    return fit or FALLBACK_NAME


def _absolute(argument: str, cwd: str) -> str:
    """Return a path from the root. Behind a link, `..` is what the kernel takes it for."""
    path = os.path.join(cwd, argument)
    plain = os.path.normpath(path)
    if ".." not in argument.split(os.sep):
        return plain
    try:
        return plain if os.path.samefile(plain, path) else os.path.realpath(path)
    except OSError:
        return os.path.realpath(path)


def _found_above(cwd: str) -> Source | SpecError:
    """Return the spec here or above: above the folder's name first, then above what the name leads to."""
    found = _found_above_name(cwd)
    if isinstance(found, SpecError) and found.path == cwd and os.path.realpath(cwd) != cwd:
        physical = _found_above_name(os.path.realpath(cwd))
        return found if isinstance(physical, SpecError) else physical
    return found


def _found_above_name(cwd: str) -> Source | SpecError:
    folder = os.path.abspath(cwd)
    while True:
        file, many = os.path.join(folder, SPEC_FILE), os.path.join(folder, SPEC_FOLDER)
        if os.path.isfile(file):
            return Source((file,), folder)
        try:
            if os.path.isdir(many) and spec_files(many):
                return Source((many,), many)
        except OSError as error:
            return _problem(
                many, error.strerror or "it cannot be listed", "may you read that folder?"
            )
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    message = f"cannot find a spec: no {SPEC_FILE} and no {SPEC_FOLDER}/ in {cwd} or above it"
    return SpecError(cwd, 0, 0, "", message, "name one: reconcile up path/to/spec.yaml")


def _problem(path: str, cause: str, hint: str) -> SpecError:
    return SpecError(path, 0, 0, "", f"cannot read the spec: {cause}", hint)
