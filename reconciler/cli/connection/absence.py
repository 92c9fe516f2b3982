"""Why no manager runs where one is meant, and which processes go on without it: it was killed or left them.

A state folder holds the token with which the manager marks its processes; /proc says who has it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from reconciler.cli.connection import instances
from reconciler.cli.errors import NoManager
from reconciler.model.units import format_few

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reconciler.cli.connection.instances import Instance

_MAX_NAMED: Final = 10
TOKEN_FILE: Final = "instance"
_MARK: Final = b"RECONCILE_ID="


def explained(instance: Instance) -> NoManager:
    """Return the error for an instance on whose control socket nobody listens."""
    if left := survivors([instance.state_dir]).get(instance.state_dir, []):
        return NoManager(
            f"the manager of {instance.name} has ended, and {still_run(left)}",
            "take them over with: reconcile up",
        )
    for other, user in instances.of_others():
        if other.name == instance.name:
            return NoManager(
                f"{user} runs a manager named {other.name} ({other.runtime_dir}), in which you have no role",
                "a role is given by daemon.access in its spec; reconcile up starts another manager, of your own",
            )
    runs = [one.name for one in instances.running() if one.name != instance.name]
    listed = f"; running: {', '.join(runs)}" if runs else ""
    return NoManager(
        f"no manager named {instance.name} is running (no process listens on {instance.control_socket})",
        f"start it with: reconcile up, or choose another with --name{listed}",
    )


def still_run(slots: Sequence[str]) -> str:
    """Return the sentence that processes still run, and which."""
    one = len(slots) == 1
    what = "1 of its processes still runs" if one else f"{len(slots)} of its processes still run"
    return f"{what} ({format_few(slots, _MAX_NAMED)})"


def survivors(state_dirs: Iterable[str]) -> dict[str, list[str]]:
    """Return which slots of each state folder have living processes, such as `web.1`; none: no entry.

    Folders and processes that we may not look into count as if there were none.
    """
    tokens = {token: folder for folder in state_dirs if (token := _token(folder))}
    found: dict[str, set[str]] = {}
    for _, token, name in _marked() if tokens else ():
        if token in tokens:
            found.setdefault(tokens[token], set()).add(name)
    return {folder: sorted(slots) for folder, slots in found.items()}


def named(state_dir: str) -> list[str]:
    """Return the living processes of a state folder for people: `sleep (pid 4321) of web.1`."""
    wanted = _token(state_dir)
    marked = _marked() if wanted else ()
    return [
        f"{_command(pid)} (pid {pid}) of {name}" for pid, token, name in marked if token == wanted
    ]


def _marked() -> Iterator[tuple[str, str, str]]:
    """Yield pid, token and slot of all marked processes; the controller is one, too, and ends by itself."""
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        token, _, slot = _mark(pid).partition("/")
        name = slot.rpartition("/")[0] or slot
        if token and name != "controller":
            yield pid, token, name


def _command(pid: str) -> str:
    return _read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip() or "a process"


def _token(state_dir: str) -> str:
    token = _read(os.path.join(state_dir, TOKEN_FILE)).partition(b" ")[0]
    return token.decode("ascii", "replace").strip()


def _mark(pid: str) -> str:
    """Return the mark of a process, empty when it has none."""
    environ = _read(
        f"/proc/{pid}/environ"
    )  # of one that has ended and is not collected yet: nothing
    for entry in environ.split(b"\0"):
        if entry.startswith(_MARK):
            return entry.removeprefix(_MARK).decode("ascii", "replace")
    return ""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
