"""An ASGI app of one version, which works with a schema of at least that version only."""

import asyncio
import os
import socket
import subprocess
import sys

import uvicorn

VERSION = os.environ["VERSION"]


def check_schema() -> None:
    """Refuse to start on a schema that is too old."""
    question = "SELECT max(version) FROM schema_version"
    command = ["psql", "-qtA", "-c", question]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if int(found) < int(VERSION):
        sys.exit(f"the schema has version {found}, this needs {VERSION}")


async def app(scope: dict[str, object], receive: object, send: object) -> None:
    """Answer any request."""
    body = f"version {VERSION}\n".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": body})  # type: ignore[operator]


class PatientServer(uvicorn.Server):
    """Gives accepted clients a moment to send their request, then stops as uvicorn does."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave new connections to the other processes on the socket, and finish the accepted ones."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(0.2)
        await super().shutdown(sockets)


if __name__ == "__main__":
    check_schema()
    shared = socket.socket(fileno=int(sys.argv[1]))
    own = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    server = PatientServer(uvicorn.Config(app, lifespan="off", log_level="warning"))
    server.run(sockets=[shared, own])
