"""Claims about files that go to somebody with a name: the keeper gets numbers, and nobody waits for them."""

from __future__ import annotations

import pwd
import threading
from collections import deque

import pytest
from conftest import raised

from reconciler.controller.runtime.accounts import LogOwners, SocketOwners
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.action import Bind, Unbind
from reconciler.model.address import UnixAddress
from reconciler.model.observation import AccountsFound
from reconciler.model.socket import FileOwner, SocketTemplate
from reconciler.model.spec import LogsSpec, Spec, WatcherSpec
from reconciler.model.value import replace


class Desk:
    """Owners in a loop of their own, and what they have sent on."""

    def __init__(self) -> None:
        self.sent: list[Bind | Unbind] = []
        self.reactor = Reactor(raised)
        lanes = Lanes(self.reactor, lambda _, error: str(error))
        self.owners = SocketOwners(lanes, self.sent.append)

    def act(self, *actions: Bind | Unbind) -> None:
        ready = map(self.owners.ready, actions)
        self.sent += [each for each in ready if each is not None]

    def until(self, count: int) -> None:
        while len(self.sent) < count:
            self.reactor.wait(None)


class LogDesk:
    """Owners of log files in a loop of their own, what the core was told, and what people were."""

    def __init__(self) -> None:
        self.fed: list[AccountsFound] = []
        self.told: list[str] = []
        self.reactor = Reactor(raised)
        lanes = Lanes(self.reactor, lambda _, error: str(error))
        tell = lambda event: self.told.append(event.message)  # noqa: E731
        self.owners = LogOwners(lanes, self.reactor, self.fed.append, tell)

    def follow(self, **logs: LogsSpec) -> None:
        watchers = {name: WatcherSpec(cmd=("x",), logs=each) for name, each in logs.items()}
        self.owners.follow(Spec(watchers=watchers))

    def until(self, fed: int = 0, told: int = 0) -> None:
        while (len(self.fed), len(self.told)) < (fed, told):
            self.reactor.wait(None)


def test_names_of_owners_of_logs_become_facts_and_unknown_ones_are_told_once() -> None:
    desk = LogDesk()
    named = LogsSpec(owner="root", group="no-such-group")
    desk.follow(web=named, api=LogsSpec(owner=7, group="8"))
    desk.until(fed=1, told=1)
    desk.follow(web=named)
    desk.follow()
    desk.until(fed=2)
    assert desk.fed == [AccountsFound({"root": 0}, {}), AccountsFound({}, {})]
    assert desk.told == ["log files keep their owner: unknown group 'no-such-group'"]


def test_where_only_numbers_are_named_nobody_is_asked() -> None:
    desk = LogDesk()
    desk.follow(web=LogsSpec(), api=LogsSpec(owner=7, group="8"))
    assert (desk.owners.lanes._under_way, desk.fed) == (deque(), [])


@pytest.fixture
def desk() -> Desk:
    return Desk()


def bind(name: str = "app", owner: str | int | None = None, group: str | int | None = None) -> Bind:
    return Bind(name, SocketTemplate(UnixAddress("/run/app.sock"), owner=owner, group=group))


def test_names_reach_the_keeper_as_numbers(desk: Desk) -> None:
    asked = bind(owner="root", group="root")
    desk.act(asked)
    assert desk.sent == []
    desk.until(1)
    assert desk.sent == [replace(asked, owner=FileOwner(0, 0))]


@pytest.mark.parametrize(
    ("asked", "owner"),
    [
        (bind(), FileOwner()),
        (bind(owner=7), FileOwner(7, -1)),
        (bind(owner="7", group=8), FileOwner(7, 8)),
        (bind(owner="9" * 5000), FileOwner(problem=f"there can be no user {'9' * 64}…")),
        (bind(group=2**32 - 1), FileOwner(problem="there can be no group 4294967295")),
    ],
)
def test_numbers_are_sent_at_once(desk: Desk, asked: Bind, owner: FileOwner) -> None:
    desk.act(asked)
    assert desk.sent == [replace(asked, owner=owner)]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (bind(owner="no-such-user", group=7), "unknown user 'no-such-user'"),
        (bind(owner=7, group="no-such-group"), "unknown group 'no-such-group'"),
        (bind(owner="a\0b"), "unknown user 'a\\x00b'"),
    ],
)
def test_a_name_that_nobody_has_goes_on_as_the_reason(
    desk: Desk, asked: Bind, problem: str
) -> None:
    desk.act(asked)
    desk.until(1)
    assert desk.sent == [replace(asked, owner=FileOwner(problem=problem))]


def test_a_look_up_that_fails_is_told_as_that(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pwd, "getpwnam", refuse)
    desk.act(bind(owner="root"))
    desk.until(1)
    (sent,) = desk.sent
    assert isinstance(sent, Bind)
    assert sent.owner.problem == "cannot look up its owner or group: too many open files"


def test_a_name_that_is_waited_for_holds_up_no_other_socket_and_the_last_wish_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def wait(name: str) -> pwd.struct_passwd:
        assert goes_on.wait(20)
        return pwd.getpwuid(0)

    monkeypatch.setattr(pwd, "getpwnam", wait)
    first, second = (
        replace(bind(owner="root"), template=bind(owner=name).template) for name in "ab"
    )
    gone, other = bind("gone", owner="root"), bind("other")
    desk.act(first, gone, other, second, Unbind("gone"))
    assert desk.sent == [other, Unbind("gone")]
    goes_on.set()
    desk.until(3)
    last = bind("last", owner="root")  # behind all that waited
    desk.act(last)
    desk.until(4)
    mine = FileOwner(uid=0)
    assert desk.sent[2:] == [replace(second, owner=mine), replace(last, owner=mine)]
