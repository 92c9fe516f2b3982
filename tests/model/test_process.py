"""Claims about how processes end."""

from __future__ import annotations

import signal

import pytest

from reconciler.model.process import Exit, LaunchError
from reconciler.model.units import signal_number
from reconciler.system.procfs import signal_name


def test_signals_have_the_numbers_of_this_machine() -> None:
    numbers = [number for number in range(1, 65) if number in signal.valid_signals()]
    assert [signal_number(signal_name(number)) for number in numbers] == numbers
    assert (signal_number("RTMIN"), signal_number("RTMAX-2"), signal_number("NO")) == (34, 62, None)


@pytest.mark.parametrize(
    ("exit", "code"),
    [
        (Exit(code=7), 7),
        (Exit(signal="TERM"), 143),
        (Exit(error=LaunchError("exec", "ENOENT")), 127),
        (Exit(error=LaunchError("chdir", "ENOENT")), 126),
        (Exit(), 1),
    ],
)
def test_an_end_has_the_exit_code_that_a_shell_gives_it(exit: Exit, code: int) -> None:
    assert exit.as_code == code
