from __future__ import annotations

from reconciler.cli.views import terminal
from reconciler.cli.views.painting import paint
from reconciler.cli.views.progress import show_changes, waiting_blocks
from reconciler.model.answer import Progress, Waiting
from tests.cli.answers import SECOND_NS


def test_many_that_are_waited_for_are_counted_though_some_are_named() -> None:
    waiting = (Waiting("w1", "BackOff"),)
    progress = Progress(waiting=waiting, remaining=60)
    page = paint(waiting_blocks(progress, 2 * SECOND_NS))
    assert (page[0], page[-1]) == ("waiting for 60 watchers, 2s", "(and 59 more)")
    assert paint(waiting_blocks(Progress(waiting=waiting), 0))[0] == "waiting for 1 watcher, 0s"
    screen, told = terminal.nowhere(), dict[str, str]()
    for _ in range(2):
        show_changes(screen, progress, told)
    assert screen.stream.getvalue() == "waiting for w1: BackOff\nwaiting for 59 more watchers\n"  # type: ignore[attr-defined]  # a StringIO
