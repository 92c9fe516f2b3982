"""What the keeper is started with."""

from __future__ import annotations

import os
import sys
from typing import Final, Literal

import msgspec

from reconciler.model.value import Struct, replace
from reconciler.spawn.accounts import find_group, find_uid
from reconciler.spawn.launch_errors import LaunchFailed

LOCK_FILE: Final = "keeper.lock"
FIFO_FOLDER: Final = "output"
JOURNAL_FILE: Final = "keeper.journal"
SPOOL_FILE: Final = "output.spool"


class Refused(Exception):
    """The keeper cannot start; the message says why and is for people."""


class KeeperConfig(Struct, frozen=True):
    """The instance that this keeper keeps."""

    name: str
    state_dir: str
    runtime_dir: str
    controller_argv: tuple[str, ...]
    control_mode: int = 0o600
    control_owner: str | int | None = None
    control_group: str | int | None = None
    cgroup: str | None = None
    """Folder of control groups that the spec names; None: one that was given to us, if any."""
    umask: int = 0o022
    hup: Literal["reload", "stop"] = "reload"
    ready_fd: int | None = None
    """Told `ready` and closed once the control socket listens."""
    handover_fd: int | None = None
    """What the former code of this process held; None for a keeper that is started."""
    log_level: str = "info"

    @property
    def runtime_mode(self) -> int:
        """Return the mode of the runtime folder: who may use the socket must get to it."""
        owners = (self.control_owner, self.control_group)
        return 0o711 if self.control_mode & 0o077 or owners != (None, None) else 0o700

    @property
    def runtime_lock(self) -> str:
        """Return the path of the lock in the runtime folder."""
        return os.path.join(self.runtime_dir, LOCK_FILE)

    @property
    def control_socket(self) -> str:
        """Return the path of the control socket."""
        return os.path.join(self.runtime_dir, "control.sock")

    @property
    def spares(self) -> str:
        """Return the folder of the second names of socket files."""
        return os.path.join(self.runtime_dir, "sockets")

    @property
    def fifo_dir(self) -> str:
        """Return the folder of the workers' output FIFOs; in the state, since some systems empty the other."""
        return os.path.join(self.state_dir, FIFO_FOLDER)

    @property
    def spool(self) -> str:
        """Return the path of the output that is just being written."""
        return os.path.join(self.state_dir, SPOOL_FILE)

    @property
    def journal(self) -> str:
        """Return the path of what the next keeper is told."""
        return os.path.join(self.state_dir, JOURNAL_FILE)

    def for_new_code(self, python: str, memory: int) -> list[str]:
        """Return the command by which we become the keeper of another installation, with all that is held in memory."""
        controller = tuple(
            python if word == sys.executable else word for word in self.controller_argv
        )
        new = replace(self, controller_argv=controller, ready_fd=None, handover_fd=memory)
        program = [word for word in sys.orig_argv[1:-1] if word != "--await"]
        return [python, *program, msgspec.json.encode(new).decode()]

    @staticmethod
    def from_json(text: str) -> KeeperConfig:
        """Return the configuration that a JSON text describes. Raises `ValueError`."""
        return msgspec.json.decode(text, type=KeeperConfig)


def with_numbers(config: KeeperConfig) -> KeeperConfig:
    """Return a configuration that names no user or group any more, but has their numbers.

    To be asked before the keeper has anything to keep: the answer may come from a server. Raises `Refused`.
    """
    owner, group = config.control_owner, config.control_group
    try:
        uid = None if owner is None else find_uid(owner)
        gid = None if group is None else find_group(group)
    except LaunchFailed as error:
        msg = f"cannot open the control socket {config.control_socket}: {error.error.message}"
        raise Refused(msg) from None
    return replace(config, control_owner=uid, control_group=gid)
