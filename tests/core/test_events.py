"""What observations of the keeper are told to people as sentences."""

from __future__ import annotations

from reconciler.model.observation import ControlRenewed, FaultCaught, LogChanged, Observation
from reconciler.model.process import ProcessId
from tests.core.stage import Stage, spec, watcher


def told(observation: Observation) -> list[tuple[str, str]]:
    """Return kinds and sentences of what an observation makes known."""
    stage = Stage().apply(spec(w=watcher())).wait(12)
    before = len(stage.events)
    stage.tell(observation)
    return [(event.type, event.message) for event in stage.events[before:]]


def test_how_much_was_lost_is_said_when_a_log_is_written_again() -> None:
    observation = LogChanged(ProcessId("w", 1), "/log", "", lost_bytes=512)
    assert told(observation) == [("log.recovered", "writing /log again; 512 bytes were lost")]


def test_an_unexpected_error_of_the_keeper_is_an_event() -> None:
    message = "unexpected error in the keeper while starting web.1: ValueError: x"
    assert told(FaultCaught("starting web.1", "ValueError: x")) == [("keeper.fault", message)]


def test_a_control_socket_that_was_gone_is_an_event() -> None:
    assert told(ControlRenewed("/run/c")) == [
        ("control.renewed", "the control socket /run/c was gone; it is open again")
    ]
    assert told(ControlRenewed("/run/c", "no space left")) == [
        (
            "control.failed",
            "the control socket /run/c is gone and cannot be opened again: no space left",
        )
    ]
