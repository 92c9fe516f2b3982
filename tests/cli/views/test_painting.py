from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.views.layout import Cell, Table, Wrapped, clean, clean_output, width_of
from reconciler.cli.views.painting import paint


def test_columns_are_aligned() -> None:
    table = Table(("A", "NOTE"), [(Cell("long name"), Cell("x")), (Cell("b"), Cell("y"))])

    assert paint([table]) == ["A          NOTE", "long name  x", "b          y"]


def test_a_page_without_an_edge_neither_wraps_nor_drops_columns() -> None:
    note = "word " * 60 + "end"

    assert paint([Table(("A", "B", "NOTE"), [(Cell("1"), Cell("2"), Cell(note))], ("B",))]) == [
        "A  B  NOTE",
        "1  2  " + note,
    ]


def test_expendable_columns_go_in_order_until_the_page_is_wide_enough() -> None:
    row = Cell("name"), Cell("x" * 10), Cell("y" * 10), Cell("z" * 24)
    table = Table(("A", "B", "C", "NOTE"), [row], ("C", "B"))

    assert paint([table], width=60)[0] == "A     B           C           NOTE"
    assert paint([table], width=50)[0] == "A     B           NOTE"
    assert paint([table], width=32)[0] == "A     NOTE"


def test_the_last_column_wraps_below_itself() -> None:
    table = Table(("A", "NOTE"), [(Cell("name"), Cell("one two three four five six seven"))])

    assert paint([table], width=30) == [
        "A     NOTE",
        "name  one two three four five",
        "      six seven",
    ]


def test_wide_characters_take_two_columns() -> None:
    table = Table(("A", "NOTE"), [(Cell("日本"), Cell("x")), (Cell("abcd"), Cell("y"))])

    assert paint([table])[1:] == ["日本  x", "abcd  y"]


def test_colours_stand_around_the_text_and_not_around_the_padding() -> None:
    table = Table(("A", "NOTE"), [(Cell("on", "good"), Cell("x"))])

    assert paint([table], colour=True)[1] == "\x1b[32mon\x1b[0m  x"


def test_a_wrapped_line_is_indented() -> None:
    block = Wrapped((Cell("web: "), Cell("one two three four five six seven eight")), 4)

    assert paint([block], width=30) == ["web: one two three four five", "    six seven eight"]


def test_controls_are_escaped() -> None:
    assert clean("a\x1b[2Jb\x07\x9b\u202e\r\n") == "a\\x1b[2Jb\\x07\\x9b\\u202e\\r\\n"


def test_output_loses_its_colours_and_keeps_its_tabs() -> None:
    assert clean_output(b"\x1b[1;32mINFO\x1b[0m\tok \xff\x1b]0;title\x07\r\n") == (
        "INFO\tok \\xff\\x1b]0;title\\x07"
    )


@given(st.binary())
def test_no_output_speaks_to_the_terminal(data: bytes) -> None:
    shown = clean_output(data)

    assert not [
        character
        for character in shown
        if character != "\t"
        and not character.isprintable()
        and character not in " \xa0\u3000"
        and ord(character) < 0xA0
    ]


@given(
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x3100, exclude_categories=["C", "Z", "M"])
    ),
    st.integers(30, 60),
)
def test_wrapping_keeps_the_text_and_the_width(text: str, width: int) -> None:
    table = Table(("A", "NOTE"), [(Cell("name"), Cell(text))])
    lines = paint([table], width=width)

    shown = "".join(line.removeprefix("name") for line in lines[1:]).replace(" ", "")
    assert shown == text
    assert all(width_of(line) <= width for line in lines)
