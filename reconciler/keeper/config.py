"""What the keeper is started with: one JSON object as its only argument."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from reconciler.model.plain import from_plain


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """Settings of one instance; those that concern processes come with the actions."""

    name: str
    state_dir: str
    runtime_dir: str
    controller_argv: tuple[str, ...]
    """`--last-good` is appended after five quick deaths in a row."""
    control_mode: int = 0o600
    control_owner: str | int | None = None
    control_group: str | int | None = None
    umask: int = 0o022
    """Of processes whose launch says none."""
    hup: Literal["reload", "stop"] = "reload"
    ready_fd: int | None = None
    """Written to (`ready`) and closed once the control socket listens."""
    log_level: str = "info"

    @classmethod
    def from_json(cls, text: str) -> KeeperConfig:
        """Return the settings in `text`. Raises `ValueError` when it holds none."""
        config: KeeperConfig = from_plain(cls, json.loads(text))
        return config
