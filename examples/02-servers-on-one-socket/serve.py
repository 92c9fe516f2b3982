"""uvicorn on the sockets of LISTEN_FDS, without losing a request when it is replaced.

`uvicorn --fd 3` serves as well, but when it stops it closes connections that it has accepted and not yet
read: under load, a client now and then gets no answer. This server stops accepting first.
"""

import asyncio
import os
import socket

import uvicorn

FIRST_FD = 3
MOMENT_S = 0.2


class PatientServer(uvicorn.Server):
    """Gives accepted clients a moment to send their request, then stops as uvicorn does."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave new connections to the other processes on the socket, and finish the accepted ones."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(MOMENT_S)
        await super().shutdown(sockets)


if __name__ == "__main__":
    count = int(os.environ["LISTEN_FDS"])
    sockets = [socket.socket(fileno=fd) for fd in range(FIRST_FD, FIRST_FD + count)]
    PatientServer(uvicorn.Config("asgi:app", access_log=False)).run(sockets=sockets)
