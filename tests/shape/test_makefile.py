"""The Makefile says what is missing, and `make clean` removes what was built and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import require_program
from tests.shape.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BUILT = [".venv/made", ".venv-peers/made", ".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x", ".hypothesis/x",
         "build/x", "dist/x.whl",
         "reconciler/__pycache__/x.pyc", "tests/core/__pycache__/x.pyc"]  # fmt: skip


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = require_program("make", "apt install make")
    return subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def fake_python(folder: Path, *, fails_on: str) -> Path:
    """Return a Python that fails on code that holds `fails_on`, and succeeds without doing anything else."""
    path = folder / "fake-python"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in -V) echo Python 3.9.2;; *"{fails_on}"*) exit 1;; esac\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the set-up reads, and nothing set up."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_what_help_offers_is_done(checkout: Path) -> None:
    offered = re.findall(r"^make ([\w-]+)", make(checkout, "help").stdout, re.MULTILINE)
    assert {"run", "test", "check", "sim", "campaign", "fuzz", "bench"} <= {*offered}
    for target in offered:
        said = make(checkout, "--dry-run", target).stdout
        assert "python" in said or "reconcile" in said or "rm " in said, target


def test_an_old_python_is_refused_with_its_version(checkout: Path) -> None:
    python = fake_python(checkout, fails_on="version_info")
    result = make(checkout, "run", f"PYTHON=./{python.name}")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer, './fake-python' is Python 3.9.2" in result.stdout
    assert "make PYTHON=python3.12 run" in result.stdout


def test_a_missing_venv_module_is_told_with_its_mend(checkout: Path) -> None:
    python = fake_python(checkout, fails_on="ensurepip")
    result = make(checkout, "test", f"PYTHON=./{python.name}")
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stdout
    assert not (checkout / ".venv").exists()


def test_what_is_set_up_is_not_set_up_again_until_the_checkout_moves(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/made").write_text(f"{checkout}\n")
    for stamp in ("run", "dev"):
        (checkout / ".venv" / stamp).touch()
    assert "pip" not in make(checkout, "-n", "run", "test").stdout
    moved = checkout.rename(checkout.with_name("moved"))
    assert "venv --clear .venv" in make(moved, "-n", "run").stdout


def test_clean_removes_what_was_built_and_nothing_that_git_tracks(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    git = require_program("git", "apt install git")
    listing = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = sorted(name for name in listing.stdout.split("\0") if name)
    for name in [*tracked, *BUILT]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)

    result = make(tmp_path, "clean")

    assert result.returncode == 0, result.stderr
    assert (
        sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
        == tracked
    )
