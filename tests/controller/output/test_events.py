"""Claims about events in memory: their numbers, and which are kept."""

from __future__ import annotations

from reconciler.controller.output.events import BURST, RecentEvents
from reconciler.controller.state.records import KEPT_EVENTS
from reconciler.model.answer import EventEntry
from reconciler.model.event import Event


def test_news_are_numbered_from_where_the_last_life_ended() -> None:
    room = RecentEvents(20_001)
    assert room.newest == 20_000
    entries = [room.add(Event("a", str(number)), 5) for number in range(3)]
    assert [entry.seq for entry in entries] == [20_001, 20_002, 20_003]
    assert room.since(20_001, 10) == entries[1:]
    assert room.since(0, 2) == entries[1:]
    assert room.since(20_003, 10) == []


def test_only_the_newest_news_are_kept() -> None:
    room = RecentEvents(1)
    for number in range(KEPT_EVENTS + 5):
        room.add(Event("a", str(number)), 0)
    assert room.since(0, KEPT_EVENTS * 2)[0].seq == 6
    assert len(room.since(0, KEPT_EVENTS * 2)) == KEPT_EVENTS
    assert room.missed(3) == 2


def test_news_of_earlier_lives_come_before_ours_across_the_gap_in_the_numbers() -> None:
    room = RecentEvents(1001)
    ours = [room.add(Event("b", str(number)), 5) for number in range(3)]
    earlier = [EventEntry(seq, 0, "a", "", 0, "", {}) for seq in range(4, 9)]
    assert room.lacks(5, 100)
    assert not room.lacks(1000, 100)
    assert not room.lacks(5, 3)
    room.recall(earlier)
    assert not room.lacks(5, 100)
    assert room.since(0, 100) == [*earlier, *ours]
    assert room.since(6, 100) == [*earlier[3:], *ours]
    assert room.since(8, 100) == room.since(500, 100) == ours
    assert room.since(1001, 100) == ours[1:]
    assert room.since(0, 4) == [earlier[-1], *ours]
    assert room.since(0, 2) == ours[1:]
    assert (room.missed(6), room.missed(8), room.missed(1)) == (0, 0, 2)


def test_a_loss_is_counted_also_behind_an_order_that_is_kept() -> None:
    room = RecentEvents(1)
    room.add(Event("a", "the last that was read"), 0)
    room.add(Event("operator.stop", "kept"), 0)
    for number in range(KEPT_EVENTS + 5):
        room.add(Event("a", str(number)), 0)
    assert [each.message for each in room.since(1, KEPT_EVENTS * 2)][:2] == ["kept", "5"]
    assert room.missed(1) == 5


def test_what_is_counted_for_days_takes_no_room() -> None:
    room = RecentEvents(1)

    def crash_loop(times: int) -> int:
        for _ in range(times):
            room.add(Event("process.exited", "exit 1", "loop", 1), 0)
        return sum(map(len, room._rooms.values()))

    assert max(crash_loop(KEPT_EVENTS) for _ in range(5)) <= 2 * KEPT_EVENTS
    assert len(room.since(0, KEPT_EVENTS)) == BURST + 1
