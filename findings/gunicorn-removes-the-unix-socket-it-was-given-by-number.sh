#!/usr/bin/env bash
# What: gunicorn removes the file of a Unix socket that it did not bind when it gets the socket as fd://N; when it gets the same
#       socket by LISTEN_FDS it leaves the file alone.
# Seen: gunicorn 27.0.1, SIGTERM to the master, exit 0 both times; the parent still holds the listening socket, nobody can connect.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install gunicorn==27.0.1
cat >wsgi.py <<'PY'
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

left = {}
for way in ("fd://", "LISTEN_FDS"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("web.sock")
    listener.listen()
    words = ["--bind", "fd://3"] if way == "fd://" else []
    env = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
    number = listener.fileno()

    argv = ["gunicorn", "--workers", "1", *words, "wsgi:app"]
    pid = os.fork()
    if pid == 0:
        os.dup2(number, 3)
        os.set_inheritable(3, True)
        if way != "fd://":
            env |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.execve(os.path.join(os.path.dirname(sys.executable), "gunicorn"), argv, env)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect("web.sock")
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert b"hi" in client.recv(1000) + client.recv(1000)
    client.close()
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    left[way] = os.path.exists("web.sock")
    print(f"{way:10} exit {os.waitstatus_to_exitcode(status)}, the file is {'there' if left[way] else 'gone'}")
    listener.close()
    if left[way]:
        os.unlink("web.sock")
assert left == {"fd://": False, "LISTEN_FDS": True}
PY
venv/bin/python judge.py
echo "as described"
