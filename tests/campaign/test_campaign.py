"""The campaigns in short; `make campaign` runs them at length."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from tests.campaign.__main__ import campaign
from tests.campaign.arena import Said, is_there
from tests.campaign.kinds import KINDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TIMES = {"controller": 5, "keeper": 2, "upgrade": 2, "both": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_doubled(kind: str) -> None:
    seed = int(os.environ.get("RECONCILE_SEED", "5"))
    losses = campaign(kind, TIMES[kind], seed)
    assert losses.is_clean, losses
    assert losses.connections > 100
    assert losses.lines > 100


def test_who_has_the_number_of_one_that_told_of_itself_and_is_gone_is_another() -> None:
    me = ("w.1", "x/w.1/1", "child", (os.getpid(), 0))
    now, before = (Said(*me[:2], at_ns, *me[2:]) for at_ns in (time.monotonic_ns(), 10**9))
    assert (is_there(now), is_there(before)) == (True, False)
    assert not is_there(replace(now, numbers=(2**22, 0)))
