#!/usr/bin/env bash
# What: a server cannot bind the port that a client's connection had, for a minute after the client has hung up, although nobody
#       listens there: SO_REUSEADDR counts only where both set it, and clients do not. The server's own end of such a connection
#       is no hindrance.
# Seen: Linux 6.18, Python 3.11.7; no packages. "Address already in use"; ss -tan shows TIME_WAIT, which has no process.
# So:   a service whose port lies in net.ipv4.ip_local_port_range (32768 to 60999) may fail to start, now and then, for up to a
#       minute; a restart delay that is shorter does not help. The kernel gives clients even numbers first and those who bind port 0
#       odd ones, so that a test that takes the port next to a free one meets it far more often.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >judge.py <<'PY'
import os
import socket


def server():
    """Return a listener as socketserver, asyncio and most servers make it: with SO_REUSEADDR."""
    return socket.create_server(("127.0.0.1", 0))


def try_to_serve(port):
    try:
        with socket.create_server(("127.0.0.1", port)):
            return "bound"
    except OSError as error:
        return os.strerror(error.errno)


def after(who_hangs_up_first, *, client_reuses=False):
    """Return what a server is told that wants the port of the one who has hung up first."""
    with server() as listener, socket.socket() as client:
        if client_reuses:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        first, then = (client, accepted) if who_hangs_up_first == "client" else (accepted, client)
        port = first.getsockname()[1]
        first.close()
        assert then.recv(1) == b""
        then.close()
        if who_hangs_up_first == "server":
            listener.close()
        return try_to_serve(port)


seen = {
    "the client hung up first": after("client"),
    "the same, and it had set SO_REUSEADDR": after("client", client_reuses=True),
    "the server hung up first": after("server"),
}
for what, answer in seen.items():
    print(f"{what}: {answer}")
assert [*seen.values()] == ["Address already in use", "bound", "bound"], seen
PY
python3 judge.py
echo "as described"
