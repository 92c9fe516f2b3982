from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.cli.connection import places
from reconciler.cli.main import main
from reconciler.model.errors import RequestError
from tests.cli.answers import REMOVE_OLD, REPLACE_WEB, RUNNING_WEB, applying, refusing, status
from tests.cli.manager import Manager
from tests.cli.on_terminal import on_terminal


@pytest.mark.parametrize(("changes", "code"), [([], 0), ([REPLACE_WEB], 2)])
def test_plan_tells_by_its_exit_code_whether_there_are_changes(
    manager: Manager, changes: list[object], code: int
) -> None:
    manager.answers["plan"] = {"revision": 42, "changes": changes}

    assert main(["plan"]) == code


def test_mistakes_of_a_plan_are_shown_with_their_places(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = {
        "path": "/x/a.yaml",
        "line": 2,
        "column": 3,
        "message": "unknown field",
        "excerpt": "  a: 1\n  ^",
    }
    error = RequestError("invalid_spec", "cannot plan: 1 mistake", details={"errors": [mistake]})
    manager.answers["plan"] = refusing(error)

    assert main(["plan"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "/x/a.yaml:2:3: unknown field",
        "      a: 1",
        "      ^",
        "reconcile: 1 mistake in the spec; nothing was changed",
    ]


def test_plan_without_a_manager_shows_what_would_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reconcile.yaml").write_text("watchers: {web: {cmd: sleep 1000}}\n")
    monkeypatch.chdir(tmp_path)

    assert main(["plan"]) == 2
    planned = capsys.readouterr().out
    assert main(["apply", "--dry-run"]) == 0
    assert planned == capsys.readouterr().out == "+ web  new\n1 to create\n"
    assert main(["apply", "--dry-run", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [change["name"] for change in document.pop("changes")] == ["web"]
    assert document == {"revision": 0, "drift": [], "applied": False}


def test_apply_shows_the_plan_then_waits(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"waiting": [{"name": "web", "state": "Rolling", "note": "slot 2: starting"}]}
    applying(manager, waiting, {"converged": True, "done": True}, changes=[REPLACE_WEB])

    assert main(["apply"]) == 0
    assert manager.asked("apply") == [{"dry_run": True}, {"base": 43}]
    assert manager.asked("apply.follow") == [{"revision": 43}]
    assert capsys.readouterr().out.splitlines() == [
        "~ web  env.A changed (slots 1-2)",
        "1 to replace",
        "waiting for web: Rolling: slot 2: starting",
        "shop · revision 42 · 1 watcher, 2 processes · all as desired",
    ]


def test_apply_stays_with_the_manager_whose_plan_it_showed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.ExitStack() as managers:
        runtime_dir = os.path.join(places.runtime_root(), "shop")
        shop = managers.enter_context(Manager(runtime_dir, hello={"name": "shop"}))
        applying(shop, {"converged": True, "done": True}, changes=[REPLACE_WEB])
        planned = shop.answers["apply"]

        def plan(params: Mapping[str, object]) -> object:
            other = os.path.join(places.runtime_root(), "other")
            if not os.path.exists(other):
                managers.enter_context(Manager(other, hello={"name": "other"}))
            return planned(params) if callable(planned) else planned

        shop.answers["apply"] = plan
        assert main(["apply"]) == 0
        assert shop.asked("apply") == [{"dry_run": True}, {"base": 43}]
    assert "all as desired" in capsys.readouterr().out


def test_apply_ends_when_all_that_is_left_has_failed_for_good(manager: Manager) -> None:
    applying(manager, {"waiting": [{"name": "web", "state": "Failed"}]}, changes=[REPLACE_WEB])

    assert main(["apply"]) == 3


def test_apply_ends_when_all_that_is_left_waits_for_what_has_failed(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = {"name": "web", "state": "Waiting", "stuck": True}
    left = [{"name": "mig", "state": "Failed"}, waits]
    applying(manager, {"waiting": left, "remaining": 2}, changes=[REPLACE_WEB])

    assert main(["apply"]) == 3
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "failed permanently, or waits for what has; edit the spec or restart it by hand"


def test_apply_times_out(manager: Manager) -> None:
    applying(manager, changes=[])
    manager.answers["apply.follow"] = {"stream": 1}

    assert main(["apply", "--timeout", "0.1s"]) == 5


def test_a_dry_run_changes_nothing(manager: Manager) -> None:
    applying(manager, changes=[REPLACE_WEB])

    assert main(["apply", "--dry-run"]) == 0
    assert manager.asked("apply") == [{"dry_run": True}]


def test_apply_passes_its_options_on(manager: Manager, tmp_path: Path) -> None:
    applying(manager, changes=[])
    spec = tmp_path / "other.yaml"
    spec.write_text("watchers: {}\n")
    options = ["--only", "web", "--allow-removal", "--replace-source", "--no-wait"]

    assert main(["apply", str(spec), *options]) == 0
    assert manager.asked("apply")[1] == {
        "source": [str(spec)],
        "only": ["web"],
        "allow_removal": True,
        "replace_source": True,
        "base": 43,
    }


def test_apply_continue_is_passed_on_and_ends_with_the_verdict(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = {"outcome": "paused", "reason": "web.1 ended with exit 3 after 1s"}
    applying(manager, {"done": True, "remaining": 1, **verdict}, changes=[])

    assert main(["apply", "--continue"]) == 3
    assert manager.asked("apply")[1] == {"continue": True, "base": 43}
    assert capsys.readouterr().out.splitlines()[-1] == "paused: web.1 ended with exit 3 after 1s"


def test_without_a_terminal_nothing_is_removed_unless_yes_is_said(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    removal = {"kind": "watcher", "name": "old", "how": "remove", "message": "removed"}
    applying(manager, {"converged": True, "done": True}, changes=[removal])
    manager.answers["rollback"] = manager.answers["apply"]

    assert main(["apply"]) == 1
    assert main(["rollback"]) == 1
    assert manager.asked("apply") == [{"dry_run": True}]
    assert capsys.readouterr().err.count("--yes") == 2
    assert main(["apply", "--yes", "--only", "old"]) == 0
    assert manager.asked("apply.follow") == [{"revision": 43, "names": ["old"]}]


def test_apply_waits_for_the_runs_of_jobs_where_that_is_wanted(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[])
    fires = {**RUNNING_WEB, "kind": "job"}
    manager.answers["status"] = status(fires)

    assert main(["apply", "--wait-jobs"]) == 0
    assert manager.asked("apply.follow") == [{"revision": 43, "runs": True}]
    assert capsys.readouterr().out.splitlines()[-1].endswith("all as desired, 1 job still running")


def test_apply_asks_before_it_removes_something(manager: Manager) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[REMOVE_OLD])

    shown, code = on_terminal("apply", keys=b"n\n")

    assert "remove old? [y/N]: " in shown
    assert (code, manager.asked("apply")) == (1, [{"dry_run": True}])


def test_apply_goes_on_after_a_yes(manager: Manager) -> None:
    applying(manager, {"converged": True, "done": True}, changes=[REMOVE_OLD])

    assert on_terminal("apply", keys=b"y\n")[1] == 0
    assert len(manager.asked("apply")) == 2
