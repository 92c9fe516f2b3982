"""What is told of many that are heard, and when; and who is late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.process import Notified
from reconciler.notify.alarms import Alarms
from reconciler.notify.hearings import PACE_NS, STANDSTILL_NS, Hearings
from reconciler.notify.messages import parse

SECOND = 1_000_000_000
HALF = SECOND // 2


def heard(*texts: tuple[int, str], watchdog_ns: int | None = None) -> Hearings[str]:
    found: Hearings[str] = Hearings()
    found.begin("web", Notified(watchdog_ns), 0)
    for now_ns, text in texts:
        found.note("web", parse(text.encode()), 7, now_ns)
    return found


def test_what_comes_again_and_again_is_told_at_a_pace() -> None:
    it = heard((SECOND, "READY=1"))
    assert [key for key, _ in it.take_untold(SECOND)] == ["web"]
    for turn in range(100):
        it.note("web", parse(f"STATUS={turn}".encode()), 7, SECOND + turn)
    assert it.take_untold(SECOND + 100) == []
    assert it.next_ns() == SECOND + PACE_NS
    told = it.take_untold(SECOND + PACE_NS)
    assert told == [("web", Notified(is_heard=True, ready_at_ns=SECOND, status="99"))]
    assert it.next_ns() is None


def test_what_happens_once_is_told_at_once() -> None:
    it = heard((SECOND, "STATUS=starts"))
    it.take_untold(SECOND)
    it.note("web", parse(b"READY=1"), 7, SECOND + 1)
    assert it.next_ns() == SECOND + 1


def test_who_repeats_itself_is_told_of_once() -> None:
    it = heard((SECOND, "READY=1"))
    it.take_untold(SECOND)
    for second in range(2, 10):
        it.note("web", parse(b"READY=1\nMAINPID=7"), 7, second * SECOND)
    assert it.next_ns() is None


def test_who_is_silent_for_too_long_is_late_once_and_for_all() -> None:
    it = heard((SECOND, "WATCHDOG=1"), watchdog_ns=2 * SECOND)
    it.take_untold(SECOND)
    assert it.next_ns() == 3 * SECOND
    assert it.take_silent(3 * SECOND) == [("web", 3 * SECOND)]
    it.look_late("web", 3 * SECOND, 3 * SECOND)
    late = Notified(2 * SECOND, is_heard=True, late_at_ns=3 * SECOND)
    assert it.take_untold(3 * SECOND) == [("web", late)]
    it.note("web", parse(b"WATCHDOG=1"), 7, 4 * SECOND)
    assert it.next_ns() is None
    assert it.known("web") == late


def test_what_waits_to_be_read_was_said_in_time() -> None:
    it = heard(watchdog_ns=2 * SECOND)
    assert it.take_silent(2 * SECOND) == [("web", 2 * SECOND)]
    it.note("web", parse(b"WATCHDOG=1"), 7, 2 * SECOND)
    it.look_late("web", 2 * SECOND, 2 * SECOND)
    assert it.known("web") == Notified(2 * SECOND, is_heard=True)
    assert it.take_silent(2 * SECOND) == []


def test_nobody_is_late_because_the_machine_stood_still() -> None:
    it = heard(watchdog_ns=2 * SECOND)
    now_ns = 2 * SECOND + STANDSTILL_NS
    assert it.take_silent(now_ns) == [("web", 2 * SECOND)]
    it.look_late("web", 2 * SECOND, now_ns)
    assert it.known("web") == Notified(2 * SECOND)
    assert it.next_ns() == now_ns + 2 * SECOND
    # Once, or nobody would ever be late on a machine that is slow all the time.
    later = now_ns + 2 * SECOND + STANDSTILL_NS
    assert it.take_silent(later) == [("web", now_ns + 2 * SECOND)]
    it.look_late("web", now_ns + 2 * SECOND, later)
    assert it.known("web") == Notified(2 * SECOND, late_at_ns=later)


def test_who_is_heard_of_after_a_standstill_is_spared_at_the_next_one_too() -> None:
    it, now_ns = heard(watchdog_ns=2 * SECOND), 0
    for _ in range(3):
        due_ns = now_ns + 2 * SECOND
        now_ns = due_ns + STANDSTILL_NS
        assert it.take_silent(now_ns) == [("web", due_ns)]
        it.look_late("web", due_ns, now_ns)
        it.note("web", parse(b"WATCHDOG=1"), 7, now_ns)
    known = it.known("web")
    assert known is not None
    assert known.late_at_ns is None


def test_a_process_sets_its_own_time_and_can_end_being_watched() -> None:
    it = heard((0, "WATCHDOG_USEC=5000000"), watchdog_ns=2 * SECOND)
    it.take_untold(0)
    assert it.next_ns() == 5 * SECOND
    it.note("web", parse(b"WATCHDOG_USEC=0"), 7, SECOND)
    it.take_untold(SECOND)
    assert it.next_ns() is None


def test_the_time_begins_anew_when_a_process_is_ready() -> None:
    it = heard((SECOND, "READY=1"), (HALF + SECOND, "STATUS=x"), watchdog_ns=2 * SECOND)
    it.take_untold(2 * SECOND)
    assert it.next_ns() == 3 * SECOND


def test_of_one_that_has_ended_nothing_is_expected() -> None:
    it = heard(watchdog_ns=2 * SECOND)
    it.end("web")
    it.note("web", parse(b"WATCHDOG=1\nSTATUS=last words"), 7, SECOND)
    assert [key for key, _ in it.take_untold(SECOND)] == ["web"]
    assert it.next_ns() is None
    it.forget("web")
    assert it.known("web") is None


TURNS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9)), st.booleans())
)


@given(TURNS)
def test_alarms_come_when_they_were_put_last(turns: list[tuple[str, int | None, bool]]) -> None:
    alarms, expected, now_ns = Alarms[str](), dict[str, int](), 0
    for key, wait_ns, passes in turns:
        due_ns = None if wait_ns is None else now_ns + wait_ns
        alarms.put(key, due_ns)
        expected.pop(key, None)
        if due_ns is not None:
            expected[key] = due_ns
        now_ns += 2 * passes
        due = {each: at_ns for each, at_ns in expected.items() if at_ns <= now_ns}
        assert dict(alarms.take(now_ns)) == due
        expected = {each: at_ns for each, at_ns in expected.items() if each not in due}
        assert alarms.next_ns() == min(expected.values(), default=None)
        assert {each for each in "abc" if each in alarms} == expected.keys()


def test_to_put_an_alarm_off_again_and_again_takes_no_room() -> None:
    alarms: Alarms[str] = Alarms()
    for turn in range(1000):
        alarms.put("web", turn)
        alarms.put("web", None)
        alarms.put("web", turn + 5000)
    assert len(alarms._heap) <= 2
