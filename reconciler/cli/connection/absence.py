"""Why no manager runs where one is meant: more than a bare "no manager is running"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.connection import instances
from reconciler.cli.connection.survivors import survivors
from reconciler.cli.errors import NoManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.connection.instances import Instance

_MAX_NAMED = 10


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
    named = ", ".join(slots[:_MAX_NAMED]) + (", ..." if len(slots) > _MAX_NAMED else "")
    what = (
        "1 of its processes still runs"
        if len(slots) == 1
        else f"{len(slots)} of its processes still run"
    )
    return f"{what} ({named})"
