"""Asks a Redis server for its numbers now and then, and restarts it when it does not answer in time."""

import argparse
import socket
import time

from metrics import Statsd

from reconciler import Client

GAUGES = ("connected_clients", "used_memory", "instantaneous_ops_per_sec", "evicted_keys")


def info(address: tuple[str, int], timeout: float) -> dict[str, str]:
    """Return what INFO says. Raises `OSError`."""
    with socket.create_connection(address, timeout) as connection:
        connection.sendall(b"INFO\r\n")
        answer = connection.makefile("rb")
        length = int(answer.readline().removeprefix(b"$"))
        text = answer.read(length).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the Redis server")
    parser.add_argument("watcher", help="what to restart")
    parser.add_argument("--every", type=float, default=60, help="seconds between two looks")
    parser.add_argument("--timeout", type=float, default=5, help="seconds")
    parser.add_argument("--statsd", default="", help="HOST:PORT of a statsd server")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    statsd = Statsd(args.statsd)
    with Client() as client:
        while True:
            time.sleep(args.every)
            try:
                found = info((host, int(port)), args.timeout)
            except (OSError, ValueError) as error:
                print(f"{args.address}: {error}", flush=True)
                if client.status(args.watcher).watchers[0].state == "Running":
                    client.restart(args.watcher, reason=f"{args.address}: {error}"[:200])
                continue
            for name in GAUGES:
                if name in found:
                    statsd.gauge(f"{args.watcher}.{name}", float(found[name]))


if __name__ == "__main__":
    main()
