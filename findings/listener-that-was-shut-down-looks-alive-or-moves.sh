#!/usr/bin/env bash
# What: one process that shares a listening socket calls shutdown() on it. A Unix listener then refuses all connects while
#       SO_ACCEPTCONN still says that it listens, and listen() does not repair it. listen() repairs a TCP listener that was bound
#       to port 0, on another port.
# Seen: Linux 6.18, Python 3.11.7; no packages. TCP with a fixed port comes back on the same port, and SO_ACCEPTCONN is right.
# So:   a manager that holds sockets for others cannot rely on SO_ACCEPTCONN of a Unix socket: it has to ask sock_diag(7) for
#       UNIX_DIAG_SHUTDOWN, and bind a new socket.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >judge.py <<'PY'
import socket


def answers(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect(address)
        except OSError as error:
            return type(error).__name__
        return "connected"


def life(family, address):
    """Return what is seen before, after shutdown() by a sharer, and after listen() again."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        first = listener.getsockname()
        seen = [(answers(family, first), listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))]
        with socket.socket(fileno=socket.dup(listener.fileno())) as sharer:
            sharer.shutdown(socket.SHUT_RDWR)
        seen.append((answers(family, first), listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)))
        listener.listen()
        now = listener.getsockname()
        seen.append((answers(family, now), listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)))
        return seen, now == first


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
unix, _ = life(socket.AF_UNIX, "s")
fixed, stays = life(socket.AF_INET, ("127.0.0.1", port))
chosen, stays_too = life(socket.AF_INET, ("127.0.0.1", 0))
print("unix       ", unix)
print("tcp, a port", fixed, "same port:", stays)
print("tcp, port 0", chosen, "same port:", stays_too)
assert unix == [("connected", 1), ("ConnectionRefusedError", 1), ("ConnectionRefusedError", 1)]
assert (fixed, stays) == ([("connected", 1), ("ConnectionRefusedError", 0), ("connected", 1)], True)
assert (chosen, stays_too) == (fixed, False)
PY
python3 judge.py
echo "as described"
