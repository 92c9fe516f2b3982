"""Users and groups of this machine: whom a process runs as, and what its account says of it.

Accounts are looked up as the system is set up for it; one that asks the network may wait there.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from functools import cache
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.spawn.launch_errors import failed

if TYPE_CHECKING:
    from reconciler.model.process import Launch

MAX_ID: Final = 2**32 - 2
"""The highest number of a user or group; the one above it means none to the kernel."""
MAX_DIGITS: Final = 64
"""Of a number that is looked at; many may be zeros."""
_own_account: Final = cache(pwd.getpwuid)  # each look-up reads /etc/passwd, or asks the network


class User(Struct, frozen=True):
    """Whom a process runs as; `name`, `home` and `shell` are empty when the number has no account."""

    uid: int
    gid: int
    name: str = ""
    home: str = ""
    shell: str = ""
    changes: bool = False
    """It is not the keeper's own, so that the child must change it."""

    def __str__(self) -> str:
        return self.name or str(self.uid)


def own_user() -> User:
    """Return whom the manager itself runs as; its account is looked up once."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        account = _own_account(uid)
    except KeyError:
        return User(uid, gid)
    return User(uid, gid, account.pw_name, account.pw_dir, account.pw_shell)


def find_user(launch: Launch) -> User:
    """Return whom the process runs as. Raises `LaunchFailed` for an account that does not exist.

    A number without an account has no group of its own: the group must be given then, too.
    """
    own = os.geteuid()
    wanted = own if launch.user is None else launch.user
    account = _account(wanted)
    uid = _number(wanted, "user") if account is None else account.pw_uid
    if launch.group is not None:
        gid = find_group(launch.group)
    elif launch.user is None or (account is None and uid == own):
        gid = os.getegid()
    elif account is None:
        raise failed("user", f"user {uid} has no account; give group, too", str(uid))
    else:
        gid = account.pw_gid
    changes = uid != own or gid != os.getegid()
    if account is None:
        return User(uid, gid, changes=changes)
    return User(uid, gid, account.pw_name, account.pw_dir, account.pw_shell, changes)


def find_uid(user: str | int) -> int:
    """Return the number of a user; nobody is asked what a number is. Raises `LaunchFailed`."""
    account = None if _is_number(user) else _account(user)
    return _number(user, "user") if account is None else account.pw_uid


def find_group(group: str | int) -> int:
    """Return the number of a group. Raises `LaunchFailed`."""
    if _is_number(group):
        return _number(group, "group")
    try:
        return grp.getgrnam(str(group)).gr_gid
    except (KeyError, ValueError):
        _rule_out_shortage("group")
        raise failed("group", f"unknown group {group!r}", str(group)) from None


def own_name() -> str:
    """Return who the manager is, as it stands in a message."""
    uid = os.geteuid()
    try:
        return f"{_own_account(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _account(user: str | int) -> pwd.struct_passwd | None:
    """Return an account, None for a number that has none. Raises `LaunchFailed` for a name without one."""
    try:
        if not _is_number(user):
            return pwd.getpwnam(str(user))
        return (_own_account if int(user) == os.geteuid() else pwd.getpwuid)(int(user))
    except (KeyError, ValueError, OverflowError):
        _rule_out_shortage("user")
        if _is_number(user):
            return None
        raise failed("user", f"unknown user {user!r}", str(user)) from None


def _is_number(account: str | int) -> bool:
    return isinstance(account, int) or account.isdecimal()


def _rule_out_shortage(step: str) -> None:
    """Tell an account that is nowhere from one that cannot be looked up: without descriptors none is found."""
    try:
        os.close(os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise failed(step, error) from None


def _number(account: str | int, step: str) -> int:
    text = str(account)
    # Python makes no number of thousands of digits.
    if len(text) <= MAX_DIGITS and 0 <= int(account) <= MAX_ID:
        return int(account)
    shown = text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}…"
    raise failed(step, f"there can be no {step} {shown}", shown)
