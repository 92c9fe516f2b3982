"""What users and groups are called, as numbers: asked in the lane `names`, since the answer may come from a server.

The keeper gets numbers only. A socket whose file goes to somebody with a name reaches it once the name is known;
other sockets, and all else that the core wants, pass by meanwhile.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.action import Bind, Unbind
from reconciler.model.socket import FileOwner
from reconciler.model.value import replace

Kind: TypeAlias = Literal["user", "group"]
MAX_ID: Final = 2**32 - 2
"""The highest number of a user or group; the one above it means none to the kernel."""


class SocketOwners:
    """Sockets on their way to the keeper, until it is known whose files they become."""

    def __init__(self, lanes: Lanes, send: Callable[[Bind], None]) -> None:
        self._lanes = lanes
        self._send = send
        self._asked: dict[str, Bind] = {}

    def ready(self, action: Bind | Unbind) -> Bind | Unbind | None:
        """Return what may go to the keeper now; None: it is sent later, unless another action replaces it."""
        self._asked.pop(action.name, None)
        if not isinstance(action, Bind):
            return action
        owner, group = action.template.owner, action.template.group
        if not (_is_name(owner) or _is_name(group)):
            return replace(action, owner=_file_owner(owner, group))
        self._asked[action.name] = action
        self._lanes.run(
            "names",
            partial(_file_owner, owner, group),
            partial(self._go_on, action),
            lambda said: self._go_on(
                action, FileOwner(problem=f"cannot look up its owner or group: {said}")
            ),
        )
        return None

    def _go_on(self, action: Bind, owner: FileOwner) -> None:
        if self._asked.get(action.name) is action:
            del self._asked[action.name]
            self._send(replace(action, owner=owner))


def number_of(kind: Kind, name: str) -> int | None:
    """Ask for the number of a user or group, None: there is none of that name. May wait. Raises `OSError`."""
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        _rule_out_shortage()
        return None


def _file_owner(user: str | int | None, group: str | int | None) -> FileOwner:
    """Return whose a file becomes. With a name it may wait."""
    try:
        uid = -1 if user is None else _number("user", user)
        gid = -1 if group is None else _number("group", group)
    except LookupError as error:
        return FileOwner(problem=error.args[0])
    except OSError as error:
        cause = os.strerror(error.errno or errno.EIO).lower()
        return FileOwner(problem=f"cannot look up its owner or group: {cause}")
    return FileOwner(uid, gid)


def _number(kind: Kind, account: str | int) -> int:
    """Return the number of an account. Raises `LookupError` that says there is none, and `OSError`."""
    if _is_name(account):
        found = number_of(kind, str(account))
        if found is None:
            msg = f"unknown {kind} {account!r}"
            raise LookupError(msg)
        return found
    if not 0 <= int(account) <= MAX_ID:
        msg = f"there can be no {kind} {account}"
        raise LookupError(msg)
    return int(account)


def _is_name(account: str | int | None) -> bool:
    return isinstance(account, str) and not account.isdecimal()


def _rule_out_shortage() -> None:
    """Tell an account that is nowhere from one that cannot be looked up: without descriptors none is found.

    Raises `OSError`.
    """
    try:
        os.close(os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise
