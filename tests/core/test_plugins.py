"""Plugins run like other watchers, and are told where their manager is."""

from __future__ import annotations

from reconciler.core.changes import changes
from reconciler.core.template import run_hash
from reconciler.model.action import Spawn
from reconciler.model.observed import WatcherObserved
from reconciler.model.spec import PluginAccess
from tests.core.stage import FACTS, Stage, spec, watcher

VIEW, OPERATE = PluginAccess("view"), PluginAccess("operate")


def test_a_plugin_gets_the_control_socket_and_no_other_process_does() -> None:
    stage = Stage().apply(spec(stats=watcher(access=VIEW), web=watcher()))
    env = {a.id.owner: a.launch.env for _, a in stage.history if isinstance(a, Spawn)}
    assert env["stats"] == {"RECONCILE_CONTROL_SOCKET": "/run/control.sock"}
    assert env["web"] == {}
    assert [stage.status(name).kind for name in ("stats", "web")] == ["plugin", "service"]


def test_other_rights_replace_nobody_and_becoming_a_plugin_does() -> None:
    stage = Stage().apply(spec(stats=watcher(access=VIEW))).wait(10)
    before = stage.pid("stats.1")
    edited = spec(stats=watcher(access=OPERATE))
    (change,) = changes(stage.reconciler.spec, edited, stage.reconciler.observed, FACTS)
    assert (change.how, change.message) == ("live", "access.role changed: in place")
    assert stage.apply(edited).wait(10).pid("stats.1") == before
    plain = spec(stats=watcher())
    (change,) = changes(stage.reconciler.spec, plain, lambda _: WatcherObserved(), FACTS)
    assert change.message == "replaced now: access changed"
    assert stage.apply(plain).wait(10).pid("stats.1") != before
    assert run_hash(watcher(), {}) == run_hash(watcher(access=None), {})
