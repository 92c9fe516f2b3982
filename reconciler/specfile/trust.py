"""Whether somebody else could have written a spec: whoever can, can have anything run as its reader.

Looked at are the file, the folders up to the root, and the same of what links lead to: whose each is, and its mode.
Somebody else is anybody but root and whoever reads it; a folder where only owners may rename and remove (sticky,
as /tmp) protects the files in it, but not against new ones: a spec folder must not be one. In a user namespace that
hides other users, a hidden owner is taken for root: he has made the namespace or is mightier than it. Access control
lists are not looked at.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from reconciler.model.value import Part, field

ALLOW: Final = "RECONCILE_ALLOW_WRITABLE_SPECS"
"""Environment variable that lets root read what others may write; `--allow-writable-specs` sets it."""
HINT: Final = (
    "let it belong to root and be written by nobody else (chown root, chmod go-w), run the manager as its owner, "
    "or say --allow-writable-specs if that is meant"
)
_ALL_USERS: Final = ["0", "0", "4294967295"]
"""What /proc/self/uid_map says where no user is hidden (user_namespaces(7))."""


class Trust(Part):
    """Remembers what it found about each folder: they are the same for most files."""

    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    hidden: int | None = field(default_factory=lambda: _hidden_owner())
    """The uid that stands for users who are hidden by a user namespace, None when none is."""
    _folders: dict[str, str | None] = field(default_factory=dict)

    def doubt(self, path: str, *, lists_it: bool = False) -> str | None:
        """Return who else may write to a file or folder or its place, as text; None: nobody.

        `lists_it` says that a folder's files are read, whichever there are.
        """
        if "\0" in path:
            return None  # no file has such a name
        real = os.path.realpath(path)
        found = self._of_link(path) or self._of(real, forgives_sticky=not lists_it)
        for place in dict.fromkeys((path, real)):
            folder = os.path.dirname(place)
            while found is None:
                if folder not in self._folders:
                    self._folders[folder] = self._of(folder, forgives_sticky=True)
                found = self._folders[folder]
                if folder == os.path.dirname(folder):
                    break
                folder = os.path.dirname(folder)
        return found

    def _of_link(self, path: str) -> str | None:
        """Whoever owns a link can let it lead elsewhere, also where only owners may remove (sticky)."""
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if not stat.S_ISLNK(status.st_mode) or status.st_uid in {0, self.uid, self.hidden}:
            return None
        return f"the link {path} belongs to {_user_name(status.st_uid)}"

    def _of(self, path: str, *, forgives_sticky: bool) -> str | None:
        try:
            status = os.stat(path)
        except OSError:
            return None  # whoever reads it will tell
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder and not stat.S_ISREG(status.st_mode):
            return None  # and is refused for that
        if status.st_uid not in {0, self.uid, self.hidden}:
            return f"{path} belongs to {_user_name(status.st_uid)}, who may write to it"
        if is_folder and forgives_sticky and status.st_mode & stat.S_ISVTX:
            return None
        # The group of one's own user is one's own, as long as one is not root.
        own_groups = {0} if self.uid == 0 else {0, self.gid}
        by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in own_groups
        if not by_group and not status.st_mode & stat.S_IWOTH:
            return None
        who = "everybody" if status.st_mode & stat.S_IWOTH else f"group {status.st_gid}"
        return f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: {who} may write to it"


def refusal(path: str) -> str | None:
    """Return why this process, when it is root, must not believe a file; None: it may, or was told to."""
    if os.geteuid() != 0 or os.environ.get(ALLOW):
        return None
    return Trust().doubt(path)


def _hidden_owner() -> int | None:
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.read().split() == _ALL_USERS:
                return None
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
