"""Every field of a watcher is told in the words of a spec, and no secret is."""

from __future__ import annotations

from reconciler.core.notation import options
from reconciler.model.spec import SecretSpec, StopSpec
from reconciler.model.units import SECOND_NS
from tests.core.stage import watcher


def test_what_is_in_force_of_a_watcher_is_told_field_by_field() -> None:
    spec = watcher(
        cmd=("serve", "--password", "hunter2", "x" * 100),
        env={"PORT": "80", "GONE": None, "DB_PASSWORD": "hunter2"},
        umask=0o22,
        stop=StopSpec(timeout=5 * SECOND_NS),
        secrets={"KEY": SecretSpec(cmd=("vault", "get"))},
        numprocesses_formula="cpus*2",
        numprocesses=4,
    )
    found = {each.field: each for each in options(spec)}
    assert {name: each.value for name, each in found.items() if not each.is_default} == {
        "cmd": f"serve --password (hidden) {'x' * 100}",
        "env.DB_PASSWORD": "(hidden)",
        "env.GONE": "null",
        "env.PORT": "80",
        "umask": "0022",
        "stop.timeout": "5s",
        "secrets": "{KEY: {cmd: vault get}}",
        "numprocesses": "cpus*2 = 4",
    }
    assert (found["backoff.factor"].value, found["stop.signal"].value) == ("2", "TERM")
    assert (found["stop.timeout"].effect, found["umask"].effect) == ("live", "restart")
