from __future__ import annotations

from reconciler.core.changes import changes
from reconciler.model.observed import WatcherObserved
from reconciler.model.spec import HookSpec, HooksSpec, StopSpec
from tests.core.stage import spec, watcher


def test_a_plan_shows_what_changed_and_no_secret() -> None:
    def variant(value: str) -> object:
        before_stop = HookSpec(cmd=("notify", "--token", value))
        return watcher(
            cmd=("serve", f"--password={value}", f"--mode={len(value)}"),
            env={"DB_PASSWORD": value, "BROKER": f"amqp://me:{value}@mq", "DEBUG": value[:1]},
            stop=StopSpec(cmd=("ask", "--api-key", value)),
            hooks=HooksSpec(before_stop=before_stop),
            x={"x-auth": {"client-secret": value, "realm": f"realm-{value[:1]}"}},
        )

    old, new = spec(web=variant("hunter2")), spec(web=variant("tr0ub4dor"))  # type: ignore[arg-type]
    (change,) = changes(old, new, lambda _: WatcherObserved())
    shown = {each.field: (each.old, each.new) for each in change.fields}
    assert "hunter2" not in str(change) and "tr0ub4dor" not in str(change)
    assert shown["cmd"][0] == "serve --password=(hidden) --mode=7"
    assert shown["env.DB_PASSWORD"] == ("(hidden)", "(hidden)")
    assert shown["env.BROKER"][1] == "amqp://me:(hidden)@mq"
    assert shown["env.DEBUG"] == ("h", "t")
    assert "realm-t" in shown["x"][1]
