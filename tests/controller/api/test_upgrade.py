"""Claims about the method that replaces the manager's code; the keeper's part is in tests/keeper."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reconciler.model.action import Upgrade
from tests.controller.conftest import Client, Instance, by_hand, service
from tests.controller.paper_keeper import PaperKeeper


@pytest.fixture
def client(instance: Instance) -> Client:
    instance.store(by_hand(web=service()))
    return instance.start().client()


def test_a_version_that_starts_is_given_to_the_keeper(instance: Instance, client: Client) -> None:
    code, message, *_ = client.error("upgrade", number=1, python=sys.executable, reason="new")
    assert (code, message) == (
        "conflict",
        f"cannot upgrade: cannot become {sys.executable} on paper",
    )
    assert Upgrade(sys.executable) in instance.keeper.actions
    (event,) = (e for e in client.call("events")["events"] if e["type"] == "operator.upgrade")
    assert event["details"]["reason"] == "new"


@pytest.mark.parametrize(
    ("python", "cause"),
    [
        ("/no/such/python", "cannot execute /no/such/python: no such file or directory"),
        ("/bin/true", "/bin/true: it is no Python that has reconcile"),
        ("/bin/echo", "/bin/echo: it is no Python that has reconcile"),
    ],
)
def test_what_does_not_start_is_refused_before_anything_changes(
    instance: Instance, client: Client, python: str, cause: str
) -> None:
    code, message = client.error("upgrade", python=python)[:2]
    assert (code, message) == ("conflict", f"cannot upgrade: {cause}")
    assert not any(isinstance(action, Upgrade) for action in instance.keeper.actions)


def test_a_version_that_breaks_while_it_is_imported_says_why(
    instance: Instance, client: Client, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text(
        "#!/bin/sh\necho 'Traceback' >&2\necho 'ModuleNotFoundError: msgpack' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    message = client.error("upgrade", python=str(broken))[1]
    assert message == f"cannot upgrade: {broken}: ModuleNotFoundError: msgpack"


def test_a_relative_path_is_refused(client: Client) -> None:
    assert client.error("upgrade", python="python3")[0] == "invalid_request"


def test_an_upgrade_that_has_happened_is_not_made_again(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    client = instance.start(PaperKeeper(upgrades=2)).client()
    answer = client.call("upgrade", number=2, python=sys.executable)
    assert (answer["keeper_pid"], answer["upgrades"]) == (4242, 2)
    assert not any(isinstance(action, Upgrade) for action in instance.keeper.actions)
    assert client.error("upgrade", number=3)[0] == "conflict"
    assert any(isinstance(action, Upgrade) for action in instance.keeper.actions)
