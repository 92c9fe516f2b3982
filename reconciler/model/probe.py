"""Probes: what is asked, how its text reads in a spec, and what one answer after the other comes to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from reconciler.model.address import MAX_UNIX_PATH_BYTES
from reconciler.model.process import LogPlace
from reconciler.model.units import SLOT_PATTERN, Reads
from reconciler.model.value import Struct, field

MAX_STREAK: Final = 1000
"""So many successes or failures in a row are counted, as many as a spec can ask for."""
MAX_PATTERN: Final = 1000
LOCALHOST: Final = "127.0.0.1"

PURPOSES: Final = ("ready", "health")
"""What is asked for; also the roles of the commands that are run for it."""

Ranges: TypeAlias = tuple[tuple[int, int], ...]

_HOST: Final = r"\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<host>[A-Za-z0-9_.-]+)"
_ENDPOINT: Final = re.compile(rf"(?:(?:{_HOST}):)?(?P<port>[0-9]{{1,9}})")
_URL: Final = re.compile(rf"http://(?:{_HOST})(?::(?P<port>[0-9]{{1,9}}))?(?P<path>/[^\s#]*)?")
_STATUS: Final = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_PER_SLOT: Final = re.compile(rf"\$(?:\$|\{{{SLOT_PATTERN}\}})")
_HTTP_PORT: Final = 80


# ---- what is asked --------------------------------------------------------------------------------


class TcpTarget(Struct, frozen=True):
    """A connection to a port is taken."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp {_endpoint(self.host, self.port)}"


class UnixTarget(Struct, frozen=True):
    """A connection to a Unix socket is taken."""

    path: str

    def __str__(self) -> str:
        return f"unix {self.path}"


class HttpTarget(Struct, frozen=True):
    """A GET request is answered with one of these status codes."""

    host: str
    port: int
    path: str = "/"
    status: Ranges = ((200, 399),)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"http {_endpoint(self.host, self.port)}{self.path}"


class LogTarget(Struct, frozen=True):
    """A line of the output matches, from these places on."""

    pattern: str
    places: tuple[LogPlace, ...]

    def __str__(self) -> str:
        return f"log {self.pattern!r}"


Target: TypeAlias = TcpTarget | UnixTarget | HttpTarget | LogTarget


class Probing(Struct, frozen=True):
    """A probe that is made again and again, from an instant on (monotonic)."""

    target: Target
    begin_ns: int
    interval_ns: int
    timeout_ns: int
    failures: int
    successes: int


class Streak(Struct, frozen=True):
    """How often in a row a probe has failed, and how often it has passed since.

    What has failed often enough goes on to count as failed until it has passed often enough.
    """

    failed: int = 0
    passed: int = 0

    def after(self, *, ok: bool, failures: int, successes: int) -> Streak:
        """Return the streak with another answer."""
        if not ok:
            return Streak(min(self.failed + 1, MAX_STREAK))
        passed = min(self.passed + 1, MAX_STREAK)
        is_over = self.failed < failures or passed >= successes
        return Streak(0 if is_over else self.failed, passed)

    def verdict(self, *, failures: int, successes: int) -> bool | None:
        """Tell whether it has passed, or failed, often enough; None: neither, and what was known before counts."""
        if self.failed >= failures:
            return False
        return True if not self.failed and self.passed >= successes else None


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ---- how it is written ----------------------------------------------------------------------------


def parse_port(text: str) -> int:
    """Return the number of a port. Raises `ValueError`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= 65535:
        msg = "expected a port from 1 to 65535"
        raise ValueError(msg)
    return int(text)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return host and port of `5432`, `db:5432` or `[::1]:5432`. Raises `ValueError`."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        msg = "expected a port or an address such as 5432, 127.0.0.1:5432 or [::1]:5432"
        raise ValueError(msg)
    return match["v6"] or match["host"] or LOCALHOST, parse_port(match["port"])


def parse_url(text: str) -> tuple[str, int, str]:
    """Return host, port and path of a URL. Raises `ValueError`."""
    match = _URL.fullmatch(text)
    if match is None:
        msg = "expected a URL such as http://127.0.0.1:8000/healthz"
        if text.startswith("https://"):
            msg = "expected a URL that begins with http://"
        raise ValueError(msg)
    port = parse_port(match["port"]) if match["port"] else _HTTP_PORT
    return match["v6"] or match["host"], port, match["path"] or "/"


def parse_path(text: str) -> str:
    """Return the path of an HTTP request. Raises `ValueError`."""
    if not re.fullmatch(r"/[\x21-\x7e]*", text) or "#" in text:
        msg = "expected a path such as /healthz"
        raise ValueError(msg)
    return text


def parse_unix_path(text: str) -> str:
    """Return the path of a Unix socket. Raises `ValueError`."""
    size = len(text.encode())
    if not text or "\0" in text or size > MAX_UNIX_PATH_BYTES:
        msg = f"expected the path of a Unix socket, at most {MAX_UNIX_PATH_BYTES} bytes"
        raise ValueError(msg)
    return text


def parse_ranges(value: object) -> Ranges:
    """Return the status codes of `200`, `200-399` or `200-299, 401`. Raises `ValueError`."""
    found = []
    for part in re.split(r"\s*,\s*", _text(value)):
        match = _STATUS.fullmatch(part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            msg = "expected status codes such as 200, 200-399 or 200-299, 401"
            raise ValueError(msg)
        found.append((low, high))
    return tuple(found)


def parse_pattern(value: object) -> str:
    """Return a regular expression. Raises `ValueError`."""
    text = value if isinstance(value, str) else ""
    if not text or len(text) > MAX_PATTERN:
        msg = f"expected a regular expression of at most {MAX_PATTERN} characters"
        raise ValueError(msg)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        msg = f"expected a regular expression ({error})"
        raise ValueError(msg) from None
    return text


def as_slot(text: str, slot: int = 1) -> str:
    """Return a template's text as it is for one slot, where only its number may be named."""

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return f"{slot + int(match['step'] or 0):0{match['width'] or 1}}"

    return _PER_SLOT.sub(put, text)


def _text(value: object) -> str:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number or isinstance(value, str) else ""


def _per_slot(parse: Callable[[str], object]) -> Callable[[object], str]:
    """Return what reads the text of which each slot makes its own: it stays as it is."""

    def check(value: object) -> str:
        parse(as_slot(_text(value)))
        return _text(value)

    return check


def _ranges(value: object) -> str:
    parse_ranges(value)
    return _text(value)


PORT: Final = Reads("port", _per_slot(parse_port), "8000", None, ("integer",))
ENDPOINT: Final = Reads("port or address", _per_slot(parse_endpoint), "5432", None, ("integer",))
URL: Final = Reads("url", _per_slot(parse_url), "http://127.0.0.1:8000/healthz")
URL_PATH: Final = Reads("path", _per_slot(parse_path), "/healthz")
UNIX_PATH: Final = Reads("path", _per_slot(parse_unix_path), "/run/app.sock")
PATTERN: Final = Reads("regular expression", parse_pattern, "ready to accept connections")
STATUS: Final = Reads("status codes", _ranges, "200-399", None, ("integer",))
