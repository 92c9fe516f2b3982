"""How the spec's files stand to the spec in force: what status shows, the log says and events tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from reconciler.controller.runtime.borders import Log
from reconciler.controller.specs.revisions import Revisions
from reconciler.model.errors import SpecError
from reconciler.model.event import Event
from reconciler.model.value import Part, field

MAX_WARNINGS_TOLD: Final = 5
MAX_MISTAKES_TOLD: Final = 20

SpecState: TypeAlias = Literal[
    "applied", "pending", "invalid", "missing", "held", "loading", "rolled_back"
]


class Standing(Part):
    """The state, the sentence beside it, and the mistakes that are in the files."""

    revisions: Revisions
    log: Log
    tell: Callable[[Event], None]
    state: SpecState = "loading"
    message: str = ""
    errors: tuple[SpecError, ...] = field(default_factory=lambda: ())
    _warned: tuple[SpecError, ...] = field(default_factory=lambda: ())

    def accept(self) -> None:
        """Say of files that are as they were taken note of what they are: applied, or left aside."""
        current = self.revisions.current
        aside = current is not None and current.files_differ
        self.state = "rolled_back" if aside else "applied"
        self.message = self.revisions.why_aside() if aside else ""
        self.errors = ()

    def refuse(self, state: SpecState, message: str, errors: tuple[SpecError, ...] = ()) -> None:
        """Say why the files are not applied."""
        self.state, self.message, self.errors = state, message, errors
        level = {"invalid": "error", "pending": "info"}.get(state, "warning")
        self.log.write(level, "the spec is not applied", state=state, cause=message)
        shown = [str(error) for error in errors[:MAX_MISTAKES_TOLD]]
        for error in shown:
            self.log.write(level, "mistake in the spec", place=error)
        details = {"errors": shown} if shown else {}
        type_ = "spec.rejected" if state == "invalid" else f"spec.{state}"
        self.tell(Event(type_, message, details=details))

    def warn(self, warnings: tuple[SpecError, ...]) -> None:
        """Tell what is doubtful about the files, each doubt once."""
        new = [each for each in warnings if each not in self._warned]
        self._warned = warnings
        for warning in new[:MAX_WARNINGS_TOLD]:
            self.tell(Event("spec.warning", str(warning)))

    def restored(self) -> None:
        """Say that the files are again as they were taken note of."""
        if self.state not in {"applied", "rolled_back"}:
            self.tell(Event("spec.restored", "the files are again as they were applied"))
        self.accept()

    def ignore(self) -> None:
        """Say that the files do not count until they change."""
        self.message = "started from the last good spec; the files are ignored until they change"
        self.log.write("warning", self.message)

    def put_off(self, message: str) -> None:
        """Say why they cannot be read just now, once as long as it stays so."""
        if message != self.message:
            self.message = message
            self.tell(Event("spec.failed", message))
