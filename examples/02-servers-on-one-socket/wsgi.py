"""A WSGI app that says which slot answers."""

import os
from collections.abc import Callable, Iterable


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer any request."""
    body = f"gunicorn {os.environ['RECONCILE_SLOT']} {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
