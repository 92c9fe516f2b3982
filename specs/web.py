"""Answers HTTP on the socket that it gets as descriptor 3."""

import http.server
import os
import socket


class Handler(http.server.BaseHTTPRequestHandler):
    """Says who answers."""

    def do_GET(self) -> None:
        """Answer any path with a greeting and the process's slot."""
        body = f"{os.environ['GREETING']} from slot {os.environ['RECONCILE_SLOT']}, pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    """Serves on a socket that already listens."""

    def server_bind(self) -> None:
        """Take descriptor 3 (LISTEN_FDS of sd_listen_fds(3)) instead of binding."""
        self.socket.close()
        self.socket = socket.socket(fileno=3)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def server_activate(self) -> None:
        """Do nothing: the manager listens already."""


if __name__ == "__main__":
    print("serving", flush=True)
    Server(("", 0), Handler).serve_forever()
