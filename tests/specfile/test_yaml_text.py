from __future__ import annotations

import pytest

from reconciler.model.errors import SpecError
from reconciler.specfile.reading import SourceText, text_of
from reconciler.specfile.yaml_text import compose, core_value, value_of


def composed(text: str) -> tuple[object, list[SpecError]]:
    errors: list[SpecError] = []
    node = compose(SourceText("f", text), errors.append)
    return (None if node is None else value_of(node)), errors


def refused(text: str) -> tuple[int, int, str]:
    value, errors = composed(text)
    assert value is None
    assert len(errors) == 1
    return errors[0].line, errors[0].column, errors[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None),
        ("true", True), ("False", False), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("0", 0), ("-12", -12), ("+3", 3), ("0o17", 15), ("0x1F", 31), ("022", "022"), ("00", "00"),
        ("1_000", "1_000"), ("22:22", "22:22"), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("01.5", "01.5"),
        (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"), ("0xFFFFFFFFFFFFFFFF", "0xFFFFFFFFFFFFFFFF"),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775808", "9223372036854775808"),
        ("2026-01-01", "2026-01-01"), ("=", "="),
        ("9" * 50, "9" * 50),
    ],
)  # fmt: skip
def test_unquoted_text_means_what_the_core_schema_says(text: str, value: object) -> None:
    assert (core_value(text), type(core_value(text))) == (value, type(value))


def test_quotes_make_text() -> None:
    assert composed("{a: '1', b: 1, c: \"true\", d: [~, '']}")[0] == {
        "a": "1",
        "b": 1,
        "c": "true",
        "d": [None, ""],
    }


def test_equal_keys_are_a_mistake_that_names_both_places() -> None:
    value, errors = composed("w:\n  a: {x: 1}\n  b: 2\n  a: 3\n")
    assert value == {"w": {"a": {"x": 1}, "b": 2}}
    assert [(e.line, e.column, e.field) for e in errors] == [(4, 3, "w.a")]
    assert "line 2, column 3" in errors[0].message


def test_merges_and_anchors() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2}\nc: {<<: [*b, *a], z: 3}\nd: {x: 0, <<: *a}\n"
    assert composed(text) == (
        {
            "a": {"x": 1, "y": 1},
            "b": {"y": 2},
            "c": {"z": 3, "y": 2, "x": 1},
            "d": {"x": 0, "y": 1},
        },
        [],
    )


def test_merging_what_is_no_map_is_a_mistake() -> None:
    assert [(e.line, e.column) for e in composed("a: &a 1\nb: {<<: *a}\n")[1]] == [(2, 5)]


def test_billion_laughs_are_refused() -> None:
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
    )
    assert "aliases of this file" in refused(laughs)[2]


def test_billion_laughs_by_merges_are_refused() -> None:
    laughs = "a0: &a0 {x: {}}\n" + "".join(
        f"a{i}: &a{i} {{{', '.join(f'k{n}: *a{i - 1}' for n in range(10))}}}\n"
        for i in range(1, 10)
    )
    assert "aliases of this file" in refused(laughs)[2]


@pytest.mark.parametrize("text", ["a: &x {b: *x}", "&x [*x]", "a: &x {b: {<<: *x}}"])
def test_an_alias_cycle_is_refused(text: str) -> None:
    assert "stands inside of what it stands for" in refused(text)[2]


def test_aliases_do_not_nest_deeper_than_text() -> None:
    deep = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 80))
    assert "nested deeper than 64" in refused(deep)[2]


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "- " * 20_000, "? " * 20_000])
def test_hostile_nesting_is_refused_at_64(text: str) -> None:
    assert "nested deeper than 64 levels" in refused(text)[2]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a:\n\t- b", 2, 1, "tab"),
        ("a: b: c", 1, 5, "second ':'"),
        ("a: 'x\n\nb: 1", 1, 4, "not closed"),
        ("x: 1\na: [1, 2\nb: 3", 2, 4, "not closed"),
        ("a: 1\nfoo\n", 2, 1, "expected ':'"),
        ("a: @x", 1, 4, "cannot begin with '@'"),
        ("a: *nope", 1, 4, "no &nope above"),
        ("a: !!python/object:os.system x", 1, 4, "!!python/object:os.system"),
        ("a: !mine x", 1, 4, "!mine"),
        ("a: !!str 5", 1, 4, "!!str"),
        ("a: 1\n---\nb: 2", 2, 1, "one document"),
        ("{[1]: 2}", 1, 2, "key must be text"),
        ("%YAML 3.0\n---\na: 1", 1, 1, "incompatible"),
    ],
)
def test_text_that_is_no_yaml_is_told_with_its_place(
    text: str, line: int, column: int, words: str
) -> None:
    found = refused(text)
    assert found[:2] == (line, column)
    assert words in found[2]


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [
        (b"a: 1\nb: x\xff\n", 2, 5, "0xff"),
        ("a: ä\nb: ä\0".encode(), 2, 5, "NUL"),
        (b"a: \x1b[1m", 1, 4, "U+001B"),
        ("a: 1".encode("utf-16"), 1, 1, "UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_told_with_their_place(
    data: bytes, line: int, column: int, words: str
) -> None:
    found = text_of("f", data)
    assert isinstance(found, SpecError)
    assert (found.line, found.column) == (line, column)
    assert words in found.message + found.hint


def test_a_byte_order_mark_and_windows_lines_are_accepted() -> None:
    text = text_of("f", b"\xef\xbb\xbfa: 1\r\nb: [1,\r\n 2]\r\n")
    assert isinstance(text, SourceText)
    assert composed(text.text) == ({"a": 1, "b": [1, 2]}, [])
