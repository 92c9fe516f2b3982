"""Folders of the platform in which instances live, for whoever calls and with whatever environment.

- root: `/run/reconcile` holds the runtime folders, `/var/lib/reconcile` the state folders.
- Other users, runtime: `reconcile` below `$XDG_RUNTIME_DIR`, else below `/run/user/UID`: the first of them
  that is there and theirs alone; else `/tmp/reconcile-UID`.
- Other users, state: `reconcile` below `$XDG_STATE_HOME`, else below `.local/state` of `$HOME`, else of the
  account's home: the first of them that can be written; else `/tmp/reconcile-UID/.state`.

cron, `su`, `sudo -u` and containers come without the variables, and a uid of a container often has no
account; each of them gets the same folders as the same user's login where that is possible at all.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from reconciler.cli.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM_RUNTIME_ROOT: Final = "/run/reconcile"
SYSTEM_STATE_ROOT: Final = "/var/lib/reconcile"
HIDDEN_STATE: Final = ".state"
"""Beside the runtime folders of a user without a home; no instance can be called so."""


def runtime_root() -> str:
    """Return the folder of the runtime folders of this user's instances, there or not.

    Raises `Refused` when somebody else has made it: whoever listens in there is not to be believed.
    """
    return _certainly_ours(_runtime_root())


def _runtime_root() -> str:
    uid = os.geteuid()
    if uid == 0:
        return SYSTEM_RUNTIME_ROOT
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if os.path.isabs(folder) and _is_private(folder):
            return os.path.join(folder, "reconcile")
    return temporary_root()


def state_root() -> str:
    """Return the folder of the state folders of this user's instances, there or not."""
    if os.geteuid() == 0:
        return SYSTEM_STATE_ROOT
    for folder in _state_homes():
        if _can_be_written(folder):
            return os.path.join(folder, "reconcile")
    return os.path.join(temporary_root(), HIDDEN_STATE)


def temporary_root() -> str:
    """Return the folder of a user who has neither a runtime folder nor a home."""
    return f"/tmp/reconcile-{os.geteuid()}"


def is_temporary(folder: str) -> bool:
    """Tell whether a folder lies where nothing stays for long, because this user has no home."""
    return folder.startswith(temporary_root() + os.sep)


def make_root_of(folder: str) -> None:
    """Make the folder of the platform that a runtime or state folder is to lie in, if it is one.

    Raises `Refused` when that is impossible, and when it is somebody else's.
    """
    parent = os.path.dirname(folder)
    if parent == _runtime_root():
        _make(parent)
    elif is_temporary(folder):
        _make(temporary_root())


def _make(root: str) -> None:
    try:
        mode = 0o755 if root == SYSTEM_RUNTIME_ROOT else 0o700
        os.makedirs(root, mode=mode, exist_ok=True)
    except OSError as error:
        msg = f"cannot create {root}: {(error.strerror or str(error)).lower()}"
        raise Refused(msg, "choose another place with --runtime-dir and --state-dir") from None
    _certainly_ours(root)


def working_dir() -> str:
    """Return the folder that the caller is in, by the name under which it was entered.

    `$PWD` counts when it names the same folder as getcwd(2), as for the shell's `cd` and `pwd -L`: so a
    spec behind a link such as `releases/current` keeps its name when the link moves.
    """
    named = os.environ.get("PWD", "")
    if os.path.isabs(named) and os.path.normpath(named) == named:
        with contextlib.suppress(OSError):
            if os.path.samefile(named, os.curdir):
                return named
    try:
        return os.getcwd()
    except FileNotFoundError:
        msg = "this folder no longer exists"
        raise Refused(msg, "change to another folder") from None


def _state_homes() -> Iterator[str]:
    import pwd

    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        yield given
    homes = [os.environ.get("HOME", "")]
    with contextlib.suppress(KeyError):  # a number without an account, as containers like to give
        homes.append(pwd.getpwuid(os.geteuid()).pw_dir)
    for home in homes:
        if os.path.isabs(home):
            yield os.path.join(home, ".local", "state")


def _can_be_written(folder: str) -> bool:
    """Tell whether a folder can be written to, or made."""
    folder = os.path.normpath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def _certainly_ours(root: str) -> str:
    """Return a folder that is missing or that nobody else can write to. Raises `Refused`."""
    with contextlib.suppress(OSError):  # missing, or whoever uses it reports the error
        if not _is_ours(root, 0o022):
            msg = f"cannot use {root}: it is not a folder that only this user can write to"
            raise Refused(msg, "remove it, or choose another place with --runtime-dir")
    return root


def _is_private(folder: str) -> bool:
    """Tell whether the folder is ours alone, as the XDG specification wants of a runtime folder."""
    with contextlib.suppress(OSError):
        return _is_ours(folder, 0o077)
    return False


def _is_ours(path: str, others: int) -> bool:
    """Tell whether it is a folder of this user that gives none of these rights to `others`. Raises `OSError`."""
    found = os.stat(path, follow_symlinks=False)
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & others
    )
