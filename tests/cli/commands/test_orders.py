from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.cli.main import main
from tests.cli.answers import MAILER, status
from tests.cli.manager import Manager, Stream


@pytest.mark.parametrize(
    ("line", "method", "params"),
    [
        ("start web --no-wait", "start", {"names": ["web"]}),
        (
            "stop web --no-wait --reason disk",
            "stop",
            {"names": ["web"], "reason": "disk"},
        ),
        ("restart web.2 --all --no-wait", "restart", {"names": ["web.2"], "at_once": True}),
        ("reload -l team=shop --no-wait", "reload", {"labels": {"team": "shop"}}),
        (
            "stop web --for 2h --no-wait",
            "stop",
            {"names": ["web"], "for_ns": 7200 * 10**9},
        ),
        (
            "start web --for 90 --reason test --no-wait",
            "start",
            {"names": ["web"], "for_ns": 90 * 10**9, "reason": "test"},
        ),
        (
            "scale web=4 --for 1m --no-wait",
            "scale",
            {"scale": {"web": 4}, "for_ns": 60 * 10**9},
        ),
        ("resume web --no-wait", "resume", {"names": ["web"]}),
        (
            "signal sigusr1 web api --timeout 5s",
            "signal",
            {"signal": "USR1", "names": ["web", "api"], "timeout_ns": 5 * 10**9},
        ),
        ("scale web=4 api=spec --no-wait", "scale", {"scale": {"web": 4, "api": None}}),
        (
            "scale web=+4 api=-1 db=2 --no-wait",
            "scale",
            {"scale": {"db": 2}, "by": {"web": 4, "api": -1}},
        ),
        ("incr web --no-wait", "scale", {"by": {"web": 1}}),
        ("decr web 3 --for 1m --no-wait", "scale", {"by": {"web": -3}, "for_ns": 60 * 10**9}),
        (
            "rerun report --failed --overlap replace --require-all",
            "rerun",
            {"names": ["report"], "failed": True, "overlap": "replace", "require_all": True},
        ),
    ],
)
def test_an_operation_asks_for_what_was_said(
    manager: Manager, line: str, method: str, params: dict[str, object]
) -> None:
    manager.answers[method] = {"results": [{"name": "web", "message": "done"}]}

    assert main(line.split()) == 0
    assert manager.asked(method) == [params]


UP = {"name": "web", "kind": "up"}


def restarting(manager: Manager, *steps: Mapping[str, object]) -> None:
    manager.answers |= {
        "restart": {
            "results": [
                {"name": "web", "message": "replaces its processes one by one", "goal": UP},
                {"name": "api", "message": "nothing to wait for"},
            ]
        },
        "orders.follow": Stream("progress", steps),
        "status": status(MAILER),
    }


def test_an_operation_waits_until_it_has_come_about(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    rolling = {"waiting": [{"name": "web", "state": "Rolling"}]}
    restarting(manager, rolling, {"converged": True, "done": True})

    assert main(["restart", "we*"]) == 0
    assert manager.asked("restart") == [{"names": ["we*"]}]
    assert manager.asked("orders.follow") == [{"goals": [UP]}]
    assert capsys.readouterr().out.splitlines() == [
        "web: replaces its processes one by one",
        "api: nothing to wait for",
        "waiting for web: Rolling",
    ]


def test_an_operation_that_does_not_come_about_says_so(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    restarting(manager)
    manager.answers["orders.follow"] = {"stream": 1}

    assert main(["restart", "web", "--timeout", "100ms"]) == 5
    assert main(["restart", "web", "--timeout", "100ms", "-o", "json"]) == 5
    assert '"done": false' in capsys.readouterr().out


def test_many_goals_are_waited_for_in_parts(manager: Manager) -> None:
    restarting(manager, {"converged": True, "done": True})
    results = [{"name": f"w{n}", "goal": {"name": f"w{n}", "kind": "up"}} for n in range(700)]
    manager.answers["restart"] = {"results": results}

    assert main(["restart", "w*"]) == 0
    asked = manager.asked("orders.follow")
    assert [len(each["goals"]) for each in asked] == [500, 200]  # type: ignore[arg-type]  # lists


def test_an_order_that_fails_says_why_and_exits_with_3(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [{"name": "mailer", "message": "slot 1: failed: exit 7"}]
    restarting(manager, {"failed": failed, "done": True})

    assert main(["restart", "web"]) == 3
    assert "mailer: slot 1: failed: exit 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("taken", "code"),
    [
        (("accepted",), 0),
        (("accepted", "skipped"), 0),
        (("skipped", "skipped"), 1),
        (("accepted", "refused"), 1),
    ],
)
def test_an_order_that_does_nothing_of_what_was_asked_does_not_exit_with_0(
    manager: Manager, taken: tuple[str, ...], code: int
) -> None:
    results = [{"name": "web", "message": "words", "taken": each} for each in taken]
    for method in ("stop", "signal", "scale", "rerun"):
        manager.answers[method] = {"results": results}

    assert main(["stop", "w*"]) == code
    assert main(["signal", "HUP", "w*"]) == code
    assert main(["scale", "w*=2"]) == code
    assert main(["rerun", "w*"]) == code


def test_a_rerun_that_requires_all_tells_by_its_exit_code_what_still_ran(manager: Manager) -> None:
    running = {"name": "report", "generation": 4, "fired": [1], "running": [{"slot": 2, "pid": 7}]}
    manager.answers["rerun"] = {"results": [running]}

    assert main(["rerun", "report"]) == 0
    assert main(["rerun", "report", "--require-all"]) == 3


def test_a_signal_by_number_is_told_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signal", "9", "web"]) == 64
    assert "found '9'; write: KILL" in capsys.readouterr().err
