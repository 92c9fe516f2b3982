"""Claims about the real kernel layer that need no whole keeper."""

from __future__ import annotations

import os
import signal

from reconciler.keeper.borders import Faults
from reconciler.keeper.linux.kernel import LinuxKernel
from reconciler.keeper.linux.loop import Loop
from reconciler.system.pidfds import Pidfds


class Interrupted(Pidfds):
    """A child dies at the worst moment: when the answer of a look is there and nobody has it yet."""

    def look(self) -> bool:
        found = super().look()
        signal.raise_signal(signal.SIGCHLD)
        return found


def test_a_death_that_is_told_during_a_look_at_adopted_ones_is_not_forgotten() -> None:
    kernel = object.__new__(LinuxKernel)
    kernel._loop, kernel._pidfds = Loop(Faults(lambda *_, **__: None).border), Interrupted({})
    kernel._loop.may_reap = False

    def note(_number: int, _frame: object) -> None:
        kernel._loop.may_reap = True

    before = signal.signal(signal.SIGCHLD, note)
    try:
        kernel._look_at_adopted()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert kernel._loop.may_reap


def test_others_are_seen_beside_a_descriptor() -> None:
    loop = Loop(Faults(lambda *_, **__: None).border)
    (first, to_first), (second, to_second) = os.pipe(), os.pipe()
    for end in (first, second):
        loop.watch(end, lambda: None)
    os.write(to_first, b"x")
    assert not loop.others_wait(first)
    os.write(to_second, b"x")
    assert loop.others_wait(first)
    loop.selector.close()
    for end in (first, to_first, second, to_second):
        os.close(end)
