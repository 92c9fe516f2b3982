#!/usr/bin/env bash
# What: a server that inherits a listening socket by number changes its backlog, for all that share the socket.
# Seen: hypercorn 0.18.0 (fd://) changes 2048 to 100, waitress 3.0.2 (sockets=) to 1024, aiohttp 3.14.5 (sock=) to 128, Linux 6.18.
# Why:  they call listen() again with a default of their own. listen(2) on a listening socket changes its backlog, and the socket is
#       the same open file for its parent and for every other process that has it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install hypercorn==0.18.0 waitress==3.0.2 aiohttp==3.14.5
cat >app.py <<'PY'
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hi"})
PY
cat >with_waitress.py <<'PY'
import socket
import sys

import waitress


def app(environ, start):
    start("200 OK", [])
    return [b"hi"]


waitress.serve(app, sockets=[socket.socket(fileno=int(sys.argv[1]))])
PY
cat >with_aiohttp.py <<'PY'
import socket
import sys

from aiohttp import web


async def hello(request):
    return web.Response(text="hi")


app = web.Application()
app.router.add_get("/", hello)
web.run_app(app, sock=socket.socket(fileno=int(sys.argv[1])), print=None)
PY
cat >judge.py <<'PY'
import socket
import subprocess
import sys
import time
import urllib.request

ASKED = 2048


def backlog(listener):
    """Of a listening socket tcpi_sacked is the backlog in force (tcp(7), TCP_INFO)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[28:32], sys.byteorder)


SERVERS = {
    "hypercorn": (["-m", "hypercorn", "-w", "0", "--bind", "fd://{fd}", "app:app"], 100),
    "waitress": (["with_waitress.py", "{fd}"], 1024),
    "aiohttp": (["with_aiohttp.py", "{fd}"], 128),
}
limit = int(open("/proc/sys/net/core/somaxconn").read())
asked = min(ASKED, limit)
for name, (words, expected) in SERVERS.items():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(ASKED)
    assert backlog(listener) == asked
    fd = listener.fileno()
    argv = [sys.executable, *(word.format(fd=fd) for word in words)]
    server = subprocess.Popen(argv, pass_fds=[fd], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=5) as answer:
                    assert answer.read() == b"hi"
                break
            except OSError:
                time.sleep(0.1)
        print(f"{name:10} backlog before {asked}, after {backlog(listener)}")
        assert backlog(listener) == min(expected, limit), f"{name} no longer makes it {expected}"
    finally:
        server.kill()
        server.wait()
        listener.close()
PY
venv/bin/python judge.py
echo "as described"
