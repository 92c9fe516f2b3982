from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.template import expand as expand_for_slot
from reconciler.specfile.reading import SourceText
from reconciler.specfile.substitute import Scope, SubstitutionError, expand
from reconciler.specfile.yaml_text import Scalar

_FILE = SourceText("f", "")


def _scalar(text: str) -> Scalar:
    return Scalar(_FILE, 1, 1, 1, 1, text, plain=True)


SCOPE = Scope(
    variables={
        name: _scalar(text)
        for name, text in {
            "root": "/srv", "deep": "${root}/app", "loop": "${pool}", "pool": "${loop}", "empty": "",
            "price": "5$$", "dollar": "$", "brace": "{slot}", "worker": "w${slot}",
        }.items()
    },
    environ={"HOME": "/root", "PRICE": "5$", "USER": "ann"},
    extensions={"x-team": _scalar("shop")},
    sockets={"http": None, "admin": None},
    watcher="web",
)  # fmt: skip
FINAL = {"per_slot": False, "sockets": False}
SLOT = {"per_slot": True, "sockets": True}


@pytest.mark.parametrize(
    ("text", "final", "template"),
    [
        ("plain", "plain", "plain"),
        ("${deep}/${watcher}", "/srv/app/web", "/srv/app/web"),
        ("$$HOME $HOME", "$HOME $HOME", "$$HOME $HOME"),
        ("${env.PRICE}", "5$", "5$$"),
        ("${price}", "5$", "5$$"),
        ("${nope:-x}${empty:-y}${env.NOPE:-${root}}", "xy/srv", "xy/srv"),
        ("${x-team}", "shop", "shop"),
        ("a$", "a$", "a$$"),
        ("$${root}", "${root}", "$${root}"),
    ],
)
def test_references_become_text(text: str, final: str, template: str) -> None:
    assert (expand(text, SCOPE, **FINAL), expand(text, SCOPE, **SLOT)) == (final, template)


def test_what_only_a_slot_knows_stays_as_it_is() -> None:
    text = expand("${worker} fd://${sockets.http}", SCOPE, **SLOT)
    assert text == "w${slot} fd://${sockets.http}"


@pytest.mark.parametrize(
    ("text", "of_slot_1", "of_slot_12"),
    [
        ("${slot}", "1", "12"),
        ("${slot+7999}", "8000", "8011"),
        ("${slot-1}", "0", "11"),
        ("${slot:03}", "001", "012"),
        ("${slot-1:02}/${slot+7999:05}$$", "00/08000$", "11/08011$"),
        ("${base}", "8000", "8011"),
        ("${slot-name}", "x", "x"),
    ],
)
def test_a_number_is_added_to_that_of_the_slot(text: str, of_slot_1: str, of_slot_12: str) -> None:
    variables = {"base": _scalar("${slot+7999}"), "slot-name": _scalar("x")}
    template = expand(text, Scope(variables, {}, {}, {}), **SLOT)
    assert (expand_for_slot(template, 1, {}), expand_for_slot(template, 12, {})) == (
        of_slot_1,
        of_slot_12,
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("${slot + 7999}", "write: ${slot+7999}"),
        ("${slot -1}", "write: ${slot-1}"),
        ("${slot-2}", "only ${slot-1} is never below 0"),
        ("${slot*2}", "a number is added, as in ${slot+7999}"),
        ("${slot+base}", "a number is added"),
        ("${slot:2}", "a width is written ${slot:02}"),
        ("${slot+1+1}", "a number is added"),
        ("${slot+7999:-1}", "a number is added"),
        ("${slot+12345678901}", "a number is added"),
    ],
)
def test_what_else_is_calculated_with_a_slot_is_a_mistake(text: str, hint: str) -> None:
    with pytest.raises(SubstitutionError) as caught:
        expand(text, SCOPE, **SLOT)
    assert caught.value.message == f"cannot read '{text}'"
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${slot+1}", "'${slot+1}' cannot be used here", "cmd"),
        ("${slot:-1}", "${slot} has no default", "always set"),
        ("${rot}", "the variable 'rot' is not set", "did you mean 'root'?"),
        ("${HOME}", "the variable 'HOME' is not set", "${env.HOME}"),
        ("${env.USR}", "the environment variable 'USR' is not set", "did you mean 'USER'?"),
        ("${x-teem}", "'x-teem' is not set", "did you mean 'x-team'?"),
        ("${slot}", "'${slot}' cannot be used here", "cmd"),
        ("${sockets.http}", "'${sockets.http}' cannot be used here", "cmd"),
        ("${loop}", "stands inside of its own value", "loop -> pool -> loop"),
        ("${root", "not closed", "$$"),
        ("${#array[@]}", "expected a name", "$$"),
    ],
)
def test_a_reference_to_nothing_is_a_mistake_with_what_to_try(
    text: str, message: str, hint: str
) -> None:
    with pytest.raises(SubstitutionError) as caught:
        expand(text, SCOPE, **FINAL)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_unknown_socket_is_a_mistake() -> None:
    with pytest.raises(SubstitutionError) as caught:
        expand("${sockets.htp}", SCOPE, **SLOT)
    assert (caught.value.message, caught.value.hint) == (
        "there is no socket 'htp'",
        "did you mean 'http'?",
    )


def test_variables_that_double_each_other_are_refused() -> None:
    variables = {"v0": _scalar("x" * 100)}
    variables |= {f"v{i}": _scalar(f"${{v{i - 1}}}" * 10) for i in range(1, 12)}
    with pytest.raises(SubstitutionError, match="longer than"):
        expand("${v11}", Scope(variables, {}, {}, {}), **FINAL)


@given(st.text(alphabet="$${}slotbrace.:-root ax", max_size=40))
def test_a_template_expands_to_what_final_text_would_have_been(text: str) -> None:
    """For text without ${slot}: the core's expansion of our template is our final text."""
    try:
        final = expand(text, SCOPE, **FINAL)
    except SubstitutionError:
        return
    assert expand_for_slot(expand(text, SCOPE, **SLOT), 7, {}) == final
