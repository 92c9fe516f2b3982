"""Keeps the processes and sockets that a specification asks for.

`from reconciler import Client` gives other programs a connection to a running manager. Importing
this package costs nothing by itself: the client is loaded when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As `typing` has it, which takes a while to import."""
if TYPE_CHECKING:
    from reconciler.cli.connection.client import Client as Client

__version__ = "0.1.0"

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from reconciler.cli.connection.client import Client

        return Client
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
