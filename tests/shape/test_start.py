"""What our programs import before they do anything: it costs every start, and its memory for as long as they live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOWHERE = {"asyncio", "click", "dataclasses", "logging", "psutil", "rich", "subprocess"}
NOT_IN: dict[str, set[str]] = {
    "keeper": {"hashlib", "ipaddress", "msgpack", "pathlib", "sqlite3", "threading", "yaml"},
    "controller": {"_hashlib", "cronsim", "ipaddress", "pathlib", "urllib", "yaml", "zoneinfo"},
    "specfile": {"_hashlib", "ipaddress", "msgpack", "socket", "sqlite3"},
}


@pytest.mark.parametrize("program", NOT_IN)
def test_what_is_not_needed_at_the_start_is_imported_late(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, reconciler.{program}.__main__; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert {*done.stdout.split()} & (NOWHERE | NOT_IN[program]) == set()
