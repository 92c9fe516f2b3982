"""Which commit the spec's files were checked out at, as git itself says.

git is asked and not imitated: refs may be packed, a checkout may be a linked worktree, objects lie in packs.
Nothing of the repository's own is run: neither `rev-parse` nor `cat-file` nor `ls-tree` calls hooks, filters,
a pager or fsmonitor, and no transport is allowed, so that a partial clone stays partial. Neither the user's
nor the system's configuration is read; so `safe.directory` lifts nothing, and git refuses a repository that
belongs to somebody else (git-config(1)). Whether the files differ from the commit is seen by their bytes
alone: with filters such as autocrlf they do.
"""

from __future__ import annotations

import os
from typing import Final

from reconciler.controller.state.records import SourceFile
from reconciler.model.value import Struct
from reconciler.specfile.source import is_spec_name

PATIENCE_S: Final = 2
"""For each of the few questions; a repository on a disk that hangs has no commit."""
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}


class Commit(Struct, frozen=True):
    """A commit by its full name. `dirty`: the files are not as they are in it."""

    id: str
    dirty: bool


def commit_of(files: tuple[SourceFile, ...], source: tuple[str, ...]) -> Commit | None:
    """Return the commit of the repository that holds the first file; for a thread that may wait.

    `source` are the files and folders that were given: what a folder has lost counts as a difference.
    None: no repository, no git, or one that cannot be asked.
    """
    # Most specs lie in no repository: then git need not be asked.
    if not (files and _is_in_repository(os.path.dirname(os.path.realpath(files[0].path)))):
        return None
    import subprocess

    try:
        return _ask(files, source)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _is_in_repository(folder: str) -> bool:
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return False
        folder = above
    return True


def _ask(files: tuple[SourceFile, ...], source: tuple[str, ...]) -> Commit | None:
    folder = os.path.dirname(os.path.realpath(files[0].path))
    top = os.fsdecode(_run(["-C", folder, "rev-parse", "--show-toplevel"]).rstrip(b"\n"))
    inside = {
        os.path.relpath(real, top): file
        for file in files
        if (real := os.path.realpath(file.path)).startswith(f"{top}/")
    }
    names = [name for name in inside if "\n" not in name]
    questions = os.fsencode(
        "\n".join(["HEAD^{commit}", *(f"HEAD:{name}" for name in names)]) + "\n"
    )
    answers = _run(["-C", top, "cat-file", "--batch-check"], questions).splitlines()
    commit, kind, _ = answers[0].decode().split()
    if kind != "commit":
        return None
    differ = len(names) < len(inside) or any(
        not answer.startswith(_blob_id(inside[name], len(commit)) + b" blob ")
        for name, answer in zip(names, answers[1:], strict=True)
    )
    return Commit(commit, differ or _has_lost(top, source, inside))


def _blob_id(file: SourceFile, digits: int) -> bytes:
    """Return the name that git gives these bytes, in a repository whose names have so many digits."""
    import hashlib  # late: see model.digest

    text = b"" if file.text is None else file.text
    algorithm = hashlib.sha256 if digits == 64 else hashlib.sha1
    name = algorithm(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
    return b"unknown" if file.text is None else name.encode()


def _has_lost(top: str, source: tuple[str, ...], inside: dict[str, SourceFile]) -> bool:
    """Tell whether the commit has spec files in a given folder that are not there any more."""
    for path in source:
        real = os.path.realpath(path)
        if not os.path.isdir(real) or not f"{real}/".startswith(f"{top}/"):
            continue
        folder = os.path.relpath(real, top)
        place = "HEAD" if folder == "." else f"HEAD:{folder}"
        listed = _run(["-C", top, "ls-tree", "-z", "--name-only", place], check=False)
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if is_spec_name(name) and os.path.normpath(os.path.join(folder, name)) not in inside:
                return True
    return False


def _run(arguments: list[str], questions: bytes = b"", *, check: bool = True) -> bytes:
    """Return what git answers, nothing when it fails. Raises `SubprocessError` then, unless it is not to `check`."""
    import subprocess

    return subprocess.run(
        ["git", *arguments],
        input=questions,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT},
        timeout=PATIENCE_S,
        start_new_session=True,
        check=check,
    ).stdout
