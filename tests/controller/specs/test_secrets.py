"""Secrets are read when they are needed, again when they change, and end up in launches and nowhere else."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Instance, raised, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.runtime import clock, inbox
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.controller.specs.secrets import (
    KEY_FILE,
    MAX_SECRET_BYTES,
    Secrets,
    Unreadable,
    read_file,
)
from reconciler.controller.state.store import Store
from reconciler.model.action import Spawn
from reconciler.model.observation import (
    Observation,
    OrphansChanged,
    SecretsRead,
)
from reconciler.model.process import Launch, Memory, ProcessId
from reconciler.model.spec import ApplySpec, SecretSpec, Spec
from reconciler.model.value import replace

VALUE = "tr0ub4dor&3"


def by_hand(secrets: dict[str, SecretSpec], *, auto: bool = False, **fields: Any) -> Spec:
    watchers = {"web": service(secrets=secrets, **fields)}
    return Spec(watchers=watchers, apply=ApplySpec(auto=auto, quiet_period=10_000_000))


def spawned(instance: Instance) -> list[str | None]:
    """Return what DB was in the environment of each process that was started."""
    return [a.launch.env.get("DB") for a in instance.keeper.actions if isinstance(a, Spawn)]


def file_secret(folder: Path, text: str = VALUE) -> dict[str, SecretSpec]:
    path = folder / "db.secret"
    path.write_text(text + "\n")
    return {"DB": SecretSpec(file=str(path))}


def command_secret(folder: Path, text: str = VALUE) -> dict[str, SecretSpec]:
    """A command that notes each of its runs."""
    (folder / "value").write_text(text + "\n")
    return {"DB": SecretSpec(cmd=("sh", "-c", "echo >>runs; cat value"), working_dir=str(folder))}


def runs(folder: Path) -> int:
    path = folder / "runs"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("kind", [file_secret, command_secret])
def test_a_process_gets_the_value_and_nothing_else_does(instance: Instance, kind: Any) -> None:
    instance.store(by_hand(kind(instance.folder)))
    instance.start()
    until(lambda: spawned(instance) == [VALUE])
    client = instance.client()
    until(lambda: client.call("status")["settled"])
    told = [client.call("status"), client.call("events")]
    instance.keeper.close()
    instance.join()
    kept = [
        p
        for p in instance.folder.rglob("*")
        if p.is_file() and p.name not in {"value", "db.secret"}
    ]
    assert {"controller.log", "state.db", KEY_FILE} <= {path.name for path in kept}
    assert VALUE not in str(told)
    assert [p.name for p in kept if VALUE.encode() in p.read_bytes()] == []
    assert stat.S_IMODE((instance.folder / KEY_FILE).stat().st_mode) == 0o600


def test_a_changed_file_is_noticed_and_means_other_processes(instance: Instance) -> None:
    instance.store(by_hand(file_secret(instance.folder), auto=True))
    instance.spec_file.parent.mkdir()
    instance.start()
    until(lambda: spawned(instance) == [VALUE])
    beside = instance.folder / "new"
    beside.write_text("other\n")
    beside.replace(instance.folder / "db.secret")
    until(lambda: spawned(instance) == [VALUE, "other"])
    events = instance.client().call("events")["events"]
    assert [e["message"] for e in events if e["type"] == "secrets.changed"] == [
        "web: a secret has changed"
    ]


def test_a_start_under_the_former_spec_has_its_value_however_long_the_queue(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new spec, which has no secret, waits behind a death that the core has not heard of."""
    monkeypatch.setattr(inbox, "OBSERVATIONS_PER_ROUND", 1)
    instance.store(by_hand(file_secret(instance.folder)))
    instance.start()
    until(lambda: spawned(instance) == [VALUE])
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text("apply: {auto: false}\nwatchers: {web: {cmd: [sleep, '1000']}}\n")
    client = instance.client()
    instance.keeper.tell(*[OrphansChanged()] * 30_000)
    instance.keeper.exit(ProcessId("web", 1), 1)
    client.call("apply")
    until(lambda: len(spawned(instance)) >= 2)
    assert spawned(instance)[:2] == [VALUE, VALUE]


def test_a_new_controller_runs_no_command_until_a_process_needs_it(instance: Instance) -> None:
    spec = by_hand(command_secret(instance.folder))
    instance.store(spec)
    instance.start()
    until(lambda: spawned(instance) == [VALUE])
    records = tuple(instance.keeper.records.values())
    instance.stop()
    again = Instance(instance.folder)
    try:
        again.start(PaperKeeper(records))
        client = again.client()
        until(lambda: client.call("status")["settled"])
        assert (runs(instance.folder), spawned(again)) == (1, [])
        again.keeper.exit(ProcessId("web", 1), 1)
        until(lambda: spawned(again) == [VALUE])
        assert runs(instance.folder) == 2
    finally:
        again.stop()
        instance._thread = None


def test_a_secret_that_cannot_be_read_is_told_and_waited_for(instance: Instance) -> None:
    secrets = {"DB": SecretSpec(cmd=("sh", "-c", "echo hunter2 >&2; echo hunter2; exit 3"))}
    instance.store(by_hand(secrets))
    instance.start()
    client = instance.client()
    status = until(
        lambda: (s := client.call("status")["watchers"][0]) and "exit 3" in s["note"] and s
    )
    assert status["state"] == "Waiting"
    assert status["note"].startswith(
        "cannot read the secret DB: sh: exit 3 (it runs as the manager does"
    )
    assert "hunter2" not in str(client.call("events"))
    assert spawned(instance) == []


def test_a_command_that_there_is_not_is_told(instance: Instance) -> None:
    instance.store(by_hand({"DB": SecretSpec(cmd=("/nowhere/at/all",))}))
    instance.start()
    client = instance.client()
    told = "/nowhere/at/all: cannot be run: no such file or directory"
    until(lambda: told in client.call("status")["watchers"][0]["note"])


def test_a_command_ends_at_its_time_and_with_all_that_it_started(instance: Instance) -> None:
    mark = str(instance.folder)
    script = 'sleep 1000 & echo $! >"$0/child"; sleep 1000'
    secret = SecretSpec(cmd=("sh", "-c", script, mark), timeout=300_000_000)
    instance.store(by_hand({"DB": secret}))
    instance.start()
    client = instance.client()
    until(lambda: "took longer than 300ms" in client.call("status")["watchers"][0]["note"])
    child = int((instance.folder / "child").read_text())
    until(
        lambda: (
            not os.path.exists(f"/proc/{child}")
            or "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]
        )
    )


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "it is empty"), (b"\n", "it is empty"), (b"a\0b", "NUL byte"), (b"\xff", "not UTF-8"),
        (b"x" * (MAX_SECRET_BYTES + 1), f"longer than {MAX_SECRET_BYTES} bytes"), (None, "no such file"),
    ],
)  # fmt: skip
def test_a_file_without_a_value_is_said_so(tmp_path: Path, data: bytes | None, cause: str) -> None:
    path = tmp_path / "secret"
    if data is not None:
        path.write_bytes(data)
    found = read_file(str(path))
    assert isinstance(found, Unreadable)
    assert found.cause.startswith(f"{path}: ") and cause in found.cause


def test_a_fifo_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        assert "not a regular file" in getattr(read_file(str(path)), "cause", "")


def test_a_value_is_not_in_its_own_description(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(VALUE)
    assert VALUE not in repr(read_file(str(tmp_path / "secret")))


def test_the_store_keeps_sources_not_values(instance: Instance) -> None:
    instance.store(by_hand(file_secret(instance.folder)))
    store = Store(str(instance.folder))
    applied = store.read(lambda _: None).applied
    store.close()
    assert applied is not None
    assert applied.spec.watchers["web"].secrets == {
        "DB": SecretSpec(file=str(instance.folder / "db.secret"))
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a file of somebody else")
def test_root_takes_no_secret_from_a_file_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECONCILE_ALLOW_WRITABLE_SPECS", raising=False)
    path = tmp_path / "secret"
    path.write_text("hunter2")
    assert read_file(str(path)).text == "hunter2"
    os.chown(path, 12347, -1)
    assert "belongs to uid 12347" in read_file(str(path)).cause
    monkeypatch.setenv("RECONCILE_ALLOW_WRITABLE_SPECS", "1")
    assert read_file(str(path)).text == "hunter2"


class Vault:
    """Secrets in a loop of their own, at a time that we set, and what the core was told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.ahead_ns = folder, 0
        self.fed: list[Observation] = []
        monkeypatch.setattr(clock, "now_ns", lambda: time.monotonic_ns() + self.ahead_ns)
        self.reactor = Reactor(raised)
        self.lanes = Lanes(self.reactor, lambda _, error: str(error))
        self.secrets = self.begin()

    def begin(self) -> Secrets:
        self.secrets = Secrets(
            str(self.folder), self.reactor, self.lanes, self.fed.append, lambda: 0, lambda: None
        )
        return self.secrets

    def until(self, count: int) -> list[Observation]:
        while len(self.fed) < count:
            self.reactor.wait(None)
        return self.fed

    def pass_(self, seconds: float) -> None:
        """Let time pass, and all begin that is due by then."""
        self.ahead_ns += int(seconds * 1e9)
        self.reactor.wait(clock.now_ns())

    def digests(self) -> list[str]:
        """Return what the core was told of: values as letters, and what could not be read."""
        known: dict[str, str] = {}
        for each in self.fed:
            if isinstance(each, SecretsRead):
                known.setdefault(each.digest, "abc"[len(known)])
        return [known.get(getattr(each, "digest", ""), "-") for each in self.fed]


def test_a_command_is_run_again_when_its_time_comes_and_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path, monkeypatch)
    (tmp_path / "other").mkdir()
    often = replace(command_secret(tmp_path)["DB"], refresh=3600 * 10**9)
    once = command_secret(tmp_path / "other")["DB"]
    watchers = {"web": service(secrets={"DB": often, "ONCE": once})}
    vault.secrets.follow(Spec(watchers=watchers))
    vault.until(1)
    vault.pass_(3600 * 0.9 - 5)
    assert (runs(tmp_path), runs(tmp_path / "other")) == (1, 1)
    vault.pass_(3600 * 0.1 + 5)
    vault.until(2)
    (tmp_path / "value").write_text("other\n")
    vault.pass_(3600)
    vault.until(3)
    assert (runs(tmp_path), runs(tmp_path / "other")) == (3, 1)
    assert vault.digests() == ["a", "a", "b"]
    launch = Launch(("x",), env={})
    action = Spawn(ProcessId("web", 1), launch, "", Memory())
    assert vault.secrets.filled(action).launch.env == {"DB": "other", "ONCE": VALUE}
    vault.secrets.follow(Spec())
    vault.pass_(7200)
    assert runs(tmp_path) == 3


def test_a_reading_in_vain_keeps_the_value_and_is_tried_again_at_growing_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path, monkeypatch)
    often = replace(command_secret(tmp_path)["DB"], refresh=3600 * 10**9)
    vault.secrets.follow(Spec(watchers={"web": service(secrets={"DB": often})}))
    vault.until(1)
    (tmp_path / "value").unlink()
    waits = (3600, 1, 2, 4, 8)
    for number, seconds in enumerate(waits, 2):
        vault.pass_(seconds - 0.5 if number > 2 else seconds)
        assert len(vault.fed) == number - 1
        vault.pass_(0.5)
        vault.until(number)
    action = Spawn(ProcessId("web", 1), Launch(("x",), env={}), "", Memory())
    assert vault.secrets.filled(action).launch.env == {"DB": VALUE}
    (tmp_path / "value").write_text(VALUE)
    vault.pass_(16)
    vault.until(len(waits) + 2)
    assert vault.digests() == ["a", *"-----", "a"]
    vault.pass_(3600 * 0.9 - 5)
    assert runs(tmp_path) == len(waits) + 2, "and then in its usual time"


def test_a_new_controller_reads_at_once_what_is_read_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path, monkeypatch)
    often = replace(command_secret(tmp_path)["DB"], refresh=3600 * 10**9)
    spec = Spec(watchers={"web": service(secrets={"DB": often})})
    for number in (1, 2):
        vault.begin().follow(spec)
        vault.until(number)
    assert (vault.digests(), runs(tmp_path)) == (["a", "a"], 2)
