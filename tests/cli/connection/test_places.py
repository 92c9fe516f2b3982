from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.cli.connection import places
from reconciler.cli.errors import Refused

UID = os.geteuid() or 1234


@pytest.fixture(autouse=True)
def _ordinary_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user whose environment says nothing, whose account is unknown, and who is not root."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME", "PWD"):
        monkeypatch.delenv(name, raising=False)
    if os.geteuid() == 0:
        monkeypatch.setattr(places, "temporary_root", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr("os.geteuid", lambda: UID)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)


def test_without_home_and_account_both_lie_below_one_folder(tmp_path: Path) -> None:
    root = places.temporary_root()
    assert (places.runtime_root(), places.state_root()) == (root, f"{root}/.state")
    assert places.is_temporary(f"{root}/.state/shop")
    assert not places.is_temporary(str(tmp_path))


def test_variables_count_only_when_they_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("XDG_RUNTIME_DIR", "relative"),
        ("XDG_STATE_HOME", "relative"),
        ("HOME", "relative"),
    ):
        monkeypatch.setenv(name, value)
    assert places.state_root() == f"{places.temporary_root()}/.state"
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("HOME", str(file))
    assert places.state_root() == f"{places.temporary_root()}/.state"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.state_root() == str(tmp_path / "home/.local/state/reconcile")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert places.state_root() == str(tmp_path / "xdg/reconcile")


def test_an_account_has_the_same_state_folder_with_and_without_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Account:
        pw_dir = str(tmp_path / "home")

    monkeypatch.setattr("pwd.getpwuid", lambda _: Account)
    without = places.state_root()
    monkeypatch.setenv("HOME", Account.pw_dir)
    assert without == places.state_root() == str(tmp_path / "home/.local/state/reconcile")


@pytest.mark.skipif(os.getuid() != 0, reason="makes a folder of somebody else")
def test_a_folder_that_somebody_else_has_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    root = tmp_path / "temporary"
    root.mkdir(mode=0o755)
    for uid, mode in ((0, 0o755), (UID, 0o777)):
        os.chown(root, uid, -1)
        root.chmod(mode)
        for ask in (places.runtime_root, lambda: places.make_root_of(f"{root}/.state/shop")):
            with pytest.raises(Refused, match="not a folder that only this user can write to"):
                ask()


def test_the_folder_is_named_as_it_was_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "current").symlink_to("1")
    monkeypatch.chdir(tmp_path / "current")
    for pwd, expected in (
        ("current", "current"),
        ("2", "1"),
        ("missing", "1"),
        ("2/../current", "1"),
    ):
        monkeypatch.setenv("PWD", f"{tmp_path}/{pwd}")
        assert places.working_dir() == f"{tmp_path}/{expected}"
    monkeypatch.delenv("PWD")
    assert places.working_dir() == f"{tmp_path}/1"
    (tmp_path / "1").rmdir()
    with pytest.raises(Refused, match="no longer exists"):
        places.working_dir()
