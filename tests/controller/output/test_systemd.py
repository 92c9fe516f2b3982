"""Claims about what is said to systemd: when, in which order, and nothing to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conftest import by_hand, service, until
from paper_keeper import PaperKeeper

from reconciler.model.action import Bind, Notify
from reconciler.model.address import InternetAddress
from reconciler.model.observation import HeartbeatAsked, SignalReceived
from reconciler.model.process import ProcessId
from reconciler.model.spec import ApplySpec, SocketSpec, Spec

if TYPE_CHECKING:
    from conftest import Instance

ALL_WANTED = "revision 1: all as desired; the spec is missing"
WEB = ProcessId("web", 1)


def test_it_is_ready_once_and_after_its_sockets_are_bound(instance: Instance) -> None:
    web = service(use_sockets=("http",))
    http = SocketSpec(InternetAddress("127.0.0.1", 80))
    instance.store(Spec(watchers={"web": web}, sockets={"http": http}, apply=ApplySpec(auto=False)))
    keeper = PaperKeeper(notifies=True)
    instance.start(keeper)
    until(lambda: f"STATUS={ALL_WANTED}" in keeper.notified())
    said = [action for action in keeper.actions if isinstance(action, Bind | Notify)]
    kinds = [type(each).__name__ for each in said if each != Notify("WATCHDOG=1")]
    assert kinds[:2] == ["Bind", "Notify"]
    assert [text for text in keeper.notified() if "READY=1" in text] == ["READY=1"]


def test_the_sentence_names_what_is_not_as_desired_and_follows_it(instance: Instance) -> None:
    instance.store(by_hand(web=service(), db=service()))
    keeper = PaperKeeper(notifies=True)
    instance.start(keeper)
    until(lambda: f"STATUS={ALL_WANTED}" in keeper.notified())
    client = instance.client()
    keeper.stubborn.add("web")
    client.call("restart", names=["web"])
    until(
        lambda: "STATUS=revision 1: 1 not as desired: web; the spec is missing" in keeper.notified()
    )
    keeper.exit(WEB)
    until(lambda: keeper.notified()[-1] == f"STATUS={ALL_WANTED}")


def test_a_reload_ends_with_ready_also_when_a_file_is_wrong(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    keeper = PaperKeeper(notifies=True)
    instance.start(keeper)
    until(lambda: "READY=1" in keeper.notified())
    keeper.tell(SignalReceived("reload"))  # there is no spec file at all
    until(lambda: any(text.startswith("READY=1\n") for text in keeper.notified()))
    reloading, ready = [text for text in keeper.notified() if "\n" in text]
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready.startswith("READY=1\nSTATUS=revision 1: ")
    assert ready.endswith("; the spec is missing")


def test_the_end_is_told_once(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    keeper = PaperKeeper(notifies=True)
    instance.start(keeper)
    until(lambda: "READY=1" in keeper.notified())
    keeper.tell(SignalReceived("stop"), SignalReceived("stop_now"))
    instance.join()
    assert [text for text in keeper.notified() if "STOPPING=1" in text] == [
        "STOPPING=1\nSTATUS=stopping everything in order"
    ]


def test_where_nobody_listens_only_the_keeper_is_answered(instance: Instance) -> None:
    instance.store(by_hand(web=service()))
    instance.start()
    until(instance.keeper.spawned)
    before = len(instance.keeper.actions)
    instance.keeper.tell(HeartbeatAsked())
    until(lambda: Notify("WATCHDOG=1") in instance.keeper.actions[before:])
    assert instance.keeper.notified() == []
