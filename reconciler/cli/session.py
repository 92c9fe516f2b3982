"""What the commands of one call or of one shell share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.cli.connection.client import Client
    from reconciler.cli.connection.instances import Choice, Instance
    from reconciler.specfile.source import Source


class Session:
    """What the commands of one call or of one shell share: which instance, and the connection."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.runtime_dir: str | None = None
        self.state_dir: str | None = None
        # The spec that a command names says which instance when nothing else does.
        self.spec: Source | None = None
        # A command that gives the manager another spec does not mind which one it runs.
        self.replaces_source = False
        self.in_shell = False
        self.kept: dict[Instance, Client] = {}

    def choose(self, name: str | None, runtime_dir: str | None, state_dir: str | None) -> None:
        """Take the instance options that a command line gives."""
        self.name = name or self.name
        self.runtime_dir = runtime_dir or self.runtime_dir
        self.state_dir = state_dir or self.state_dir

    def choice(self) -> Choice:
        """Return what options or environment choose of the instance."""
        from reconciler.cli.connection import instances

        return instances.choice(self.name, self.runtime_dir, self.state_dir)

    def instance(self) -> Instance:
        """Return the instance that is meant."""
        from reconciler.cli.connection import locate

        return locate.find(
            self.name,
            self.runtime_dir,
            self.state_dir,
            self.spec,
            is_compared=not self.replaces_source,
        )

    def client(self) -> Client:
        """Return the client of the instance that is meant; the shell keeps one for all commands.

        Names the instance on standard error if nobody has chosen it.
        """
        from reconciler.cli.connection.client import Client
        from reconciler.cli.views import terminal

        instance = self.instance()
        if instance not in self.kept:
            if instance.remark:
                terminal.stderr().write(f"reconcile: {instance.remark}\n")
            self.kept[instance] = Client(instance=instance)
        return self.kept[instance]
