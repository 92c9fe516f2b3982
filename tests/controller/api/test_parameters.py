"""Claims about reading a request's parameters."""

from __future__ import annotations

import pytest

from reconciler.controller.api.parameters import Parameters
from reconciler.model.errors import RequestError


def test_an_unknown_parameter_is_an_error_that_names_the_known_ones() -> None:
    params = Parameters({"nmaes": ["web"]})
    params.texts("names")
    with pytest.raises(RequestError) as error:
        params.end()
    assert (error.value.code, error.value.details["hint"]) == ("invalid_request", "known: names")


def test_names_may_be_bytes_and_a_single_text() -> None:
    assert Parameters({"names": [b"web", "db"]}).texts("names") == ("web", "db")
    assert Parameters({"names": "web"}).texts("names") == ("web",)
    assert Parameters({"names": None}).texts("names") == ()


def test_a_whole_number_may_be_packed_as_a_float() -> None:
    assert Parameters({"x": 5e9}).number("x", 0, 2**40) == 5_000_000_000
    assert Parameters({"x": {"a": 2.0, "b": None}}).number_map("x", 0, 5) == {"a": 2, "b": None}


@pytest.mark.parametrize(
    ("take", "value"),
    [
        (lambda p: p.text("x"), 5),
        (lambda p: p.text("x"), b"\xff"),
        (lambda p: p.text("x"), "x" * 5000),
        (lambda p: p.flag("x"), 1),
        (lambda p: p.number("x", 0, 5), True),
        (lambda p: p.number("x", 0, 5), 6),
        (lambda p: p.number("x", 0, 5), 1.5),
        (lambda p: p.number("x", 0, 5), float("nan")),
        (lambda p: p.number("x", 0, 5), float("inf")),
        (lambda p: p.number_map("x", 0, 5), {"a": True}),
        (lambda p: p.text("x"), "\udcff"),
        (lambda p: p.texts("x"), ["good", "\udcff"]),
        (lambda p: p.texts("x"), [["nested"]]),
        (lambda p: p.text_map("x"), ["a"]),
        (lambda p: p.number_map("x", 0, 5), {"a": "1"}),
        (lambda p: p.number_map("x", 0, 5), None),
        (lambda p: p.choice("x", ("a",)), "b"),
    ],
)
def test_a_parameter_of_another_type_is_refused(take: object, value: object) -> None:
    assert callable(take)
    with pytest.raises(RequestError):
        take(Parameters({"x": value}))
