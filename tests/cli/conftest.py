from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test meet an instance of the machine it runs on, nor the specs of the checkout."""
    for name in ("RECONCILE_NAME", "RECONCILE_RUNTIME_DIR", "RECONCILE_STATE_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        "reconciler.cli.connection.places.SYSTEM_RUNTIME_ROOT", str(tmp_path / "run")
    )
    monkeypatch.setattr("reconciler.cli.connection.places.SYSTEM_STATE_ROOT", str(tmp_path / "lib"))
    monkeypatch.setenv(
        "XDG_RUNTIME_DIR", str(tmp_path)
    )  # it counts only when it is there and private
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager that is found by the environment."""
    with Manager(str(tmp_path / "shop")) as running:
        monkeypatch.setenv("RECONCILE_RUNTIME_DIR", running.runtime_dir)
        yield running
