"""Claims about what a command is told that runs in the place of a process, and who is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from conftest import job, service, until

from reconciler.controller.api import server
from reconciler.controller.api.auth import Peer, peer_of
from reconciler.model.spec import AccessSpec, DaemonSpec, LimitsSpec, SecretSpec, Spec

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Instance

BOB = 64_102
VALUE = "tr0ub4dor&3"


def wanted(folder: Path, **secrets: SecretSpec) -> Spec:
    fields = {
        "numprocesses": 2,
        "env": {"PORT": "80${slot}", "LANG": None},
        "secrets": secrets,
        "working_dir": str(folder),
        "virtualenv": "/opt/venv",
        "umask": 0o077,
        "limits": LimitsSpec(nofile=100, nice=5),
    }
    watchers = {"web": service(**fields), "mig": job()}
    access = (AccessSpec("admin", user=BOB),)
    return Spec(DaemonSpec(access=access), watchers=watchers)


def test_who_owns_the_manager_is_told_all_that_a_process_gets(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    value = SecretSpec(cmd=("echo", VALUE))
    instance.store(wanted(instance.folder, DB=value))
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    found = client.call("exec", name="web.2", reason="a look")
    env = found.pop("env")
    assert {"RECONCILE_ID", "LANG", "NOTIFY_SOCKET", "LISTEN_FDS"}.isdisjoint(env)
    told = {"PORT", "DB", "PATH", "VIRTUAL_ENV", "RECONCILE_WATCHER", "RECONCILE_SLOT"}
    assert {name: env[name] for name in told} == {
        "PORT": "802",
        "DB": VALUE,
        "PATH": "/opt/venv/bin:/usr/bin",
        "VIRTUAL_ENV": "/opt/venv",
        "RECONCILE_WATCHER": "web",
        "RECONCILE_SLOT": "2",
    }
    assert {
        key: found[key] for key in ("working_dir", "umask", "uid", "gid", "limits", "nice")
    } == {
        "working_dir": str(instance.folder),
        "umask": 0o077,
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "limits": {"nofile": [100, 100]},
        "nice": 5,
    }
    events = client.call("events")["events"]
    (event,) = [each for each in events if each["type"] == "operator.exec"]
    assert (event["watcher"], event["slot"], event["details"]["reason"]) == ("web", 0, "a look")
    assert VALUE not in str(events)


def test_secrets_are_read_for_it_and_what_cannot_be_read_is_said(instance: Instance) -> None:
    unreadable = SecretSpec(cmd=("false",))
    instance.store(wanted(instance.folder, DB=unreadable))
    client = instance.start().client()
    code, message, _ = client.error("exec", name="web.1")
    assert code == "conflict"
    assert message.startswith("cannot read the secret DB: false: exit 1")
    assert client.call("exec", name="mig")["env"]["RECONCILE_SLOT"] == "1"


def test_it_is_for_one_slot_and_nobody_but_the_owner(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(wanted(instance.folder))
    client = instance.start().client()
    assert client.error("exec", name="*")[0] == "invalid_request"
    assert client.error("exec", name="web.3")[0] == "not_found"
    bob = Peer(BOB, 4321, frozenset({BOB}))
    monkeypatch.setattr(server, "peer_of", lambda _: bob)
    other = instance.client()
    until(lambda: other.call("hello")["role"] == "admin")
    monkeypatch.setattr(server, "peer_of", peer_of)
    code, message, details = other.error("exec", name="web")
    assert (code, message) == ("denied", "uid 64102 may not exec: its role is admin")
    assert "only root and the user who started the manager" in details["hint"]
