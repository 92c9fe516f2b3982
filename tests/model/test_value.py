"""Claims about values."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping

from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.status import Status
from reconciler.model.value import from_plain, to_plain, to_whole


def test_a_collection_need_not_look_at_values() -> None:
    """It would hold everybody up, each time somebody has had a large spec read."""
    watchers = {f"w{number}": WatcherSpec(cmd=("sleep", "1000")) for number in range(100)}
    spec = Spec(watchers=watchers)
    read = from_plain(Spec, to_plain(spec))
    gc.collect()  # tuples and maps that hold no more than values are looked at once
    assert read == spec
    values = list(all_within(read))
    assert len(values) > 10_000
    assert sum(map(gc.is_tracked, values)) < 10


def all_within(value: object) -> Iterator[object]:
    """Yield a value and all that it is made of."""
    yield value
    if isinstance(value, Mapping):
        parts: Iterable[object] = value.values()
    elif isinstance(value, tuple):
        parts = value
    else:
        parts = (getattr(value, name) for name in getattr(value, "__struct_fields__", ()))
    for part in parts:
        yield from all_within(part)


def test_a_short_answer_gets_all_its_keys() -> None:
    short = {"watchers": [{"name": "web", "slots": [{"slot": 1, "exit": {"code": 3}}]}]}
    status = to_whole(from_plain(Status, short | {"orphans": [{"pid": 7}]}))

    (watcher,) = status["watchers"]
    assert watcher["conditions"] == []
    exit = {"code": 3, "signal": None, "core": False, "error": None, "oom": ""}
    assert watcher["slots"][0]["exit"] == exit
    assert watcher["slots"][0]["fired"] is None
    assert status["sockets"] == []
    assert status["orphans"] == [
        {"pid": 7, "name": "", "owners": [], "on_purpose": False, "message": ""}
    ]


def test_what_another_version_says_besides_is_kept_beside_all_keys() -> None:
    newer = {"weather": "fine", "watchers": [{"name": "a"}, {"name": "b", "mood": {"is": "good"}}]}
    status = to_whole(from_plain(Status, newer), newer)

    assert status["weather"] == "fine"
    assert [watcher.get("mood") for watcher in status["watchers"]] == [None, {"is": "good"}]
    assert {watcher["kind"] for watcher in status["watchers"]} == {"service"}


def test_a_word_that_another_version_has_more_is_read_as_it_is() -> None:
    newer = {"watchers": [{"state": "Sleeping", "kind": "timer"}], "sockets": [{"state": "Odd"}]}
    status = from_plain(Status, newer)

    assert (status.watchers[0].state, status.watchers[0].kind) == ("Sleeping", "timer")
