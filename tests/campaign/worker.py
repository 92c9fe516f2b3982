"""The workers of a campaign: each writes down what it does in a file of its own, whatever the manager says.

`worker.py ROLE [GENERATION]`. A line of the truth is one write: place, name and time (monotonic), then
start PID GENERATION or end CODE LINES.
"""

import os
import random
import signal
import socket
import sys
import time

ME = os.environ["RECONCILE_ID"]
PLACE = os.environ["RECONCILE_WATCHER"] + "." + os.environ["RECONCILE_SLOT"]
TRUTH = os.open("truth", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def tell(*words: object) -> None:
    line = " ".join(map(str, (PLACE, ME, time.monotonic_ns(), *words)))
    os.write(TRUTH, (line + "\n").encode())


def mortal(lines: int, code: int, life_s: float) -> None:
    """Write some lines and end by itself."""
    for number in range(1, lines + 1):
        print(ME, number, flush=True)
        time.sleep(life_s / lines)
    tell("end", code, lines)
    os._exit(code)  # at once: a keeper that is killed now is not to blame for what comes in between


def counter() -> None:
    """Count until asked to end, and say how far it came."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    number = 0
    while not asked:
        number += 1
        print(ME, number, flush=True)
        time.sleep(0.005)
    tell("end", 0, number)


def web() -> None:
    """Answer each connection on the socket that was handed over."""
    listener = socket.socket(fileno=3)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d\n" % os.getpid())


generation = int(sys.argv[2]) if len(sys.argv) > 2 else 0
tell("start", os.getpid(), generation)
match sys.argv[1]:
    case "web":
        web()
    case "counter":
        counter()
    case "mortal":
        mortal(5, random.randrange(1, 100), random.uniform(0.05, 0.5))
    case "batch":
        slot = int(os.environ["RECONCILE_SLOT"])
        mortal(3, (generation * 7 + slot * 31) % 97, random.uniform(0, 0.4))
    case "pool":
        signal.pause()
