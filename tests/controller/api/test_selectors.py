"""Claims about names, globs, slots, labels and events that a request means."""

from __future__ import annotations

import pytest

from reconciler.controller.api.selectors import (
    MAX_GLOB,
    MAX_GLOBS,
    Wanted,
    compiled,
    event_test,
    select,
    wanted,
)
from reconciler.model.answer import EventEntry
from reconciler.model.errors import RequestError
from reconciler.wire.methods import AskEvents, Selecting
from tests.core.stage import Stage, spec, watcher
from tests.growth import work_of


def test_types_are_names_first_words_and_globs() -> None:
    told = EventEntry(1, 0, "process.exited", "web", 1, "", {})
    for types in ("process.exited", "process", "*.exited", "proc*"):
        assert event_test(AskEvents(types=(types,)))(told), types
    for types in ("exited", "process.", "proc", "process.exited.ok"):
        assert not event_test(AskEvents(types=(types,)))(told), types


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        (("web",), "web", None),
        (("w*",), "web", None),
        (("web.2", "web.1"), "web", (1, 2)),
        (("web.2", "web"), "web", None),
        (("w*.3",), "web", (3,)),
        (("db",), "web", "not"),
        ((), "web", None),
    ],
)
def test_names_globs_and_slots(
    written: tuple[str, ...], name: str, expected: tuple[int, ...] | str | None
) -> None:
    selection = Wanted(written)
    assert selection.matches(name, {}) is (expected != "not")
    if expected != "not":
        assert selection.slots(name) == expected


def test_what_is_written_twice_counts_once_and_globs_are_bounded() -> None:
    selection = wanted(Selecting(names=("*2999",) * 900 + ("web", "web", "db.2") * 100))
    assert selection.names == ("*2999", "web", "db.2")
    globs = [f"w{number}*" for number in range(MAX_GLOBS)]
    names = [f"name-{number}" for number in range(900)]
    assert wanted(Selecting(names=(*globs, *names))).names == (*globs, *names)
    for too_many in ([*globs, "one*more"], ["*" * (MAX_GLOB + 1)]):
        with pytest.raises(RequestError, match=f"{MAX_GLOBS}|{MAX_GLOB}") as error:
            wanted(Selecting(names=tuple(too_many)))
        assert error.value.code == "invalid_request"


def test_all_globs_are_one_expression_and_slots_add_up() -> None:
    written = compiled(("w*.2", "*b.3", "web.1", "x[yz]", "web.1"))
    assert written.any_glob is not None
    names = ["web", "wb", "xy", "xa", "b", "other"]
    assert [name for name in names if written.any_glob.match(name)] == ["web", "wb", "xy", "b"]
    assert written.among(names) == ["web", "wb", "xy", "b"]
    assert [written.slots(name) for name in ("web", "wb", "xy", "b")] == [
        (1, 2, 3),
        (2, 3),
        None,
        (3,),
    ]


def test_labels_narrow_a_selection() -> None:
    selection = Wanted(("w*",), {"team": "shop"})
    assert selection.matches("web", {"team": "shop", "x": "y"})
    assert not selection.matches("web", {})
    assert not selection.matches("db", {"team": "shop"})


def test_names_that_are_written_out_are_looked_up_however_many_others_there_are() -> None:
    def work(others: int, count: int) -> int:
        core = Stage().apply(spec(**{f"w{n}": watcher() for n in range(others)})).reconciler
        names = tuple(f"w{n}.1" if n % 3 else f"w{n}" for n in reversed(range(count)))
        found = {}
        work = work_of(lambda: found.update(select(core, Wanted(names)).slots))
        assert [*found] == [f"w{n}" for n in reversed(range(count))]
        return work

    few = work(10, 10)
    assert few > 100, "nothing was counted"
    assert work(500, 10) <= 1.1 * few
    assert work(500, 100) <= 11 * few
