from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.specfile.source import is_spec_name, spec_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("a.yaml", True), ("a.yml", True), ("a.json", False), (".a.yaml", False), (".#a.yaml", False),
        ("#a.yaml#", False), ("a.yaml~", False), ("a.yaml.swp", False), ("4913", False), ("~a.yaml", False),
    ],
)  # fmt: skip
def test_editors_temporaries_are_no_spec_files(name: str, belongs: bool) -> None:
    assert is_spec_name(name) is belongs


def test_a_folder_means_its_files_by_name_and_not_deeper(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", ".c.yaml", "readme.md", "deeper/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert spec_files(str(tmp_path)) == (str(tmp_path / "a.yml"), str(tmp_path / "b.yaml"))
