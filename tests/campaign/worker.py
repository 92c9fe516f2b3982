"""The workers of a campaign: each writes down what it does in a file of its own, whatever the manager says.

`worker.py ROLE [GENERATION]`. A line of the truth is one write: place, name and time (monotonic), then
start PID GENERATION, child PID 0 or end CODE LINES.
"""

import ctypes
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


def wipe() -> None:
    """Write over the environment, and with it the marker, as everything does that sets a process title."""
    with open("/proc/self/stat") as file:
        begin, end = map(int, file.read().rpartition(")")[2].split()[47:49])
    ctypes.memset(begin, 0, end - begin)


def forker() -> None:
    """Have two children that do the work, end at SIGTERM when they have ended, and show no marker."""
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            tell("child", os.getpid(), 0)
            signal.pause()
        children.append(pid)

    def end(*_: object) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pause()


def background() -> None:
    """Go into the background, as daemons of the old kind do."""
    ready, told = os.pipe()
    if os.fork():
        os.read(ready, 1)
        os._exit(0)
    os.setsid()
    tell("child", os.getpid(), 0)
    os.write(told, b"x")
    signal.pause()


def unlinker() -> None:
    """Remove the file of a socket that is not its own, as many servers do at their end."""

    def end(*_: object) -> None:
        try:
            os.unlink("app.sock")
        finally:
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pause()


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
    case "forker":
        wipe()
        forker()
    case "background":
        wipe()
        background()
    case "unlinker":
        unlinker()
