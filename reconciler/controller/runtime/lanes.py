"""Background tasks: what would make the loop wait goes into a lane, with others of its speed and kind.

Each lane is one thread, so a slow task delays only its like: a log file on a disk that hangs, a name service
that does not answer, a program that takes its time. Within a lane those who ask take turns, so that nobody
waits for all that another one has asked for. What a task raises is reported and costs that task alone; one
that takes too long is done without, and its thread goes on when the system lets it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.model.errors import RequestError
from reconciler.model.units import SECOND_NS, format_duration
from reconciler.model.value import Part

T = TypeVar("T")

LaneName: TypeAlias = Literal[
    "files", "trees", "logs", "records", "names", "processes", "commands", "loader"
]
"""`files`: what the manager itself reads, such as secrets. `trees`: files that watchers watch. `logs`: log files that
clients ask for. `records`: what the database holds. `names`: users and groups. `processes`: what the kernel says of
them. `commands`: programs. `loader`: answers of the spec's reader, which become values."""

MAX_WAITING_TASKS: Final = 256
"""Tasks that one user's requests have waiting in a lane."""
TASK_LIMIT_NS: Final = 60 * SECOND_NS
"""From being asked to its answer; a task that takes longer is done without."""
COLLECTED_PER_TURN: Final = 16

Report: TypeAlias = Callable[[str, BaseException], str]
"""Takes note of an error that nobody expected, and says it in a few words."""


class _Task(Part):
    """One task: what is asked in the thread, and what goes on in the loop."""

    lane: LaneName
    ask: Callable[[], Callable[[], None]]
    """Runs in the thread; what it returns is called in the loop."""
    failed: Callable[[str], None]
    due_ns: int
    is_over: bool = False
    """It was gone on with, or done without."""


class Lanes:
    """All lanes, and the way back into the loop."""

    def __init__(self, reactor: Reactor, report: Report) -> None:
        """Start the threads, once and for all: when one is needed there may be no room for it."""
        self._reactor = reactor
        self._report = report
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._finished: deque[tuple[str, Callable[[], object]]] = deque()
        self._under_way: deque[_Task] = deque()
        self._lanes = {name: _Lane(name, self.hand_over) for name in get_args(LaneName)}
        reactor.watch(self._wake, READ, lambda _: self._collect())

    def run(
        self,
        lane: LaneName,
        ask: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[str], None],
        *,
        uid: int | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Call `ask` in a lane's thread, then `then` with its answer in the loop.

        `failed` is called in the loop instead, with what it was in a few words, when it takes too long, or
        when one of the two raises what nobody expected. `uid` is the user whose request it is, None: the
        manager's own. A task that is not wanted any more when its turn comes is left out. Raises
        `RequestError` when a user has too many.
        """

        def fail(error: BaseException) -> None:
            text = self._report(f"working in the lane {lane}", error)
            self._finish(task, lambda: failed(text))

        def work() -> Callable[[], None]:
            if task.is_over or not is_wanted():
                return lambda: self._finish(task)
            try:
                answer = ask()
            except BaseException as error:  # a thread that ends would take its lane along
                failure = error
                return lambda: fail(failure)
            return lambda: self._go_on(task, lambda: then(answer))

        task = _Task(lane, work, failed, clock.now_ns() + TASK_LIMIT_NS)
        self._lanes[lane].add(uid, task)
        self._under_way.append(task)
        if len(self._under_way) == 1:
            self._reactor.at(self, task.due_ns, self._look_at_limits)

    def hand_over(
        self, call: Callable[[], object], where: str = "taking word from a thread"
    ) -> None:
        """Have something called in the loop; may be called in any thread."""
        self._finished.append((where, call))
        os.eventfd_write(self._wake, 1)

    # ---- in the loop ----

    def _collect(self) -> None:
        """Go on with answers that wait, a few of them."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for _ in range(COLLECTED_PER_TURN):
            if not self._finished:
                return
            where, call = self._finished.popleft()
            try:
                call()
            except Exception as error:
                self._report(where, error)
        if self._finished:
            os.eventfd_write(self._wake, 1)

    def _go_on(self, task: _Task, then: Callable[[], None]) -> None:
        try:
            self._finish(task, then)
        except Exception as error:
            task.failed(self._report(f"going on after the lane {task.lane}", error))

    def _finish(self, task: _Task, then: Callable[[], None] = lambda: None) -> None:
        """Call what comes after a task, unless it was done without."""
        if task.is_over:
            return
        task.is_over = True
        while self._under_way and self._under_way[0].is_over:
            self._under_way.popleft()
        due_ns = self._under_way[0].due_ns if self._under_way else None
        self._reactor.at(self, due_ns, self._look_at_limits)
        then()

    def _look_at_limits(self) -> None:
        """Do without tasks that take too long. All have the same limit, so the first is due first."""
        now = clock.now_ns()
        while self._under_way and self._under_way[0].due_ns <= now:
            task = self._under_way[0]
            try:
                text = f"no answer within {format_duration(TASK_LIMIT_NS)}"
                self._finish(task, partial(task.failed, text))
            except Exception as error:
                self._report(f"doing without the lane {task.lane}", error)


class _Lane:
    """One thread, and what waits for it: by user, so that they take turns."""

    def __init__(self, name: str, hand_over: Callable[[Callable[[], None], str], None]) -> None:
        self._name = name
        self._hand_over = hand_over
        self._wanted = threading.Condition()
        self._waiting: OrderedDict[int | None, deque[_Task]] = OrderedDict()
        threading.Thread(target=self._work, name=f"lane-{name}", daemon=True).start()

    def add(self, uid: int | None, task: _Task) -> None:
        """Queue a task behind others of the same user. Raises `RequestError` when there are too many."""
        with self._wanted:
            tasks = self._waiting.setdefault(uid, deque())
            if uid is not None and len(tasks) >= MAX_WAITING_TASKS:
                message = f"{len(tasks)} requests of uid {uid} wait in the lane {self._name}"
                hint = "wait for their answers"
                raise RequestError(code="overloaded", message=message, hint=hint)
            tasks.append(task)
            self._wanted.notify()

    def _work(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._waiting)
                uid, tasks = self._waiting.popitem(last=False)
                task = tasks.popleft()
                if tasks:
                    self._waiting[uid] = tasks  # behind all others
            self._hand_over(task.ask(), f"going on after the lane {self._name}")
