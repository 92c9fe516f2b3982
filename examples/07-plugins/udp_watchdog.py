"""Restarts processes that have not said for a while that they live, by `pid;anything` to a UDP port.

A program that can should say WATCHDOG=1 instead (`watchdog:`), which needs no plugin.
"""

import argparse
import select
import socket
import time

from reconciler import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT to listen on")
    parser.add_argument("watchers", nargs="+", help="who has to be heard of: names or globs")
    parser.add_argument("--silence", type=float, default=15, help="seconds that are too long")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    pulse = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pulse.bind((host, int(port)))
    poll = select.poll()
    poll.register(pulse, select.POLLIN)
    heard: dict[int, float] = {}
    with Client() as client:
        while True:
            due = time.monotonic() + args.silence / 4
            while poll.poll(max(due - time.monotonic(), 0) * 1000):
                pid = pulse.recv(1000).partition(b";")[0]
                if pid.isdigit():
                    heard[int(pid)] = time.monotonic()
            heard = look(client, args.watchers, args.silence, heard)


def look(
    client: Client, watchers: list[str], silence: float, heard: dict[int, float]
) -> dict[int, float]:
    """Restart who was silent for too long, and return when those who run were heard of last."""
    now, known = time.monotonic(), {}
    for watcher in client.status(*watchers).watchers:
        for slot in watcher.slots:
            if slot.state != "Running" or slot.pid is None:
                continue
            known[slot.pid] = heard.get(slot.pid, now)  # who has just started has time to speak
            if now - known[slot.pid] > silence:
                reason = f"pid {slot.pid} was silent for {silence:g}s"
                client.restart(f"{watcher.name}.{slot.slot}", reason=reason)
    return known


if __name__ == "__main__":
    main()
