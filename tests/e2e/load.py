"""A client that asks without a pause, and keeps its own count of what it was not given."""

from __future__ import annotations

import socket
import threading


class Client(threading.Thread):
    """Asks without a pause until told to stop, and tries nothing twice."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.answered, self.failed = port, 0, []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.002):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as it:
                    it.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b"".join(iter(lambda: it.recv(4096), b""))
                assert answer.startswith(b"HTTP/1.1 200"), answer
                self.answered += 1
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))
