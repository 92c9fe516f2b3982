"""A WSGI app that says which version answers. The version `hangs` does not come up."""

import os
import threading
from collections.abc import Callable, Iterable

VERSION = os.environ["VERSION"]
if VERSION == "hangs":
    threading.Event().wait()


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer any request."""
    body = f"version {VERSION}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
