"""How the files look that a watcher watches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.controller.specs import trees
from reconciler.controller.specs.trees import Tree, differences, look_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    (app / "sub").mkdir(parents=True)
    (app / "main.py").write_text("one")
    (app / "sub" / "part.py").write_text("two")
    (app / "link").symlink_to("main.py")
    return app


def look(*paths: Path, ignore: tuple[str, ...] = ()) -> Tree:
    return look_at(tuple(map(str, paths)), ignore)


def changed(before: Tree, after: Tree) -> list[str]:
    return [os.path.basename(path) for path in differences(before.entries, after.entries)[0]]


def replace_with_the_same_times(app: Path) -> None:
    path, beside = app / "main.py", app.parent / "new"
    status = path.stat()
    beside.write_text("eno")
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.replace(path)


def edit(app: Path) -> None:
    (app / "main.py").write_text("three and more")


def edit_below(app: Path) -> None:
    (app / "sub" / "part.py").write_text("three and more")


def move_link(app: Path) -> None:
    (app / "link").unlink()
    (app / "link").symlink_to("sub/part.py")


def add(app: Path) -> None:
    (app / "sub" / "new.py").touch()


def remove(app: Path) -> None:
    (app / "sub" / "part.py").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edit, ["main.py"]),
        (edit_below, ["part.py"]),
        (replace_with_the_same_times, ["main.py"]),
        (move_link, ["link"]),
        (add, ["new.py"]),
        (remove, ["part.py"]),
    ],
)
def test_every_change_is_another_digest(
    app: Path, change: Callable[[Path], None], expected: list[str]
) -> None:
    before = look(app)
    assert look(app).digest == before.digest
    change(app)
    after = look(app)
    assert after.digest != before.digest
    assert changed(before, after) == expected


def test_caches_repositories_and_temporary_files_do_not_count(app: Path) -> None:
    before = look(app, ignore=("*.log", "sub/data", "/media/*/raw"))
    for name in (
        ".git/index", "__pycache__/main.pyc", "sub/__pycache__/part.pyc", "node_modules/x/index.js", ".main.py.swp",
        "main.py~", ".#main.py", "sub/.mypy_cache/x", "a.log", "sub/b.log", "sub/data/deep/x",
    ):  # fmt: skip
        path = app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    after = look(app, ignore=("*.log", "sub/data", "/media/*/raw"))
    assert (after.digest, after.folders) == (before.digest, frozenset({str(app), f"{app}/sub"}))
    assert look(app).digest != before.digest
    (app / "data").mkdir()
    assert look(app, ignore=("*.log", "sub/data", "/media/*/raw")).digest != before.digest


def test_what_is_named_itself_is_never_ignored(tmp_path: Path) -> None:
    folder = tmp_path / ".git"
    folder.mkdir()
    before = look(folder)
    (folder / "HEAD").touch()
    assert look(folder).digest != before.digest


def test_a_link_that_comes_to_lead_elsewhere_is_a_change(tmp_path: Path) -> None:
    for release in ("41", "42"):
        (tmp_path / "releases" / release).mkdir(parents=True)
    current = tmp_path / "releases" / "current"
    current.symlink_to("41")
    before = look(current)
    current.unlink()
    assert look(current).digest not in {before.digest, ""}
    current.symlink_to("42")
    assert look(current).digest != before.digest
    current.unlink()
    current.symlink_to("41")
    assert look(current).digest == before.digest


def test_a_file_and_what_is_missing_are_watched_where_they_lie_and_lead(tmp_path: Path) -> None:
    (tmp_path / "real.conf").touch()
    (tmp_path / "link.conf").symlink_to("real.conf")
    seen = look(tmp_path / "link.conf", tmp_path / "gone")
    places = {str(tmp_path / name) for name in ("link.conf", "real.conf", "gone")}
    assert (seen.places, seen.folders) == (places, frozenset())


def test_too_much_is_told_and_says_nothing_of_what_is_there(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_WATCHED_FILES", 3)
    seen = look(app)
    assert (seen.digest, seen.trouble) == (
        "",
        f"there are more than 3 files below {app}; watch less of it, or ignore more",
    )


def test_names_that_are_no_text_and_folders_that_cannot_be_read_are_looked_at(app: Path) -> None:
    os.mkdir(os.fsencode(app) + b"/\xff")
    before = look(app)
    os.close(os.open(os.fsencode(app) + b"/\xff/\xfe", os.O_CREAT))
    assert look(app).digest not in {before.digest, ""}
