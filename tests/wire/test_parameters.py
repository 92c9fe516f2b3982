"""Claims about reading a request's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from reconciler.model.errors import RequestError
from reconciler.model.value import Struct
from reconciler.wire.methods import METHODS, Number, Text, Texts
from reconciler.wire.parameters import read

Small = Annotated[int, Meta(ge=0, le=5)]


class Sample(Struct, frozen=True):
    """One of each kind."""

    request_id: Text | None = None
    names: Texts = ()
    text: Text | None = None
    flag: bool = False
    small: Small | None = None
    large: Number = 0
    choice: Literal["a", "b"] | None = None
    labels: Mapping[str, Text] | None = None
    numbers: Mapping[str, Small | None] | None = None


def test_an_unknown_parameter_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(RequestError) as error:
        read(METHODS["plan"].parameters, {"sources": ["web"]})
    assert (error.value.code, error.value.details["hint"]) == ("invalid_request", "known: source")
    assert error.value.message == "unknown parameter: 'sources'"


def test_names_may_be_bytes_and_a_single_text() -> None:
    assert read(Sample, {"names": [b"web", "db"]}).names == ("web", "db")
    assert read(Sample, {"names": "web"}).names == ("web",)
    assert read(Sample, {"names": None}).names == ()


def test_a_whole_number_may_be_packed_as_a_float() -> None:
    assert read(Sample, {"large": 5e9}).large == 5_000_000_000
    assert read(Sample, {"numbers": {"a": 2.0, "b": None}}).numbers == {"a": 2, "b": None}


def test_what_must_be_given_is_missed() -> None:
    with pytest.raises(RequestError, match=r"signal: expected a text .*, found nothing"):
        read(METHODS["signal"].parameters, {})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", 5, "a text of at most 4096 characters"),
        ("text", b"\xff", "UTF-8"),
        ("text", "x" * 5000, "a text of at most 4096 characters"),
        ("flag", 1, "true or false"),
        ("small", True, "a whole number from 0 to 5"),
        ("small", 6, "a whole number from 0 to 5"),
        ("small", 1.5, "a whole number from 0 to 5"),
        ("small", float("nan"), "a whole number from 0 to 5"),
        ("small", float("inf"), "a whole number from 0 to 5"),
        ("numbers", {"a": True}, "a map from names to numbers from 0 to 5"),
        ("text", "\udcff", "UTF-8"),
        ("names", ["good", "\udcff"], "UTF-8"),
        ("names", 5, "a list of texts"),
        ("labels", ["a"], "a map of texts"),
        ("numbers", {"a": "1"}, "a map from names to numbers from 0 to 5"),
        ("choice", "c", "one of a, b"),
    ],
)
def test_a_parameter_of_another_type_is_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(RequestError) as error:
        read(Sample, {name: value})
    found = json.dumps(value) if isinstance(value, bool | list | dict) else repr(value)
    assert error.value.message == f"{name}: expected {expected}, found {found:.60}"


def test_a_value_amid_a_list_is_refused_with_its_place() -> None:
    with pytest.raises(RequestError, match=r"names: Expected `str`, got `array` - at `\$\[0\]`"):
        read(Sample, {"names": [["nested"]]})
