"""A controller that does not answer is replaced, and one that has nothing to answer is left alone; in virtual time."""

from __future__ import annotations

from reconciler.keeper.keeper import Keeper
from reconciler.model.action import Notify
from reconciler.model.observation import HeartbeatAsked, KeeperIntroduced, SignalReceived
from reconciler.wire.link import LinkDecoder, encode
from tests.contract.fake_kernel import FakeKernel

S = 1_000_000_000


class Kernel(FakeKernel):
    """The fake one, and when it started controllers."""

    starts: list[int]

    def start_controller(self, *, quick_deaths: int) -> int:
        self.starts.append(self.now)
        return super().start_controller(quick_deaths=quick_deaths)


class Bench:
    """A keeper whose controller is played by the test: `answers` is whether it does what it should."""

    def __init__(self, watchdog_ns: int | None = None) -> None:
        self.kernel = Kernel()
        self.kernel.starts = self.starts = []
        introduction = KeeperIntroduced("keeper", "boot", 1, 0, "session")
        self.keeper = Keeper(self.kernel, introduction, watchdog_ns=watchdog_ns)
        self.reads = self.answers = True
        self.asked: list[int] = []
        self.signals: list[SignalReceived] = []
        """What its controllers were told of the end, or of files."""
        self._heard = 0
        self._decoder = LinkDecoder()

    def pass_time(self, until_ns: int) -> int | None:
        """Step whenever something is due; return when the keeper would wake next."""
        while True:
            due = self.keeper.step()
            if len(self.starts) != self._heard:
                self._heard, self._decoder = len(self.starts), LinkDecoder()
            if self.reads and self.kernel.to_controller:
                for observation in self._decoder.observations(self.kernel.hear()):
                    if isinstance(observation, SignalReceived):
                        self.signals.append(observation)
                    if observation == HeartbeatAsked():
                        self.asked.append(self.kernel.now)
                        if self.answers:
                            self.kernel.feed(encode(Notify("WATCHDOG=1")))
                continue
            dues = [each for each in (due, self.kernel.next_due_ns()) if each is not None]
            if min(dues, default=until_ns + 1) > until_ns:
                self.kernel.advance(until_ns)
                return min(dues, default=None)
            self.kernel.advance(max(min(dues), self.kernel.now))

    def kills(self) -> list[int]:
        """Return when controllers were killed, in seconds: there is nothing else to be killed."""
        return [at // S for at, _, name in self.kernel.signals if name == "KILL"]


def test_a_controller_that_has_answered_is_left_alone_and_nobody_wakes() -> None:
    bench = Bench()
    bench.pass_time(1 * S)
    assert bench.pass_time(30 * S) is None
    assert bench.asked == [0]
    bench.pass_time(3600 * S)
    assert (bench.asked, bench.kills()) == ([0], [])


def test_what_lies_unread_leads_to_a_question_and_silence_to_another_controller() -> None:
    bench = Bench()
    bench.pass_time(100 * S)
    bench.reads = False
    bench.kernel.tell("reload")
    bench.pass_time(129 * S)
    assert bench.kills() == []
    bench.pass_time(130 * S)
    assert bench.kills() == [130]
    bench.reads = True
    bench.pass_time(131 * S)
    assert bench.starts == [0, 130 * S]
    assert bench.pass_time(3600 * S) is None
    assert len(bench.kills()) == 1


def test_a_controller_that_is_slow_but_answers_lives() -> None:
    bench = Bench()
    bench.pass_time(100 * S)
    bench.reads = False
    bench.kernel.tell("reload")
    bench.pass_time(129 * S)
    bench.reads = True
    bench.pass_time(1000 * S)
    assert (bench.kills(), len(bench.starts)) == ([], 1)


def test_a_client_that_is_not_let_in_leads_to_a_question() -> None:
    bench = Bench()
    bench.pass_time(100 * S)
    bench.kernel.calling = 1
    bench.pass_time(101 * S)
    bench.reads = False
    bench.pass_time(131 * S)
    assert len(bench.kills()) == 1


def test_a_client_that_is_let_in_leads_to_none() -> None:
    bench = Bench()
    bench.pass_time(100 * S)
    bench.kernel.calling = 1
    bench.pass_time(101 * S)
    bench.kernel.calling = 0
    assert bench.pass_time(200 * S) is None
    assert bench.asked == [0]


def test_a_controller_that_never_comes_up_is_replaced_by_one_that_knows_of_it() -> None:
    bench = Bench()
    bench.reads = False
    bench.pass_time(119 * S)
    assert len(bench.starts) == 6
    assert bench.kernel.quick_deaths == 5


def test_with_a_watchdog_each_answer_is_passed_on_and_asked_for_at_half_its_time() -> None:
    bench = Bench(watchdog_ns=60 * S)
    bench.pass_time(100 * S)
    assert bench.asked == [0, 30 * S, 60 * S, 90 * S]
    assert bench.kernel.notified == ["WATCHDOG=1"] * 4


def test_a_silent_controller_is_replaced_before_the_watchdog_bites() -> None:
    bench = Bench(watchdog_ns=60 * S)
    bench.pass_time(29 * S)
    bench.answers = False
    bench.pass_time(46 * S)
    assert bench.kills() == [45]
    bench.answers = True
    bench.reads = True
    bench.pass_time(59 * S)
    assert bench.starts == [0, 45 * S]
    assert len(bench.kernel.notified) == 1
    bench.pass_time(76 * S)
    assert len(bench.kernel.notified) == 2


def test_a_keeper_that_was_stopped_itself_gives_the_controller_its_time() -> None:
    bench = Bench(watchdog_ns=60 * S)
    bench.pass_time(10 * S)
    bench.reads = False
    bench.pass_time(31 * S)
    bench.kernel.advance(500 * S)
    bench.reads = True
    bench.pass_time(501 * S)
    assert (bench.kills(), len(bench.starts)) == ([], 1)
