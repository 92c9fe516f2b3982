"""Claims about the commit of a spec: git's word, and nothing of the repository is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.controller.specs.repository import Commit, commit_of
from reconciler.controller.state.records import SourceFile
from tests.conftest import require_program

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    program = require_program("git", "apt install git")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = [program, "-C", str(folder), *IDENTITY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout whose folder specs has two committed files."""
    folder = tmp_path / "checkout"
    (folder / "specs").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "specs" / "a.yaml").write_text("watchers: {}\n")
    (folder / "specs" / "b.yaml").write_text("sockets: {}\n")
    (folder / "README").write_text("hello\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def asked(folder: Path) -> Commit | None:
    """Return the commit of a checkout's specs, read as they are now."""
    specs = folder / "specs"
    files = tuple(
        SourceFile(str(path), "digest", 0, 0, path.read_bytes()) for path in specs.glob("*.yaml")
    )
    return commit_of(files, (str(specs),))


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD")


def test_files_as_committed_are_clean(checkout: Path) -> None:
    assert asked(checkout) == Commit(head(checkout), dirty=False)
    (checkout / "README").write_text("what is no spec does not matter")
    assert asked(checkout) == Commit(head(checkout), dirty=False)


def test_an_edit_a_new_file_and_a_lost_one_are_differences(checkout: Path) -> None:
    one = checkout / "specs" / "a.yaml"
    one.write_text("watchers: {}\n\n")
    assert asked(checkout) == Commit(head(checkout), dirty=True)
    git(checkout, "add", ".")
    assert asked(checkout) == Commit(head(checkout), dirty=True)  # staged is not committed
    git(checkout, "reset", "-q", "--hard")
    (checkout / "specs" / "c.yaml").write_text("")
    assert asked(checkout) == Commit(head(checkout), dirty=True)
    (checkout / "specs" / "c.yaml").unlink()
    one.unlink()
    assert asked(checkout) == Commit(head(checkout), dirty=True)


@pytest.mark.parametrize("how", ["packed", "detached", "worktree", "link", "sha256"])
def test_every_kind_of_checkout_has_its_commit(checkout: Path, tmp_path: Path, how: str) -> None:
    where = checkout
    match how:
        case "packed":
            git(checkout, "pack-refs", "--all")
            git(checkout, "gc", "-q", "--prune=now")
        case "detached":
            git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
            git(checkout, "checkout", "-q", "--detach", "HEAD~1")
        case "worktree":
            where = tmp_path / "beside"
            git(checkout, "worktree", "add", "-q", "-b", "other", str(where))
            git(where, "commit", "-q", "--allow-empty", "-m", "elsewhere")
        case "link":
            where = tmp_path / "etc"
            where.mkdir()
            (where / "specs").symlink_to(checkout / "specs")
        case "sha256":
            where = tmp_path / "new"
            (where / "specs").mkdir(parents=True)
            git(where, "init", "-q", "--object-format=sha256")
            (where / "specs" / "a.yaml").write_text("watchers: {}\n")
            git(where, "add", ".")
            git(where, "commit", "-qm", "one")
    expected = head(checkout if how == "link" else where)
    assert asked(where) == Commit(expected, dirty=False)


def test_nothing_of_the_repository_is_run(checkout: Path, tmp_path: Path) -> None:
    spy, ran = tmp_path / "spy", tmp_path / "ran"
    spy.write_text(f"#!/bin/sh\necho $0 $* >>{ran}\ncat\n")
    spy.chmod(0o755)
    (checkout / "specs" / ".gitattributes").write_text("*.yaml filter=spy diff=spy\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "attributes")
    for key in ("core.fsmonitor", "core.pager", "filter.spy.clean", "filter.spy.smudge"):
        git(checkout, "config", key, str(spy))
    for key in ("diff.spy.textconv", "diff.external", "core.sshCommand", "alias.cat-file"):
        git(checkout, "config", key, f"!{spy}" if key.startswith("alias") else str(spy))
    for hook in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
        (checkout / ".git" / "hooks" / hook).symlink_to(spy)
    (checkout / "specs" / "a.yaml").write_text("watchers: {x: }\n")
    found = asked(checkout)
    assert not ran.exists()
    assert found == Commit(head(checkout), dirty=True)


def test_no_repository_or_an_empty_one_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("")
    assert asked(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert asked(tmp_path) is None
    (tmp_path / ".git" / "HEAD").write_text("nonsense")
    assert asked(tmp_path) is None


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away takes root")
def test_a_repository_of_somebody_else_is_not_asked(checkout: Path) -> None:
    for path in (checkout, checkout / ".git"):
        os.chown(path, 12345, 12345)
    assert asked(checkout) is None
