"""What every room's tests share: programs of the machine, and how hypothesis behaves."""

from __future__ import annotations

import gc
import os
import shutil
import sys

import pytest
from hypothesis import settings

# What is compiled is kept, though the environment says otherwise: tests start thousands of interpreters.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A deadline would test how busy the machine is.
settings.register_profile("reconcile", deadline=None, print_blob=True)
settings.load_profile("reconcile")

# Folders of tests lie in memory where there is room: no test cuts the power, and syncing to a disk is waiting.
MEMORY = "/dev/shm"
if (
    os.access(MEMORY, os.W_OK)
    and shutil.disk_usage(MEMORY).free > 2**30
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms whose single tests are long: at the end no worker waits for another."""
    items.sort(key=lambda item: item.path.parent.name not in {"campaign", "e2e", "sim"})


def pytest_collection_finish() -> None:
    """Spare the garbage collector thousands of tests, which nobody throws away."""
    gc.freeze()


def require_program(name: str, how_to_install: str) -> str:
    """Return the path of a program; without it the test is skipped, and says how to install it.

    `RECONCILE_REQUIRE_SERVERS=1` makes the test fail instead: where everything should be installed,
    a skipped test proves nothing and nobody would see it.
    """
    # gunicorn and uvicorn live beside the interpreter; Debian keeps servers where only root's path looks.
    places = [
        os.path.dirname(sys.executable),
        os.environ.get("PATH", os.defpath),
        "/usr/local/sbin",
        "/usr/sbin",
    ]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is not None:
        return path
    message = f"{name} is not installed; try: {how_to_install}"
    if os.environ.get("RECONCILE_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)
