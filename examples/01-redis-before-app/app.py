"""An app that cannot start without Redis: counts its own starts there."""

import os
import socket
import threading

with socket.create_connection(("127.0.0.1", int(os.environ["REDIS_PORT"])), timeout=1) as redis:
    redis.sendall(b"INCR starts\r\n")
    answer = redis.recv(100).decode().strip()

print(f"started, Redis says {answer}")
threading.Event().wait()
