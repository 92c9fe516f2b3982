"""The border around whatever comes from outside: an unexpected exception costs what was just done, not the keeper.

One record, one request, one stream, one happening. It is told with its traceback in the keeper's own log, and
once in a while as an observation. An assertion passes: it says that the keeper's own tables contradict each other,
and then nothing that it does can be trusted.
"""

from __future__ import annotations

import errno
import time
import traceback
from typing import TYPE_CHECKING, Final, Self

from reconciler.model.observation import FaultCaught
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from reconciler.model.action import KeeperAction
    from reconciler.model.observation import ControlRenewed
    from reconciler.model.process import ProcessId

AGAIN_NS: Final = 60 * SECOND_NS
"""How long the same fault is not told again: what is tried often would fill log and observations."""
MAX_KNOWN: Final = 100
"""So many faults are remembered at a time."""


class Border(Part):
    """A context manager that lets nothing out but assertions and what is `passing`; `fault` is what was caught."""

    doing: str
    caught: Callable[[str, Exception], None]
    passing: tuple[type[Exception], ...] = ()
    fault: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, (AssertionError, *self.passing)):
            return False
        self.caught(self.doing, error)
        # Its frames refer to this border: a circle that would keep what they hold open.
        self.fault = error.with_traceback(None)
        self.fault.__context__ = self.fault.__cause__ = None
        return True


class Faults:
    """What was caught at the borders: written to the log, and taken by whoever tells the controller."""

    def __init__(
        self, log: Callable[..., None], now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._log = log
        self._now_ns = now_ns
        self._known: dict[FaultCaught, int] = {}
        self._untold: list[FaultCaught | ControlRenewed] = []

    def border(self, doing: str, *passing: type[Exception]) -> Border:
        """Return the border around what is being done, said as in `starting web.1`; what is `passing` passes."""
        return Border(doing, self._caught, passing)

    def tell(self, observation: ControlRenewed) -> None:
        """Tell of something else by the same way."""
        self._untold.append(observation)

    def take(self) -> list[FaultCaught | ControlRenewed]:
        """Return what is to be told since the last call."""
        untold, self._untold = self._untold, []
        return untold

    def _caught(self, doing: str, error: Exception) -> None:
        fault = FaultCaught(doing, words(error))
        now_ns = self._now_ns()
        if now_ns < self._known.get(fault, 0):
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.pop(fault, None) or self._known.pop(next(iter(self._known)))
        self._known[fault] = now_ns + AGAIN_NS
        self._untold.append(fault)
        trace = "".join(traceback.format_exception(error))
        self._log("error", f"unexpected error while {doing}", cause=fault.error, traceback=trace)


def words(error: Exception) -> str:
    """Return an exception in words that can be sent, whatever bytes are in them."""
    text = f"{type(error).__name__}: {error}"
    return text.encode(errors="backslashreplace").decode()


def as_errno(error: Exception | None) -> tuple[str, str]:
    """Return the errno by name and the words by which an unexpected exception refuses something."""
    number = getattr(error, "errno", None) or errno.EINVAL
    return errno.errorcode.get(number, str(number)), words(error) if error else "unknown"


def subject_of(action: KeeperAction) -> ProcessId | str | None:
    """Return whose record an action is about: a process by its id, a socket by its name."""
    subject: ProcessId | str | None = getattr(action, "id", None) or getattr(action, "name", None)
    return subject


def carrying_out(action: KeeperAction) -> str:
    """Return what is done with an action, as far as that may be told: a launch holds secrets."""
    what, subject = f"carrying out {type(action).__name__.lower()}", subject_of(action)
    if subject is None:
        return what
    return f"{what} of {'socket ' if isinstance(subject, str) else ''}{subject}"
