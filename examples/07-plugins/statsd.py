"""Counts events, and sends processor time and memory of each watcher now and then."""

import argparse
import time

from metrics import Statsd

from reconciler import Client


def gauges(client: Client, statsd: Statsd) -> None:
    for watcher in client.status(usage=True).watchers:
        cpu = [slot.cpu_percent for slot in watcher.slots if slot.cpu_percent is not None]
        memory = [slot.memory_bytes for slot in watcher.slots if slot.memory_bytes is not None]
        statsd.gauge(f"{watcher.name}.ready", watcher.ready)
        for name, found in (("cpu_percent", cpu), ("memory_bytes", memory)):
            if found:
                statsd.gauge(f"{watcher.name}.{name}_sum", sum(found))
                statsd.gauge(f"{watcher.name}.{name}_max", max(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the statsd server")
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks")
    args = parser.parse_args()
    statsd, due = Statsd(args.address), 0.0
    with Client() as client:
        # A stream goes on where it was when the controller is replaced, and ends with the manager.
        for what, event in client.follow(("events.follow", {}), tick=args.every):
            if what == "event":
                statsd.count(f"{event.get('watcher') or 'manager'}.{event.get('type')}")
            if time.monotonic() >= due:
                due = time.monotonic() + args.every
                gauges(client, statsd)


if __name__ == "__main__":
    main()
