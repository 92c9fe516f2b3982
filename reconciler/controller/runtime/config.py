"""What the controller is started with: one JSON argument, written by the command line."""

from __future__ import annotations

import os

from reconciler.model.value import Struct


class Config(Struct, frozen=True):
    """The instance that this controller serves."""

    name: str
    state_dir: str
    runtime_dir: str
    source: tuple[str, ...] = ()
    """Absolute paths of spec files or folders, as given."""
    until_done: bool = False
    """End with the jobs' outcome when there are only jobs and all are finished."""
    exit_with: tuple[str, ...] = ()
    """Watchers with whose end everything ends in this life of the manager, as if `on_exit` said so."""
    log_level: str = "info"
    log_format: str = "text"
    log_file: str | None = None
    started_by: str = ""
    """How and by whom the manager was started, such as `up by root`: who applies what it reads first."""
    reading_fd: int | None = None
    """A descriptor of the keeper: what the loader said of the source when the manager was started."""

    @property
    def logs_dir(self) -> str:
        """Return the folder of the default log files."""
        return os.path.join(self.state_dir, "logs")

    @property
    def control_socket(self) -> str:
        """Return the path of the control socket."""
        return os.path.join(self.runtime_dir, "control.sock")
