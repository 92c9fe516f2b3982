"""What a process inherits and is given: its environment, and which programs its command may mean in there."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from reconciler.model.value import Struct
from reconciler.spawn.launch_errors import failed
from reconciler.system.notify import NOT_FOR_CHILDREN

if TYPE_CHECKING:
    from reconciler.model.process import Launch, ProcessId
    from reconciler.spawn.accounts import User

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_OPERATOR: Final = ("RECONCILE_NAME", "RECONCILE_RUNTIME_DIR", "RECONCILE_STATE_DIR")
"""What chooses the manager for whoever calls `reconcile`: it must not choose ours for our processes."""
ALWAYS: Final = ("PATH", "LANG", "TZ")
"""What a process inherits even when it inherits nothing; `_LOGIN` is its user's."""
_LOGIN: Final = ("HOME", "USER", "LOGNAME", "SHELL")
"""What a login sets (systemd.exec(5), "Environment Variables in Spawned Processes")."""
CONTROLLER_OOM_SCORE_ADJ: Final = -900


class Place(Struct, frozen=True):
    """What the keeper itself is and gives on: its environment, umask, limit of files and name."""

    instance: str
    environ: Mapping[str, str]
    umask: int
    files: tuple[int, int]
    core: int
    """Soft limit of core files, which the keeper itself does without."""
    oom_score_adj: int | None = None
    """What children get back of what the keeper took for itself, None: it took nothing."""
    oom_fd: int = -1
    """The keeper's own score, kept open: a keeper without descriptors must not give its score away."""

    @property
    def controllers_oom_score_adj(self) -> int | None:
        """Return what the controller gets: it goes before the keeper, and after all others."""
        return None if self.oom_score_adj is None else CONTROLLER_OOM_SCORE_ADJ


def environment(
    place: Place,
    id: ProcessId,
    marker: str,
    launch: Launch,
    user: User,
) -> dict[str, str]:
    """Return the environment of a process; what comes later in here wins."""
    outer = place.environ
    if launch.inherit_env is True:
        env = {name: value for name, value in outer.items() if name not in OF_THE_OPERATOR}
        named: tuple[str, ...] = () if user.changes else _LOGIN
    else:
        named = launch.inherit_env or ()
        env = {name: outer[name] for name in (*ALWAYS, *named) if name in outer}
    env |= {name: text for name, text in _login(outer, user).items() if name not in named}
    for name in named:  # what is to be inherited and is nowhere, the account still knows
        if name in _LOGIN:
            env.setdefault(name, _login(outer, user)[name])
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", *NOT_FOR_CHILDREN):
        env.pop(name, None)
    env.setdefault("PATH", DEFAULT_PATH)
    for name, value in launch.env.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    if launch.path_prefix:
        env["PATH"] = ":".join((*launch.path_prefix, *filter(None, (env.get("PATH"),))))
    slot = str(id.slot)
    env |= {"RECONCILE_INSTANCE": place.instance, "RECONCILE_WATCHER": id.owner}
    env |= {"RECONCILE_SLOT": slot, "RECONCILE_ID": marker}
    if announced := launch.sockets[: launch.announced]:
        env["LISTEN_FDS"] = str(len(announced))
        env["LISTEN_FDNAMES"] = ":".join(name.partition(".")[0] for name in announced)
    return env


def _login(outer: Mapping[str, str], user: User) -> dict[str, str]:
    """Return what a login of this user sets. The manager's own HOME may be another than its account's."""
    home = "" if user.changes else outer.get("HOME", "")
    texts = (home or user.home or "/", str(user), str(user), user.shell or "/bin/sh")
    return dict(zip(_LOGIN, texts, strict=True))


def programs_of(launch: Launch, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths that `argv[0]` may mean, in the order of the new PATH. Raises `LaunchFailed`."""
    name = launch.argv[0] if launch.argv else ""
    if not name:
        raise failed("exec", FileNotFoundError(errno.ENOENT, ""), "''")
    if "/" in name:
        return (name,)
    return tuple(os.path.join(folder or ".", name) for folder in search_path(env).split(":"))


def search_path(env: Mapping[str, str]) -> str:
    """Return where programs are looked for; PATH may be unset."""
    return env.get("PATH", DEFAULT_PATH)
