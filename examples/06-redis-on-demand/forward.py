"""Starts redis-server on a Unix socket, and passes connections of an inherited socket on to it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side has said all that it had to say."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def connect(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to Redis, which may still be on its way up."""
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.01)


async def main(fd: int, path: str) -> int:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    arguments = ("--port", "0", "--unixsocket", path, "--dir", os.path.dirname(path))
    redis = await asyncio.create_subprocess_exec("redis-server", *arguments, "--save", "3600 1")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await connect(path)
        await asyncio.gather(pass_on(reader, to_redis), pass_on(from_redis, writer))

    await asyncio.start_server(serve, sock=socket.socket(fileno=fd))
    return await redis.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), os.path.abspath(sys.argv[2]))))
