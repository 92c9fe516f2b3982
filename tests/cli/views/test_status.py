from __future__ import annotations

import pytest

from reconciler.cli.views.layout import width_of
from reconciler.cli.views.painting import paint
from reconciler.cli.views.status import View, status_page
from reconciler.model.status import Status
from reconciler.model.value import from_plain
from tests.cli.answers import FAILED_JOB, HTTP, MAILER, NOW_NS, RUNNING_WEB, SECOND_NS, WORD, status


def page(answer: dict[str, object], width: int | None = None, **options: bool) -> list[str]:
    return paint(status_page(from_plain(Status, answer), NOW_NS, View(**options)), width=width)


SHOP = status(RUNNING_WEB, FAILED_JOB, MAILER, sockets=[HTTP])


def test_the_status_says_what_is_wanted_what_is_and_why_they_differ() -> None:
    assert page(SHOP) == [
        "WATCHER  WANT  STATE    READY  RESTARTS  AGE  NOTE",
        "web      2     Running  2/2    1         12s",
        "report   job   Failed   2/3    -         4m   slot 3: exit 1; rerun --failed",
        "mailer   2     BackOff  0/2    17        2s   "
        'exit 78: last line: "no route to host", next try in 8s',
        "",
        "SOCKET  LISTEN        TYPE    STATE  USED BY",
        "http    0.0.0.0:8000  stream  Bound  web",
        "",
        "shop · revision 42 · 3 watchers, 2 processes · 2 problems",
    ]


def test_the_wide_status_says_from_what_a_number_was_worked_out() -> None:
    answer = status(RUNNING_WEB | {"want_formula": "cpus/2"})
    assert page(answer)[1].split()[:3] == ["web", "2", "Running"]
    assert page(answer, slots=True)[1].split()[:5] == ["web", "cpus/2", "=", "2", "Running"]


def test_plugins_stand_in_a_table_of_their_own() -> None:
    statsd = RUNNING_WEB | {"name": "statsd", "kind": "plugin", "restarts": 0}
    assert page(status(RUNNING_WEB, statsd))[:5] == [
        "WATCHER  WANT  STATE    READY  RESTARTS  AGE  NOTE",
        "web      2     Running  2/2    1         12s",
        "",
        "PLUGIN  WANT  STATE    READY  RESTARTS  AGE  NOTE",
        "statsd  2     Running  2/2    0         12s",
    ]


def test_at_80_columns_the_note_wraps_below_itself() -> None:
    lines = page(SHOP, 80)

    assert lines[3:5] == [
        'mailer   2     BackOff  0/2    17        2s   exit 78: last line: "no route to',
        '                                              host", next try in 8s',
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = page(SHOP, width, usage=True, slots=True)

    assert [line for line in lines if width_of(line) > max(width, 60)] == []


def test_processor_time_and_memory_go_first_when_it_gets_narrow() -> None:
    wide, narrow = page(SHOP, 120, usage=True), page(SHOP, 70, usage=True)

    assert wide[0].split() == [
        "WATCHER",
        "WANT",
        "STATE",
        "READY",
        "RESTARTS",
        "AGE",
        "CPU",
        "MEM",
        "NOTE",
    ]
    assert wide[1].split() == ["web", "2", "Running", "2/2", "1", "12s", "8.5%", "41MiB"]
    assert narrow[0].split() == ["WATCHER", "WANT", "STATE", "READY", "RESTARTS", "AGE", "NOTE"]


def test_wide_shows_each_slot() -> None:
    lines = page(status(MAILER), slots=True)

    assert lines[3:5] == [
        "SLOT      PID  STATE    RESTARTS  REPLACED  AGE  LAST EXIT  NOTE",
        "mailer.1  -    BackOff  0         0         2s   exit 78    next try in 8s",
    ]


def test_a_spec_with_mistakes_is_told_with_its_places() -> None:
    mistake = {
        "path": "/srv/web.yaml",
        "line": 3,
        "column": 5,
        "field": "watchers.web.numproceses",
        "message": "unknown field",
        "hint": "did you mean numprocesses?",
    }
    told = "/srv/web.yaml:3:5: watchers.web.numproceses: unknown field"
    said = {"spec_state": "invalid", "spec_message": told, "spec_errors": [mistake]}
    lines = page(status(RUNNING_WEB, **said))  # once, whatever the manager says besides

    assert lines[3:] == [
        "spec invalid: 1 mistake; the last good spec keeps running",
        "/srv/web.yaml:3:5: watchers.web.numproceses: unknown field",
        "    hint: did you mean numprocesses?",
        "shop · revision 42 · 1 watcher, 2 processes · 1 problem",
    ]


def test_trouble_with_the_store_has_a_line_of_its_own() -> None:
    trouble = "cannot write /state/state.db: database or disk is full"
    lines = page(status(RUNNING_WEB, store_state="failing", store_message=trouble))

    assert lines[3:] == [
        f"store failing: {trouble}",
        "shop · revision 42 · 1 watcher, 2 processes · 1 problem",
    ]


def test_a_revision_says_its_commit_what_came_of_it_and_why() -> None:
    good = status(RUNNING_WEB, commit="a1b2c3d4e5f6", outcome="good")
    assert page(good)[-1] == (
        "shop · revision 42 (a1b2c3d, good) · 1 watcher, 2 processes · all as desired"
    )
    bad = {"outcome": "paused", "reason": "web.1 ended with exit 3", "log": ["no route\x1b[2J"]}
    assert page(status(RUNNING_WEB, **bad))[3:] == [
        "revision 42 paused: web.1 ended with exit 3",
        "    no route\\x1b[2J",
        "shop · revision 42 (paused) · 1 watcher, 2 processes · 1 problem",
    ]
    aside = status(RUNNING_WEB, spec_state="rolled_back", spec_message="41 was bad", log=["x"])
    assert page(aside)[3:-1] == ["spec rolled back: 41 was bad", "    x"]


def test_text_of_workers_cannot_play_tricks_in_the_table() -> None:
    lines = page(status(MAILER | {"note": "\x1b[2Jgone\nmailer 2 Running"}))

    assert "\\x1b[2Jgone\\nmailer 2 Running" in lines[1]
    assert len(lines) == 4


def test_states_have_colours_on_a_terminal() -> None:
    lines = paint(status_page(from_plain(Status, SHOP), NOW_NS), width=120, colour=True)

    assert "\x1b[32mRunning\x1b[0m" in lines[1]
    assert "\x1b[1;31mFailed\x1b[0m" in lines[2]


def test_a_word_of_an_operator_is_shown_with_who_why_since_and_until_when() -> None:
    held = {**MAILER, "state": "Held", "note": 'stopped by alice: "disk"', "as_desired": True}
    answer = status(held | {"slots": [], "overrides": [WORD], "drift": True})

    lines = page(answer)
    assert lines[1].endswith('stopped by alice 2h ago: "disk", resumes in 1m30s')
    assert lines[-1] == "shop · revision 42 · 1 watcher, 0 processes · 1 override · all as desired"


def test_a_note_that_says_something_else_is_left_alone() -> None:
    stopping = {**MAILER, "note": "stopped: SIGKILL was sent", "overrides": [WORD], "slots": []}

    assert page(status(stopping))[1].endswith("stopped: SIGKILL was sent")


FAILED = {"outcome": "failed", "reason": "mailer.1 ended with exit 78", "culprit": "mailer"}


LOG = {"log": ("no route to host",)}


def test_a_part_of_the_status_speaks_of_that_and_of_the_others_in_a_few_words() -> None:
    assert page(status(RUNNING_WEB, others=1, **FAILED, **LOG), selected=True)[2:] == [
        "",
        "shop · revision 42 (failed) · web: as desired (1 other is not)",
    ]
    assert page(status(MAILER, **FAILED, **LOG), selected=True)[-3:] == [
        "revision 42 failed: mailer.1 ended with exit 78",
        "    no route to host",
        "shop · revision 42 (failed) · mailer: 1 problem",
    ]
    both = page(status(RUNNING_WEB, RUNNING_WEB, others=2, spec_state="invalid"), selected=True)
    assert both[-1] == "shop · revision 42 · 2 watchers: as desired (2 others are not)"


@pytest.mark.parametrize(("culprit", "counts"), [("mailer", False), ("web", True)])
def test_a_paused_revision_is_a_problem_of_its_own_watchers(culprit: str, counts: bool) -> None:
    known = {"outcome": "paused", "reason": f"{culprit}.1 did not stay up", "culprit": culprit}
    lines = page(status(RUNNING_WEB, others=1, **known), selected=True)
    assert any("did not stay up" in line for line in lines) == counts
    assert lines[-1].endswith("1 problem (1 other not as desired)") == counts


def test_a_verdict_shrinks_to_a_line_once_all_is_well() -> None:
    lines = page(status(RUNNING_WEB, **{**FAILED, "culprit": "web"}, **LOG))
    assert "revision 42 failed at first, healthy for 12s" in lines
    assert not any("exit 78" in line or "no route" in line for line in lines)
    assert any("exit 78" in line for line in page(status(RUNNING_WEB, MAILER, **FAILED)))


def test_a_trial_says_when_it_is_over_and_why_not_sooner() -> None:
    def line(**known: object) -> str:
        return page(status(RUNNING_WEB, outcome="pending", **known))[-2]

    due = NOW_NS + 3 * SECOND_NS
    assert line(due_ns=due) == "revision 42 is to be judged in 3s"
    assert line(due_ns=due, reason="web.1 was restarted").endswith("in 3s: web.1 was restarted")
    assert line(reason="it is stopped by alice") == (
        "revision 42 is not judged yet: it is stopped by alice"
    )


def test_a_crash_loop_that_is_up_just_now_is_a_problem() -> None:
    slot = {"slot": 1, "state": "Failing", "since_ns": NOW_NS - SECOND_NS, "pid": 7}
    flap = RUNNING_WEB | {
        "name": "flap",
        "state": "Failing",
        "as_desired": False,
        "note": "8 deaths in a row",
        "slots": [slot],
    }
    lines = page(status(flap))
    assert lines[1].endswith("8 deaths in a row, up for 1s")
    held = flap | {"note": "held back", "slots": [slot | {"state": "Running"}]}
    assert page(status(held))[1].endswith("held back")
    assert lines[-1].endswith("1 problem")


def test_a_job_with_a_schedule_says_when_it_is_fired_next() -> None:
    at = [NOW_NS + (3 * 3600 + 90 + day * 86400) * SECOND_NS for day in range(2)]
    shown = ["2026-12-01 03:00 CET", "2026-12-02 03:00 CET"]
    job = {
        "name": "backup",
        "kind": "job",
        "want": 1,
        "ready": 1,
        "state": "Scheduled",
        "as_desired": True,
        "note": f"next run {shown[0]}; 2026-11-30 03:00 CET was missed (catch_up: skip)",
        "slots": [{"slot": 1, "state": "Scheduled"}],
        "next_runs": [{"at_ns": ns, "shown": text} for ns, text in zip(at, shown, strict=True)],
    }
    lines = page(status(job), 200)
    assert lines[1].endswith(
        "next run 2026-12-01 03:00 CET (in 3h1m); 2026-11-30 03:00 CET was missed (catch_up: skip)"
    )
    assert lines[-1].endswith("all as desired")
    wide = page(status(job), 200, slots=True)
    assert "backup: next runs 2026-12-01 03:00 CET, 2026-12-02 03:00 CET" in wide


def test_the_help_of_status_explains_every_column() -> None:
    from click.testing import CliRunner

    from reconciler.cli.commands.status import status_command

    told = CliRunner().invoke(status_command, ["--help"], prog_name="reconcile").output
    shown = page(SHOP, 200, usage=True, slots=True)
    columns = {word for line in (shown[0], shown[5]) for word in line.split()}
    assert (
        columns - {"WATCHER", "SLOT", "PID", "LAST", "EXIT"} - {*told.replace(",", " ").split()}
        == set()
    )
