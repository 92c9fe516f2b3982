"""Hooks of this spec; each runs in a process of its own, with the watcher's environment."""

import os
import socket
import time


def wait_for_redis(watcher: object, arbiter: object, hook_name: str, **details: object) -> bool:
    """Return once Redis answers PING; `timeout` in the spec says how long that may take."""
    while not redis_answers(int(os.environ["REDIS_PORT"])):
        time.sleep(0.05)
    return True


def redis_answers(port: int) -> bool:
    """Ask Redis itself: an open port does not mean that it answers yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
    except OSError:
        return False
