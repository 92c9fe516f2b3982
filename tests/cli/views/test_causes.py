from __future__ import annotations

import pytest

from reconciler.cli.views.causes import Told, causes
from reconciler.cli.views.exits import meaning
from reconciler.cli.views.painting import paint
from reconciler.cli.views.why import why_page
from reconciler.model.answer import EventEntry, RunEntry
from reconciler.model.job import Instant
from reconciler.model.process import Exit
from reconciler.model.status import (
    Condition,
    DependencyStatus,
    LastProbe,
    Override,
    SlotStatus,
    SocketStatus,
    Status,
    WatcherStatus,
)
from reconciler.model.value import replace
from tests.cli.answers import NOW_NS, SECOND_NS

RUNNING = SlotStatus(1, "Running", NOW_NS - 60 * SECOND_NS, pid=7)


def watcher(name: str, *slots: SlotStatus, **more: object) -> WatcherStatus:
    made = WatcherStatus(
        name,
        want=len(slots),
        state=slots[0].state,
        ready=sum(slot.as_desired for slot in slots),
        as_desired=all(slot.as_desired for slot in slots),
        since_ns=slots[0].since_ns,
        slots=slots,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def ago(seconds: int) -> int:
    return NOW_NS - seconds * SECOND_NS


def exited(name: str, slot: int, seconds: int, message: str, **details: object) -> EventEntry:
    return EventEntry(1, ago(seconds), "process.exited", name, slot, message, details)


def shown(*watchers: WatcherStatus, of: str, **told: object) -> list[str]:
    """Return what is said of a watcher."""
    known = {each.name: each for each in watchers}
    found = causes(Told(watchers=known, **told), [of])  # type: ignore[arg-type]
    return paint(why_page(found, NOW_NS))


MIGRATE = watcher("migrate", SlotStatus(1, "Failed", ago(9), note="failed: exit 7"), kind="job")
RUN = RunEntry(
    *("migrate", 1, 2, "spec_change"), fired_ns=ago(10), ended_ns=ago(9), outcome="failed", exit=Exit(7)
)  # fmt: skip
LINES = {("migrate", 1): ("creating index", "no such table")}
NEEDS_MIGRATE = (DependencyStatus("migrate", "succeeded"),)


def test_what_waits_is_followed_to_what_has_failed_and_says_what_to_type() -> None:
    note = "waiting for migrate to succeed: failed: exit 7"
    web = watcher("web", SlotStatus(1, "Waiting", ago(20), note=note), depends_on=NEEDS_MIGRATE)
    needs_web = (DependencyStatus("web", "ready"),)
    proxy = watcher("proxy", SlotStatus(1, "Waiting", ago(20)), depends_on=needs_web)

    assert shown(proxy, web, MIGRATE, of="proxy", runs={"migrate": (RUN,)}, lines=LINES) == [
        "proxy is Waiting (for 20s)",
        f"  web is Waiting: {note} (for 20s)",
        "    migrate is Failed: failed: exit 7 (for 9s)",
        "      run 2 of migrate (spec_change) failed: exit 7 (9s ago)",
        "        | creating index",
        "        | no such table",
        "      it stays so until: reconcile rerun migrate --failed",
    ]


def test_a_revision_that_is_not_good_is_told_once_with_the_one_that_decided_against_it() -> None:
    old = replace(RUNNING, outdated=True)
    met = (DependencyStatus("migrate", "succeeded", met=True),)
    slots, kept = (old, replace(old, slot=2)), (Condition("UpToDate", False, "Paused"),)
    web = watcher("web", *slots, state="Rolling", depends_on=met, told_conditions=kept)
    status = Status(
        revision=4, outcome="paused", reason="migrate.1 failed: exit 7", culprit="migrate"
    )

    told = {"status": status, "runs": {"migrate": (RUN,)}, "lines": LINES}
    assert shown(web, MIGRATE, of="web", **told) == [
        "web is Rolling: 0 of 2 ready (for 1m)",
        "  revision 4 is paused: migrate.1 failed: exit 7",
        "  it goes on with: reconcile apply --continue, or a spec that is mended; back with: reconcile rollback",
        "  migrate is Failed: failed: exit 7 (for 9s)",
        "    run 2 of migrate (spec_change) failed: exit 7 (9s ago)",
        "      | creating index",
        "      | no such table",
        "    it stays so until: reconcile rerun migrate --failed",
        "  web.1, web.2 are Running: of an older spec (for 1m)",
    ]
    edited = replace(
        web, told_conditions=(Condition("UpToDate", False, "Outdated"),), depends_on=()
    )
    assert shown(edited, MIGRATE, of="web", **told) == [
        "web is Rolling: 0 of 2 ready (for 1m)",
        "  web.1, web.2 are Running: to be replaced (for 1m)",
    ]


def test_a_crash_is_told_with_its_signal_its_last_lines_and_the_next_try() -> None:
    due = NOW_NS + 8 * SECOND_NS
    slot = SlotStatus(2, "BackOff", ago(2), attempt=4, next_ns=due, note="killed by SIGSEGV")
    app = watcher("app", RUNNING, slot, state="BackOff", as_desired=False)
    event = exited("app", 2, 2, "app.2 ended: killed by SIGSEGV after 3s", signal="SEGV", reason="")
    older = exited("app", 2, 9, "app.2 ended: exit 1 after 3s", exit_code=1)

    assert shown(
        app, of="app", events={"app": (older, event)}, lines={("app", 2): ("loading",)}
    ) == [
        "app is BackOff: 1 of 2 ready (for 1m)",
        "  app.2 is BackOff: killed by SIGSEGV (for 2s)",
        "    app.2 ended: killed by SIGSEGV after 3s (it accessed memory that is not its own: an error of the "
        "program or of a library) (2s ago)",
        "      | loading",
        "  app.2: the next try (in 8s)",
    ]


def test_who_is_as_desired_says_why_it_was_started_last() -> None:
    slot = replace(RUNNING, replacements=1, renewed="was replaced at its max_age")
    message = "web.1 ended (max_age has passed): killed by SIGTERM after 1h"
    event = exited("web", 1, 60, message, reason="max_age has passed", signal="TERM")

    assert shown(watcher("web", slot), of="web", events={"web": (event,)}) == [
        "web is as desired (for 1m)",
        "  web.1 was replaced at its max_age (1m ago)",
        "    web.1 ended (max_age has passed): killed by SIGTERM after 1h (1m ago)",
    ]


HOLD = Override("stopped", "stopped by alice", "alice", "disk", ago(7200), NOW_NS + 60 * SECOND_NS)
PROBED = SlotStatus(
    1, "Starting", ago(3), next_ns=NOW_NS + 57 * SECOND_NS, note="not ready: HTTP 503",
    last_probe=LastProbe("ready", ok=False),
)  # fmt: skip
INSTANT = Instant(NOW_NS + 90 * SECOND_NS, "03:00 CET")


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (
            WatcherStatus("it", state="Held", as_desired=True, note='stopped by alice: "disk"', overrides=(HOLD,)),
            [
                "it is Held",
                '  stopped by alice: "disk" (2h ago, ends in 1m)',
                "  sooner with: reconcile resume it",
            ],
        ),
        (
            watcher("it", PROBED),
            ["it is Starting: not ready: HTTP 503 (for 3s)", "  it fails unless it is ready (in 57s)"],
        ),
        (
            watcher("it", replace(PROBED, note="not ready: has sent nothing", last_probe=None)),
            ["it is Starting: not ready: has sent nothing (for 3s)", "  it fails unless it is ready (in 57s)"],
        ),
        (
            watcher("it", replace(PROBED, state="Failing", note="not ready: HTTP 503; 3 deaths in a row")),
            [
                "it is Failing: not ready: HTTP 503; 3 deaths in a row (for 3s)",
                "  it fails unless it is ready (in 57s)",
            ],
        ),
        (
            WatcherStatus("it", "job", 1, "Scheduled", 1, 0, "next run 03:00 CET", True, next_runs=(INSTANT,)),
            ["it is Scheduled", "  the next run: 03:00 CET (in 1m30s)"],
        ),
        (
            watcher("it", replace(RUNNING, next_ns=NOW_NS + 5 * SECOND_NS)),
            [
                "it is as desired (for 1m)",
                "  its clients are counted, and it is stopped when it has had none (in 5s)",
            ],
        ),
        (
            watcher("it", SlotStatus(1, "Failed", ago(5), note="gave up after more than 2 restarts in 1m")),
            [
                "it is Failed: gave up after more than 2 restarts in 1m (for 5s)",
                "  it stays so until: reconcile start it",
            ],
        ),
        (
            watcher("it", SlotStatus(1, "Stopping", ago(5), note="replaced", next_ns=NOW_NS + SECOND_NS)),
            ["it is Stopping: replaced (for 5s)", "  SIGKILL (in 1s)"],
        ),
    ],
)  # fmt: skip
def test_each_state_says_what_comes_next(it: WatcherStatus, expected: list[str]) -> None:
    assert shown(it, of="it") == expected


def test_of_a_run_that_the_manager_has_ended_nobody_is_guessed() -> None:
    late = replace(RUN, outcome="timeout", exit=Exit(signal="TERM"))
    assert "  run 2 of migrate (spec_change) timeout: killed by SIGTERM (9s ago)" in shown(
        MIGRATE, of="migrate", runs={"migrate": (late,)}
    )


def test_sockets_and_files_that_are_in_the_way_are_told() -> None:
    socket = SocketStatus(
        "http", "0.0.0.0:80", state="Failed", used_by=("web",), note="permission denied"
    )
    status = Status(sockets=(socket,), spec_state="invalid", spec_message="3 mistakes")
    web = watcher("web", SlotStatus(1, "Waiting", ago(5), note="socket http: permission denied"))

    assert shown(web, of="web", status=status) == [
        "web is Waiting: socket http: permission denied (for 5s)",
        "  socket http (0.0.0.0:80) is Failed: permission denied",
        "",
        "the spec files are invalid, and not in force: 3 mistakes",
    ]


def test_a_hook_that_said_no_is_told_with_what_it_wrote() -> None:
    due = NOW_NS + SECOND_NS
    slot = SlotStatus(1, "BackOff", ago(1), next_ns=due, note="before_start hook failed")
    event = EventEntry(3, ago(1), "hook.failed", "web", 0, "before_start hook failed: exit 3")

    assert shown(
        watcher("web", slot), of="web", events={"web": (event,)}, lines={("web", 1): ("no disk",)}
    ) == [
        "web is BackOff: before_start hook failed (for 1s)",
        "  before_start hook failed: exit 3 (1s ago)",
        "    | no disk",
        "  the next try (in 1s)",
    ]


@pytest.mark.parametrize(
    ("code", "signal", "text", "words"),
    [
        (0, None, "", ""),
        (1, None, "", ""),
        (127, None, "", "a command was not found"),
        (137, None, "", "killed by SIGKILL"),
        (255, None, "", ""),
        (None, "ABRT", "", "it aborted itself"),
        (None, "KILL", "killed by SIGKILL", "from outside"),
        (None, "KILL", "killed by SIGKILL (out of memory)", ""),
        (None, "RTMIN+1", "", ""),
    ],
)
def test_an_exit_is_put_into_words_where_it_means_something(
    code: int | None, signal: str | None, text: str, words: str
) -> None:
    found = meaning(code, signal, text)
    assert words in found and bool(words) == bool(found)
