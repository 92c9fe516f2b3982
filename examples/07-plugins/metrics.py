"""Numbers for a statsd server, by UDP: https://github.com/statsd/statsd/blob/master/docs/metric_types.md."""

import socket


class Statsd:
    """Sends and never waits; without an address it sends nothing."""

    def __init__(self, address: str, prefix: str = "reconcile") -> None:
        self.prefix = prefix
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        host, _, port = address.rpartition(":")
        self.address = (host, int(port)) if address else None

    def count(self, name: str) -> None:
        self.send(name, "1|c")

    def gauge(self, name: str, value: float) -> None:
        self.send(name, f"{value:g}|g")

    def time(self, name: str, seconds: float) -> None:
        self.send(name, f"{seconds * 1000:.1f}|ms")

    def send(self, name: str, value: str) -> None:
        if self.address is not None:
            self.socket.sendto(f"{self.prefix}.{name}:{value}".encode(), self.address)
