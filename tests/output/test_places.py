"""Claims about reaching log files: through no link that others may change, at any depth."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.output import places
from reconciler.output.places import folder_of, open_log
from tests.descriptors import own_descriptors

CREATE = os.O_RDWR | os.O_CREAT
NO_SUCH_CALL = 9999
NOBODY = 65534


@pytest.fixture(autouse=True, params=["openat2", "walk"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both on this kernel and on one that does not know openat2(2)."""
    if request.param == "walk":
        monkeypatch.setattr(places, "_OPENAT2", NO_SUCH_CALL)


def descriptors() -> int:
    return len(own_descriptors())


def refused(path: Path, flags: int = CREATE, *, make: bool = False) -> OSError:
    before = descriptors()
    with pytest.raises(OSError) as caught:
        open_log(str(path), flags, make=make)
    assert descriptors() == before
    return caught.value


def others_may_change(folder: Path, how: str) -> None:
    if how == "everybody":
        folder.chmod(0o777)
        return
    if os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    os.chown(folder, NOBODY, NOBODY)


@pytest.mark.parametrize("how", ["everybody", "its owner"])
@pytest.mark.parametrize("make", [False, True])
@pytest.mark.parametrize("tail", ["out.txt", "deep/er/out.txt"])
def test_no_link_is_followed_that_others_may_change(
    tmp_path: Path, how: str, tail: str, make: bool
) -> None:
    secret, app = tmp_path / "secret", tmp_path / "app"
    (secret / "deep").mkdir(parents=True)
    app.mkdir()
    (app / "logs").symlink_to(secret)
    others_may_change(app, how)
    error = refused(app / "logs" / tail, make=make)
    said = (error.errno, error.filename, error.strerror)
    assert said == (errno.ELOOP, str(app / "logs"), "a symbolic link that others may change")
    assert sorted(each.name for each in secret.rglob("*")) == ["deep"]


def test_a_link_is_followed_that_only_root_and_we_may_change(tmp_path: Path) -> None:
    """As /var/run, and a `current` that the manager's user switches; relative, absolute, and one after the other."""
    (tmp_path / "releases" / "2" / "logs").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/2")
    (tmp_path / "again").symlink_to(tmp_path / "releases" / ".." / "current")
    os.close(open_log(str(tmp_path / "again" / "logs" / "web.log"), CREATE))
    os.close(open_log(str(tmp_path / "current" / "new" / "web.log"), CREATE, make=True))
    found = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.glob("releases/2/*/*"))
    assert found == ["releases/2/logs/web.log", "releases/2/new/web.log"]


@pytest.mark.parametrize("how", ["everybody", "its owner"])
def test_below_a_folder_that_others_may_change_no_link_is_safe(tmp_path: Path, how: str) -> None:
    """Its owner can move our folder away, and the link with it."""
    ours = tmp_path / "theirs" / "ours"
    ours.mkdir(parents=True)
    (tmp_path / "target").mkdir()
    (ours / "logs").symlink_to(tmp_path / "target")
    others_may_change(tmp_path / "theirs", how)
    assert refused(ours / "logs" / "web.log").errno == errno.ELOOP
    os.close(open_log(str(ours / "web.log"), CREATE))


def test_where_only_owners_rename_our_own_links_are_safe(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (tmp_path / "target").mkdir()
    shared.mkdir()
    (shared / "ours").symlink_to(tmp_path / "target")
    (shared / "theirs").symlink_to(tmp_path / "target")
    shared.chmod(0o1777)
    os.close(open_log(str(shared / "ours" / "web.log"), CREATE))
    if os.geteuid() == 0:
        os.chown(shared / "theirs", NOBODY, NOBODY, follow_symlinks=False)
        assert refused(shared / "theirs" / "web.log").errno == errno.ELOOP


def test_the_file_itself_is_never_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "web.log").symlink_to("precious")
    error = refused(tmp_path / "web.log")
    assert (error.errno, error.filename) == (errno.ELOOP, str(tmp_path / "web.log"))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refused(tmp_path / "a" / "web.log").errno == errno.ELOOP


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    missing = refused(tmp_path / "no" / "web.log")
    assert (missing.errno, missing.filename) == (errno.ENOENT, str(tmp_path / "no"))
    assert refused(tmp_path / "file" / "web.log", make=True).errno == errno.ENOTDIR
    assert refused(tmp_path / "file" / "deep" / "web.log", make=True).errno == errno.ENOTDIR
    assert refused(tmp_path / "fifo", os.O_RDONLY).strerror == "not a regular file"


def test_a_folder_that_is_moved_away_stays_the_one_that_is_held(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "other").mkdir()
    with folder_of(str(tmp_path / "logs" / "web.log")) as (folder, name):
        (tmp_path / "logs").rename(tmp_path / "moved")
        (tmp_path / "logs").symlink_to("other")
        os.close(os.open(name, CREATE, dir_fd=folder))
    assert [each.name for each in (tmp_path / "moved").iterdir()] == ["web.log"]
