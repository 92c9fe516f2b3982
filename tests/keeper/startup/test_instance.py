"""Claims about what is there before anything is started."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from reconciler.keeper.startup import instance
from reconciler.keeper.startup.config import KeeperConfig
from reconciler.keeper.startup.instance import claim, open_control

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_the_control_socket_is_shut_until_it_is_as_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    place = str(tmp_path / "run")
    asked = KeeperConfig("test", str(tmp_path / "state"), place, (), control_mode=mode)
    path, chmod, seen = asked.control_socket, os.chmod, []

    def look(target: str, *rest: int) -> None:
        if target == path:
            with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
                early.connect(path)
            seen.append(stat.S_IMODE(os.lstat(path).st_mode))
        chmod(target, *rest)

    monkeypatch.setattr(instance.os, "chmod", look)
    umask = os.umask(0)
    try:
        claim(asked)
        open_control(asked).close()
    finally:
        os.umask(umask)
    assert len(seen) == 1
    assert not seen[0] & 0o177
    assert stat.S_IMODE(os.lstat(path).st_mode) == mode
