#!/usr/bin/env bash
# What: gunicorn sends READY=1 to systemd before a worker exists, and so before it knows whether the application can be imported.
# Seen: gunicorn 27.0.1 with a module that does not exist: READY=1, then exit 3. With an application whose import takes 2 s: READY=1
#       well before the first answer. With --preload the message comes after the import.
# So:   a start that waits for READY=1 alone counts a broken deployment as started.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install gunicorn==27.0.1
cat >slow.py <<'PY'
import time

time.sleep(2)


def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"hi"]
PY
cat >judge.py <<'PY'
import os
import signal
import socket
import subprocess
import sys
import time


def life(*words):
    """Start gunicorn; return the seconds to READY=1, to the first answer (None: none came), and its exit status."""
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind("notify.sock")
    notify.settimeout(30)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    gunicorn = os.path.join(os.path.dirname(sys.executable), "gunicorn")
    argv = [gunicorn, "--bind", f"127.0.0.1:{port}", "--workers", "1", *words]
    env = {**os.environ, "NOTIFY_SOCKET": os.path.abspath("notify.sock")}
    begun = time.monotonic()
    server = subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL)
    answered = None
    try:
        while b"READY=1" not in notify.recv(4096).splitlines():
            pass
        ready = time.monotonic() - begun
        while answered is None and server.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 30) as client:
                    client.settimeout(30)
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if client.recv(100):
                        answered = time.monotonic() - begun
            except OSError:
                time.sleep(0.05)
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        return ready, answered, server.wait(30)
    finally:
        server.kill()
        server.wait()
        notify.close()
        os.unlink("notify.sock")


ready, answered, status = life("no_such_module:app")
print(f"missing module: READY=1 after {ready:.2f} s, answered: {answered}, exit {status}")
assert answered is None and status == 3
ready, answered, status = life("slow:app")
print(f"slow import: READY=1 after {ready:.2f} s, first answer after {answered:.2f} s")
assert answered - ready > 1
ready, answered, status = life("--preload", "slow:app")
print(f"slow import, --preload: READY=1 after {ready:.2f} s")
assert ready > 2
PY
venv/bin/python judge.py
echo "as described"
