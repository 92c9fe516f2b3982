"""The bytes of an HTTP request and of its answer; touches no socket."""

from __future__ import annotations

import re
from typing import Final

from reconciler import __version__
from reconciler.model.probe import HttpTarget
from reconciler.model.value import Struct

MAX_ANSWER_BYTES: Final = 64 * 1024
"""So much of an answer is read."""
MAX_SHOWN: Final = 120
"""Characters of what a process says that people are shown."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Outcome(Struct, frozen=True):
    """What came of one question. `passed` None: it could not be asked, which says nothing of the process."""

    passed: bool | None
    message: str


def request_of(target: HttpTarget) -> bytes:
    """Return the request."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    headers = {
        "Host": f"{host}:{target.port}",
        "User-Agent": f"reconcile/{__version__}",
        "Accept": "*/*",
    }
    own = {name.lower() for name in target.headers}
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in own]
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    text = "\r\n".join((f"GET {target.path} HTTP/1.1", *lines, "Connection: close", "", ""))
    return text.encode("latin-1", "replace")


def outcome_of(target: HttpTarget, data: bytes | bytearray, *, is_all: bool) -> Outcome | None:
    """Return what an answer comes to; None as long as more of it should be read.

    It is read to its end where that is near, so that a server is not cut off. `is_all`: no more will come.
    """
    is_all |= len(data) >= MAX_ANSWER_BYTES
    match, end = _STATUS.match(data), _HEAD_END.search(data)
    while match is not None and end is not None and match[1][:1] == b"1":  # Continue, Early Hints
        data = data[end.end() :]
        match, end = _STATUS.match(data), _HEAD_END.search(data)
    if match is None:
        return _no_http(target, data, is_all=is_all)
    body = b"" if end is None else data[end.end() :]
    if not is_all and (end is None or not _is_whole(match[1], data[: end.end()], body)):
        return None
    code = int(match[1])
    said = f"{target} answers {code}"
    if any(low <= code <= high for low, high in target.status):
        return Outcome(True, said)
    reason = shown(match[2] or b"")
    if end is not None and _CHUNKED.search(data[: end.end()]):
        body = body.partition(b"\n")[2]  # behind the size of the first chunk
    first = shown(body.lstrip().partition(b"\n")[0])
    said += f" {reason}" if reason else ""
    return Outcome(False, f"{said}: {first}" if first and first != reason else said)


def _no_http(target: HttpTarget, data: bytes | bytearray, *, is_all: bool) -> Outcome | None:
    if not is_all and (b"HTTP/1."[: len(data)] == data[:7]):
        return None
    if not data:
        return Outcome(False, f"{target} closes the connection without an answer")
    first = shown(data.partition(b"\n")[0])
    return Outcome(False, f"{target} answers no HTTP: {first!r}")


def _is_whole(code: bytes, head: bytes | bytearray, body: bytes | bytearray) -> bool:
    """Tell whether an answer is there to its end, as far as its head says where that is."""
    if code in {b"204", b"304"}:
        return True
    if _CHUNKED.search(head):
        return body.endswith(b"0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(body) >= int(length[1])


def shown(text: bytes | bytearray) -> str:
    """Return what a process has said so that people can be shown it."""
    return _CONTROL.sub(" ", text[: 4 * MAX_SHOWN].decode(errors="replace")).strip()[:MAX_SHOWN]
