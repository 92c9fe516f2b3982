"""The contracts of pyproject.toml bite: `make check` keeps them, and this shows that each can be broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.shape.source import PACKAGE, ROOT, project

# One planted import for each contract.
PLANTED = {
    "model/units.py": "import os",
    "controller/runtime/clock.py": "import reconciler.controller.specs",
    "core/__init__.py": "import reconciler.keeper",
    "keeper/__init__.py": "import reconciler.core",
    "keeper/listeners.py": "import reconciler.keeper.upkeep",
    "keeper/orphans.py": "import os",
    "cli/__init__.py": "import reconciler.controller",
    "cli/views/layout.py": "def late():\n    import reconciler.cli.connection.places",
    "hook/runner.py": "import click, cronsim, msgpack, msgspec, psutil, yaml",
}


def test_a_planted_import_breaks_its_contract(tmp_path: Path) -> None:
    copy = tmp_path / "reconciler"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line in PLANTED.items():
        with (copy / name).open("a") as file:
            file.write(f"\n{line}\n")

    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint_imports, "--no-cache", "--no-logo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    broken = re.findall(r"^(.+) BROKEN", result.stdout, re.MULTILINE)
    contracts = project()["tool"]["importlinter"]["contracts"]
    assert broken == [contract["name"] for contract in contracts], result.stdout
