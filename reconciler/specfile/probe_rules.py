"""Rules of probes: one kind, times that leave room for an answer, and an address that is the slot's own."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.probe import as_slot, parse_endpoint, parse_port, parse_unix_path, parse_url
from reconciler.model.spec import HealthSpec, ReadySpec
from reconciler.model.units import MILLISECOND_NS, format_duration, parse_duration_ns
from reconciler.specfile.cures import SINKS
from reconciler.specfile.mistakes import quoted
from reconciler.specfile.rollout_rules import most_slots
from reconciler.specfile.shapes import block
from reconciler.specfile.yaml_text import Map

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.specfile.given import Given

PROBES: Final = ("http", "tcp", "unix", "exec")
READY_KINDS: Final = (*PROBES, "log", "delay")
_DEADLINE: Final = format_duration(ReadySpec().deadline or 0)
MIN_PROBE_NS: Final = 100 * MILLISECOND_NS
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL: Final = re.compile(r"[^\t\x20-\x7e\xa0-\xff]")
_FRAMING: Final = frozenset(("connection", "content-length", "transfer-encoding"))


def check_ready(ready: Given | None, slots: object) -> None:
    """Check what makes a process ready; `slots` is the number of processes. It may say so itself, and be asked, too."""
    if ready is not None:
        says_so = ready.data.get("notify") is True
        _check_probe(ready, READY_KINDS, "ready", slots, is_optional=says_so)
        _check_deadline(ready)


def _check_deadline(ready: Given) -> None:
    """Check that a process can be ready before it counts as too late."""
    # A delay alone has no deadline: it passes by itself.
    for name in ready.says(
        "initial_delay", *(("delay",) if ready.data.get("notify") is True else ())
    ):
        with suppress(ValueError):
            delay_ns = parse_duration_ns(ready.data.get(name))
            deadline_ns = parse_duration_ns(ready.data.get("deadline", _DEADLINE))
            if deadline_ns <= delay_ns:
                late = format_duration(deadline_ns)
                message = f"the process has failed after {late} (deadline), before this is over"
                hint = f"write: deadline: {format_duration(delay_ns + deadline_ns)}, or null"
                ready.wrong(name, message, hint)


def check_log(watcher: Given) -> None:
    """Check that the output in which a line is looked for is written to a file, and to one of each slot's own."""
    ready = watcher.block("ready")
    if ready is None or not ready.says("log"):
        return
    logs = watcher.block("logs")
    stdout, stderr = (logs and logs.block("stdout")), (logs and logs.block("stderr"))
    out_to, err_to = (each.data.get("to") if each else None for each in (stdout, stderr))
    err_file = stderr.data.get("file") if stderr else None
    out_is_read = out_to not in SINKS
    err_is_read = err_file is not None or (out_is_read and err_to in {None, "stdout"})
    if not out_is_read and not err_is_read:
        message = f"the output goes to {out_to}, where no line of it can be looked for"
        ready.wrong("log", message, "leave logs.stdout.to out, or ask by http, tcp, unix or exec")
    slots, file = most_slots(watcher), stdout.data.get("file") if stdout else None
    for path in (file if out_is_read else None, err_file):
        if isinstance(path, str) and "${slot" not in path and slots != 1:
            message = f"all slots write to {path}: whose line it is is not known"
            ready.wrong("log", message, "name ${slot} in the path of the file")


def check_health(health: Given | None, slots: object) -> None:
    """Check what makes a process healthy."""
    if health is not None:
        _check_probe(health, PROBES, "health", slots, is_optional=False)


def _check_probe(
    probe: Given, kinds: tuple[str, ...], name: str, slots: object, *, is_optional: bool
) -> None:
    given = probe.says(*kinds)
    known = block(ReadySpec if name == "ready" else HealthSpec).fields
    is_mistaken = "notify" in probe.node.entries and probe.data.get("notify") is not False
    if (
        not given
        and not is_optional
        and not is_mistaken
        and probe.node.entries.keys() <= known.keys()
    ):
        words = ", ".join((*kinds, "notify") if name == "ready" else kinds)
        message = f"expected one of {words}, found none of them"
        hint = f"write: {name}: {{http: http://127.0.0.1:8000/healthz}}, or leave it out"
        probe.mistakes.at(probe.node, probe.where, message, hint)
    for other in given[1:]:
        message = f"'{given[0]}' and '{other}' are given both"
        probe.out_of_place(other, message, "keep one of them; a command (exec) can ask for both")
    for each in probe.says("interval", "timeout"):
        with suppress(ValueError):
            if parse_duration_ns(probe.data.get(each)) < MIN_PROBE_NS:
                found = quoted(str(probe.data.get(each)))
                probe.wrong(each, f"expected at least 100ms, found {found}")
    http = probe.block("http")
    if http is not None:
        _check_http(http, slots)
    _check_slots(probe, "http", parse_url, slots)
    _check_slots(probe, "tcp", parse_endpoint, slots)
    _check_slots(probe, "unix", parse_unix_path, slots)


def _check_http(http: Given, slots: object) -> None:
    given = http.says("url", "port")
    if not given:
        message, hint = "an http probe needs url or port, found neither", "write: {port: 8000}"
        http.mistakes.at(http.node, http.where, message, hint)
    for other in http.says("port", "host", "path") if "url" in given else ():
        http.out_of_place(other, f"'url' and '{other}' are given both", "keep one of them")
    headers = http.node.get("headers")
    for name, entry in headers.entries.items() if isinstance(headers, Map) else ():
        where = f"{http.where}.headers.{quoted(name)[1:-1]}"
        value = (http.block("headers") or http).data.get(name)
        if not _HEADER.fullmatch(name) or name.lower() in _FRAMING:
            message = f"{quoted(name)} cannot be the name of a header here"
            http.mistakes.at(entry.key, where, message)
        elif isinstance(value, str) and _CONTROL.search(value):
            message = "found a character that no header can hold"
            http.mistakes.at(entry.value, where, message)
    _check_slots(http, "url", parse_url, slots)
    _check_slots(http, "port", parse_port, slots)


def _check_slots(probe: Given, name: str, parse: Callable[[str], object], slots: object) -> None:
    """Check that what is asked can be asked of each slot, and warn where all slots are asked at one place."""
    value = probe.data.get(name)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not isinstance(slots, int) or slots < 2:
        return
    try:
        parse(as_slot(text))
    except ValueError:
        return  # told by its type
    first, last = as_slot(text, 1), as_slot(text, slots)
    if first == last:
        message = (
            f"all {slots} slots are asked at the same place: any of them may answer for another"
        )
        hint = 'give each a place of its own: "${slot+7999}" is 8000, 8001, ...'
        probe.warn(name, message, hint)
        return
    try:
        parse(last)
    except ValueError as error:
        probe.wrong(name, f"{error} for slot {slots} too, found {quoted(last)}")
