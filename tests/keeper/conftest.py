from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeper.rig import Link, Rig, keeper


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    chosen = {"RECONCILE_NAME": "x", "RECONCILE_RUNTIME_DIR": "/x", "RECONCILE_STATE_DIR": "/x"}
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SECRET": "x", **chosen}
    with keeper(tmp_path, env=env) as rig:
        yield rig


@pytest.fixture
def link(rig: Rig) -> Link:
    return rig.link()
