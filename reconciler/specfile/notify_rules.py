"""Rules about processes that say how they are (sd_notify(3)), and about main processes that hand over."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model import servers
from reconciler.model.units import MILLISECOND_NS, parse_duration_ns
from reconciler.specfile.mistakes import quoted
from reconciler.specfile.rollout_rules import most_slots

if TYPE_CHECKING:
    from reconciler.specfile.given import Given

MIN_WATCHDOG_NS: Final = 100 * MILLISECOND_NS


def check_watcher(watcher: Given) -> None:
    """Check a watcher's watchdog and pid file, and whether its server can replace itself."""
    for name in watcher.says("watchdog"):
        with suppress(ValueError):
            if parse_duration_ns(watcher.data.get(name)) < MIN_WATCHDOG_NS:
                message = f"expected at least 100ms, found {quoted(str(watcher.data.get(name)))}"
                watcher.wrong(name, message)
    if watcher.says("pid_file"):
        _check_pid_file(watcher)
    _warn_of_silent_servers(watcher)
    _warn_of_inherited_sockets(watcher)


def _check_pid_file(watcher: Given) -> None:
    stop, processes = watcher.block("stop"), most_slots(watcher)
    if stop is not None and stop.says("scope") and stop.data.get("scope") != "tree":
        message = "with 'pid_file' all descendants of a process belong to it"
        stop.wrong("scope", message, "write: scope: tree, or leave it out")
    file = watcher.text("pid_file") or ""
    if isinstance(processes, int) and processes > 1 and "${slot" not in file:
        message = f"one file cannot name the main processes of {processes} slots"
        watcher.wrong("pid_file", message, "write ${slot} into it, as in /run/web-${slot}.pid")


def _warn_of_silent_servers(watcher: Given) -> None:
    """Warn where a server is waited for to say what it never says."""
    words, ready = watcher.data.get("cmd"), watcher.block("ready")
    if not isinstance(words, list) or ready is None or ready.data.get("notify") is not True:
        return
    program = servers.known_in(map(str, words))
    if program in servers.SILENT:
        message = f"{program} never sends READY=1 (sd_notify)"
        ready.warn("notify", message, "use a probe: http, tcp, unix or exec")


def _warn_of_inherited_sockets(watcher: Given) -> None:
    """Warn where gunicorn would replace itself: its new master takes the number of an inherited socket for its own."""
    words, reload = watcher.data.get("cmd"), watcher.block("reload")
    if not isinstance(words, list) or not _is_gunicorn(words):
        return
    texts = [*words, *_values(watcher.data.get("env"))]
    if not watcher.data.get("use_sockets") and not any("${sockets." in str(each) for each in texts):
        return
    message = "gunicorn cannot replace itself (USR2) on a socket that it has inherited"
    hint = "reconcile restart replaces it, slot by slot, on the same socket"
    if reload is not None and str(reload.data.get("signal")).removeprefix("SIG") == "USR2":
        reload.warn("signal", message, f"write: reload: replace; {hint}")
    elif watcher.says("pid_file"):
        watcher.warn(
            "pid_file", message, f"let it bind a port of its own, or leave this out: {hint}"
        )


def _values(env: object) -> list[object]:
    return [*env.values()] if isinstance(env, dict) else []


def _is_gunicorn(words: list[object]) -> bool:
    names = [str(word).rpartition("/")[2] for word in words[:3]]
    return names[:1] == ["gunicorn"] or names[1:] == ["-m", "gunicorn"]
