#!/usr/bin/env bash
# What: connect() to a port of this machine where nobody listens succeeds now and then: when the kernel gives the client that very
#       port, the connection leads back to the same socket (simultaneous open, RFC 9293 3.5). It then holds the port, so that
#       the server that is waited for cannot bind it.
# Seen: Linux 6.18, Python 3.11.7; no packages. Only for ports of net.ipv4.ip_local_port_range, there for every even one (connect()
#       takes even numbers as long as there are any), after some hundreds to some ten thousand tries; no odd one in 40,000.
# So:   "wait until the port answers" can take the waiting for the answer, and a probe that tries every 100 ms meets it within
#       about half an hour: who connects has to compare getsockname() with getpeername().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >judge.py <<'PY'
import socket

MOST = 40_000
first, last = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())


def tries_until_connected(port):
    """Return how often it was tried until it succeeded (None: never), and whether it then talked to itself."""
    for number in range(1, MOST + 1):
        with socket.socket() as client:
            try:
                client.connect(("127.0.0.1", port))
            except ConnectionRefusedError:
                continue
            itself = client.getsockname() == client.getpeername()
            client.sendall(b"echo")
            return number, itself and client.recv(4) == b"echo"
    return None


even = (first + (last - first) // 3) // 2 * 2
found = {port: tries_until_connected(port) for port in (even, even + 1)}
for port, answer in found.items():
    print(f"port {port}: {f'connected to itself at try {answer[0]}' if answer else f'refused {MOST} times'}")
assert found[even] and found[even][1], found
assert found[even + 1] is None, found
PY
python3 judge.py
echo "as described"
