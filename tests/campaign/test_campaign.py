"""The campaigns in short; `make campaign` runs them at length."""

from __future__ import annotations

import os

import pytest

from tests.campaign.__main__ import campaign
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
