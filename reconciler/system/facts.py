"""What the system says of a process: values, which touch no world."""

from __future__ import annotations

from reconciler.model.process import Exit
from reconciler.model.value import Struct


class Died(Struct, frozen=True):
    """A process of ours that is dead and reaped: from here on its pid may belong to anybody."""

    pid: int
    exit: Exit
    cpu_ns: int = 0
    max_rss_bytes: int = 0


class Identity(Struct, frozen=True):
    """What tells whose a stranger is: its process group, and the marker in its environment, if it can be read."""

    group: int
    session: int
    marker: str | None = ""
    """None: cannot be told just now, the process is becoming another program."""
    born: int = 0
    """When it was started, in clock ticks since boot."""
    name: str = ""
    parent: int = 0
    is_dead: bool = False
    """Its parent has not waited for it yet; what was in its environment is gone."""
