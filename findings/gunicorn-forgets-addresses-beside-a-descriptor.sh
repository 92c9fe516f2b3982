#!/usr/bin/env bash
# What: gunicorn that is given a descriptor (fd://N) and addresses to bind listens at the descriptor alone. The addresses are
#       neither bound nor refused, whatever their order.
# Seen: gunicorn 27.0.1: two addresses answer together; an address beside fd://N refuses connections, before and behind it.
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


def free():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{it.getsockname()[1]}"


def answers(address):
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=20) as it:
            it.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"hi" in b"".join(iter(lambda: it.recv(1000), b""))
    except ConnectionRefusedError:
        return False


def seen(order):
    """Return who answers of the listening descriptor and two addresses, once the last of them could."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = "%s:%d" % listener.getsockname()
    binds = {"fd": f"fd://{listener.fileno()}", "one": free(), "two": free()}
    argv = [os.path.join(os.path.dirname(sys.executable), "gunicorn"), "--workers", "1"]
    for name in order:
        argv += ["--bind", binds[name]]
    program = subprocess.Popen(
        [*argv, "wsgi:app"], pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
    )
    for line in program.stderr:
        if "Booting worker" in line:  # all listening sockets are there by now
            break
    places = {**binds, "fd": held}
    found = {name: answers(places[name]) for name in order}
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    listener.close()
    print(f"--bind {' --bind '.join(order)}: exit {program.returncode}, who answers: {found}")
    return found


assert seen(["one", "two"]) == {"one": True, "two": True}
assert seen(["fd", "one"]) == {"fd": True, "one": False}
assert seen(["one", "fd"]) == {"one": False, "fd": True}
PY
venv/bin/python judge.py
echo "as described"
