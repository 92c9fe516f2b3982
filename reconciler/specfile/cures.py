"""What to write instead of a value that does not fit: one text where a block is wanted, other tools' spellings.

Never shows a value where it may be a secret: the caller asks for none there.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from reconciler.model.address import parse_address
from reconciler.model.probe import ENDPOINT, URL
from reconciler.model.units import (
    parse_duration_ns,
    parse_formula,
    parse_signal,
    parse_size_bytes,
)
from reconciler.specfile.hints import VALUE_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNALS: Final = {
    "1": "HUP", "2": "INT", "3": "QUIT", "6": "ABRT", "9": "KILL", "10": "USR1", "12": "USR2", "14": "ALRM",
    "15": "TERM", "28": "WINCH",
}  # fmt: skip
"""The numbers that people write, as on x86 and ARM (signal(7))."""
_BOOLEANS: Final = {
    **dict.fromkeys(("yes", "on", "y", "1", "enabled"), "true"),
    **dict.fromkeys(("no", "off", "n", "0", "disabled"), "false"),
}
_DURATION: Final = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)",
    re.IGNORECASE,
)
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg])i?b?", re.IGNORECASE)
_MEBIBYTES_RATHER: Final = 10_000
"""Nobody means so few bytes where a size is wanted."""
_PROCESSORS: Final = re.compile(r"\d{1,3}\.\d{1,2}|\d")
_ALL_PROCESSORS: Final = frozenset(("auto", "max", "cpu", "ncpu", "ncpus", "nproc", "cores"))
SINKS: Final = frozenset(("manager", "journal", "syslog", "devnull"))
"""Where output goes other than to a file."""
_EXAMPLES: Final = {
    "http": "http://127.0.0.1:8000/healthz", "tcp": "5432", "unix": "run/app.sock", "notify": "true",
}  # fmt: skip
"""Probes that are named without saying what is asked."""
_DEVICES: Final = {"/dev/null": "devnull", "/dev/stdout": "manager", "/dev/stderr": "manager"}


def for_bool(text: str) -> str:
    """Return what to write for true or false."""
    word = _BOOLEANS.get(text.lower())
    return f"write: {word}" if word else ""


def for_kind(kind: str, text: str) -> str:
    """Return what to write for a text that is read as a duration, a size, a signal ..., or an empty text."""
    cure = _KINDS.get(kind)
    return cure(text) if cure is not None else ""


def for_block(block: str, text: str) -> str:
    """Return how a text is written as the block that is wanted, by the block's class."""
    cure = _BLOCKS.get(block)
    ours = cure(text) if cure is not None else ""
    return f"write: {ours}" if ours else ""


def _signal(text: str) -> str:
    name = _SIGNALS.get(text)
    return f"write: {name}" if name else ""


def _duration(text: str) -> str:
    if text.isdecimal():
        return f"write: {text}s, when seconds are meant" if _is_duration(f"{text}s") else ""
    match = _DURATION.fullmatch(text)
    unit = match[2].lower() if match else ""
    ours = f"{match[1]}{'ms' if unit.startswith(('ms', 'mil')) else unit[0]}" if match else ""
    return f"write: {ours}" if _is_duration(ours) else ""


def _size(text: str) -> str:
    if text.isdecimal() and 0 < int(text) <= _MEBIBYTES_RATHER:
        return f"write: {text}MiB, when mebibytes are meant"
    match = _SIZE.fullmatch(text)
    ours = f"{match[1]}{match[2].upper()}iB" if match else f"{text}B"
    fits = (match or text.isdecimal()) and _is_read_by(parse_size_bytes, ours)
    return f"write: {ours}" if fits else ""


def _percent(text: str) -> str:
    return f"write: {text}%" if text.isdecimal() and int(text) <= 100 else ""


def _of_a_processor(text: str) -> str:
    """A number of processors, as compose's `cpus: 1.5`, or a percentage without its sign."""
    if _PROCESSORS.fullmatch(text) and float(text):
        return f"write: {round(float(text) * 100)}%, when {text} processors are meant"
    return f"write: {text}%" if text.isdecimal() and int(text) else ""


def _share(text: str) -> str:
    return f"write: {text}, without quotes" if text.isdecimal() else ""


def _address(text: str) -> str:
    """Other spellings of an address: a bare path, `:8080`, `*:8080`, `tcp://host:port`, a host alone."""
    path = text.removeprefix("unix://")
    if path.startswith("/"):
        return f"write: unix:{path}"
    if text.startswith("unix:"):
        return "write the whole path: unix:/run/app.sock, or unix:${env.PWD}/app.sock"
    rest = re.sub(r"^[a-z]+://", "", text).rstrip("/")
    host, colon, port = rest.rpartition(":")
    if colon and port.isdecimal() and host in {"", "*"}:
        return f"write: {port}, or 0.0.0.0:{port}; 127.0.0.1:{port} for this machine only"
    if rest != text:
        try:
            return f"write: {parse_address(rest)}"
        except ValueError:
            return ""
    return f"write: {text}:PORT" if re.fullmatch(r"[A-Za-z0-9.-]+", text) else ""


def _stream(text: str) -> str:
    if text in _DEVICES:
        return f"{{to: {_DEVICES[text]}}}"
    return f"{{to: {text}}}" if text in SINKS else f"{{file: {text}}}"


def _is_read_by(parse: Callable[[object], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


_is_duration: Final = partial(_is_read_by, parse_duration_ns)


def _stdin(text: str) -> str:
    if "/" in text:
        return f"{{file: {text}}}"
    if text == "file":
        return "{file: PATH}"
    return "pty" if text.lower() in {"tty", "terminal", "open", "true"} else "devnull"


def _reload(text: str) -> str:
    return f"{{signal: {text}}}" if _is_read_by(parse_signal, text) else f"{{cmd: {text}}}"


def _stop(text: str) -> str:
    if text.isdecimal() or _is_duration(text):
        return f"{{timeout: {text}}}"
    return _reload(text)


def _hook(text: str) -> str:
    return f"{{python: {text}}}" if re.fullmatch(r"[\w.]+\.\w+", text) else f"{{cmd: {text}}}"


def _probe(text: str) -> str:
    """One text where a probe is wanted: a URL, a port or an address, a path, a duration, or a command."""
    if text.startswith("http://"):
        return f"{{http: {text}}}"
    if text in _EXAMPLES:
        return f"{{{text}: {_EXAMPLES[text]}}}"
    if _is_read_by(ENDPOINT.parse, text):
        return f"{{tcp: {text}}}"
    if text.startswith("/") and " " not in text:
        return f"{{http: {{port: PORT, path: {text}}}}}"
    return f"{{delay: {text}}}" if _is_duration(text) else f"{{exec: {text}}}"


def _url(text: str) -> str:
    """A port or a path alone, `localhost:8000/healthz`, and what is encrypted."""
    if text.isdecimal():
        return f"write: {{port: {text}}}"
    if text.startswith("/"):
        return f"write: {{port: PORT, path: {text}}}"
    if text.startswith("https://"):
        return f"https is not built yet; write: exec: curl -fsS {text}"
    return f"write: http://{text}" if _is_read_by(URL.parse, f"http://{text}") else ""


def _schedule(text: str) -> str:
    every = text.removeprefix("@every").strip()
    return f"{{every: {every}}}" if _is_duration(every) else f'{{cron: "{text}"}}'


def _formula(text: str) -> str:
    """Other tools' words for one process a processor, and a formula with the number first."""
    plain = text.lower().replace(" ", "")
    if plain in _ALL_PROCESSORS:
        return "write: cpus"
    match = re.fullmatch(r"(\d+)\*(?:n?cpus?)((?:[+-]\d+)?)", plain)
    ours = f"cpus*{match[1]}{match[2]}" if match else ""
    return f"write: {ours}" if _is_read_by(parse_formula, ours) else ""


_KINDS: Final[dict[str, Callable[[str], str]]] = {
    "url": _url,
    "signal": _signal,
    "formula": _formula,
    "duration": _duration,
    "size": _size,
    "percentage": _percent,
    "percentage of a processor": _of_a_processor,
    "number or percentage": _share,
    "address": _address,
}
_BLOCKS: Final[dict[str, Callable[[str], str]]] = {
    "LogsSpec": lambda text: f"{{stdout: {_stream(text)}}}",
    "StdoutSpec": _stream,
    "StderrSpec": lambda text: "{to: stdout}" if text == "stdout" else _stream(text),
    "StdinSpec": lambda text: _stdin(text),
    "DependencySpec": lambda text: VALUE_WORDS.get(("condition", text.lower()), ""),
    "HookSpec": _hook,
    "ReloadBySignal": _reload,
    "StopSpec": _stop,
    "ScheduleSpec": _schedule,
    "BackoffSpec": lambda text: f"{{initial: {text}}}",
    "MaxRestartsSpec": lambda text: f"{{count: {text}}}",
    "DaemonLogSpec": lambda text: (
        f"{{level: {text}}}"
        if text in {"debug", "info", "warning", "error"}
        else f"{{file: {text}}}"
    ),
    "ReadySpec": lambda text: _probe(text),
    "HealthSpec": lambda text: _probe(text),
    "WatchSpec": lambda text: (
        "{paths: [...]}" if for_bool(text) or text in {"true", "false"} else f"{{paths: [{text}]}}"
    ),
    "SecretSpec": lambda text: "{file: PATH} or {cmd: PROGRAM}, never the value",
}
