"""The declarations of the answers must not fall behind the values of `model` that they mirror."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from reconciler.cli import shapes
from reconciler.model.change import Change, Drift, FieldChange
from reconciler.model.errors import SpecError
from reconciler.model.process import Exit, LaunchError
from reconciler.model.status import (
    Condition,
    Fired,
    OperatorWord,
    SlotStatus,
    SocketStatus,
    WatcherStatus,
)


@pytest.mark.parametrize(
    ("value", "shape", "defaults", "more"),
    [
        (WatcherStatus, shapes.WatcherMap, shapes.WATCHER, set()),
        (SlotStatus, shapes.SlotMap, shapes.SLOT | shapes.USAGE, {"cpu_percent", "memory_bytes"}),
        (SocketStatus, shapes.SocketMap, shapes.SOCKET, set()),
        (Condition, shapes.ConditionMap, shapes.CONDITION, set()),
        (Fired, shapes.FiredMap, shapes.FIRED, set()),
        (Exit, shapes.ExitMap, shapes.EXIT, set()),
        (LaunchError, shapes.LaunchErrorMap, shapes.LAUNCH_ERROR, set()),
        (SpecError, shapes.SpecErrorMap, shapes.SPEC_ERROR, set()),
        (Change, shapes.ChangeMap, shapes.CHANGE, set()),
        (Drift, shapes.DriftMap, shapes.DRIFT, set()),
        (OperatorWord, shapes.WordMap, shapes.WORD, set()),
        (FieldChange, shapes.FieldChangeMap, shapes.FIELD_CHANGE, set()),
    ],
)
def test_a_shape_has_the_fields_of_its_value(
    value: type, shape: type, defaults: dict[str, object], more: set[str]
) -> None:
    fields = (
        dataclasses.fields(value)
        if dataclasses.is_dataclass(value)
        else msgspec.structs.fields(value)
    )
    expected = {field.name for field in fields} | more

    assert set(shape.__annotations__) == expected
    assert set(defaults) == expected


def test_a_short_answer_gets_all_its_keys() -> None:
    status = shapes.status(
        {"watchers": [{"name": "web", "slots": [{"slot": 1, "exit": {"code": 3}}]}]}
    )

    (watcher,) = status["watchers"]
    assert watcher["conditions"] == []
    assert watcher["slots"][0]["exit"] == {"code": 3, "signal": None, "core": False, "error": None}
    assert watcher["slots"][0]["fired"] is None
    assert status["sockets"] == []
    assert shapes.status({"orphans": [{"pid": 7}]})["orphans"] == [
        {"pid": 7, "name": "", "owners": [], "on_purpose": False, "message": ""}
    ]


def test_unknown_keys_of_a_newer_manager_are_kept() -> None:
    assert shapes.status({"weather": "fine"})["weather"] == "fine"  # type: ignore[typeddict-item]  # of a newer manager
