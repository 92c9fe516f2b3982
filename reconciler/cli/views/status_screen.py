"""What the command status writes of an answer, whichever way it was asked for: a page, names, or a document."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from reconciler.cli.errors import DONE, NOT_AS_DESIRED
from reconciler.cli.views.documents import DOCUMENTS, print_document
from reconciler.cli.views.layout import Cell
from reconciler.cli.views.status import View, failing, status_page
from reconciler.cli.views.summary import problem_count, summary
from reconciler.model.value import Struct, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.cli.views.terminal import Terminal
    from reconciler.model.status import Status

    Map = dict[str, object]

FORMATS: Final = ("table", "wide", "json", "yaml", "name")
"""The first of them is the default."""
WIDE_ENOUGH_FOR_USAGE: Final = 96
"""Columns from which on a terminal has room for processor time and memory."""


class Wanted(Struct, frozen=True):
    """Of which watchers the status is wanted, and in which form."""

    names: Sequence[str] = ()
    labels: dict[str, str] | None = None
    failed: bool = False
    output: str = FORMATS[0]

    def view(self, screen: Terminal) -> View:
        """Return how it is looked at on this screen."""
        wide = self.output == "wide"
        usage = wide or (screen.width or 0) >= WIDE_ENOUGH_FOR_USAGE
        return View(usage, wide, bool(self.names or self.labels), self.failed)

    def measures(self, view: View) -> bool:
        """Tell whether processor time and memory are to be measured for it."""
        return view.usage and self.output in {"table", "wide"}


def show_status(
    screen: Terminal, wanted: Wanted, view: View, whole: Status, document: Callable[[], Map]
) -> int:
    """Write the status as it is wanted and return the exit code; `document` gives the same for programs."""
    shown = replace(whole, watchers=failing(whole)) if wanted.failed else whole
    if wanted.output in DOCUMENTS:
        plain = document()
        print_document(_only_failing(plain) if wanted.failed else plain, wanted.output)
    elif wanted.output == "name":
        screen.show(*((Cell(watcher.name),) for watcher in shown.watchers))
    else:
        page = narrowed(shown) if view.selected or wanted.failed else shown
        blocks = status_page(page, time.time_ns(), view)
        screen.show(*blocks[:-1], summary(whole, selected=view.selected))
    return status_code(whole, selected=view.selected)


def _only_failing(document: Map) -> Map:
    watchers = cast("list[Map]", document["watchers"])
    return document | {"watchers": [each for each in watchers if not each["as_desired"]]}


def narrowed(status: Status) -> Status:
    """Return the status with no other sockets than those of its watchers."""
    names = {watcher.name for watcher in status.watchers}
    sockets = tuple(socket for socket in status.sockets if names.intersection(socket.used_by))
    return replace(status, sockets=sockets)


def status_code(status: Status, *, selected: bool = False) -> int:
    """Return 0 when all that was asked for is as desired, else 3. Unselected, the spec and the revision count, too."""
    fine = all(watcher.as_desired for watcher in status.watchers)
    if not selected:
        fine = fine and problem_count(status) == 0
    return DONE if fine else NOT_AS_DESIRED
