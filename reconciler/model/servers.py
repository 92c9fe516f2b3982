"""What is known of servers by the names of their programs: whether they say when they are ready (sd_notify(3)).

As measured with the builds of Debian 12 and what PyPI and npm had at that time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SWITCHES: Final = {
    "redis-server": "--supervised systemd",
    "haproxy": "-Ws",
}
"""What they have to be started with to say it."""
SILENT: Final = frozenset(
    (
        *("apache2", "chronyd", "daphne", "dnsmasq", "granian", "httpd", "hypercorn", "lighttpd", "memcached", "monit"),
        *("nats-server", "nginx", "prometheus", "slapd", "stunnel", "stunnel4", "twistd", "uvicorn", "varnishd"),
        "waitress-serve",
    )
)  # fmt: skip
"""Those that never say it."""


def known_in(words: Iterable[str]) -> str:
    """Return the first program in a command of which something is known here, empty when there is none."""
    names = (part.rpartition("/")[2] for word in words for part in word.split())
    return next((name for name in names if name in SWITCHES or name in SILENT), "")
