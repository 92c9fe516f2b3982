from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.wire.manager_file import ManagerFile, is_same_source, read_manager_file


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("/a/x.yaml",), ("/a/x.yaml",), True),
        (("/a/x.yaml",), ("/a/y.yaml",), False),
        (("/a/x.yaml",), ("/b/x.yaml",), False),
        (("/a/x.yaml",), ("/a/x.yaml", "/b/y.yaml"), True),
        (("/a/x.yaml", "/b/y.yaml"), ("/b/y.yaml", "/a/x.yaml"), True),
        (("/a/specs",), ("/a/specs/x.yaml",), True),
        (("/a/specs/x.yaml",), ("/a/specs",), True),
        (("/a",), ("/a/specs/x.yaml",), False),
        (("/a/specs",), ("/b/specs",), False),
        ((), ("/a/x.yaml",), False),
    ],
)
def test_what_is_the_same_spec(
    one: tuple[str, ...], other: tuple[str, ...], *, is_same: bool
) -> None:
    assert is_same_source(one, other) is is_same


def test_where_a_link_leads_is_the_same_as_long_as_it_leads_there(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "x.yaml").touch()
    (tmp_path / "current").symlink_to("2")
    current = (str(tmp_path / "current/x.yaml"),)
    assert is_same_source(current, (str(tmp_path / "2/x.yaml"),))
    assert not is_same_source(current, (str(tmp_path / "1/x.yaml"),))


def test_what_was_written_is_read_and_anything_else_is_nothing(tmp_path: Path) -> None:
    assert read_manager_file(str(tmp_path)) is None
    written = ManagerFile("shop", "/run/x", ("/a/x.yaml", "/b"))
    written.write(str(tmp_path))
    assert read_manager_file(str(tmp_path)) == written
    for text in ("", "[]", "{}", '{"name": 1}', '{"name": "a", "runtime_dir": "b", "source": 1}'):
        (tmp_path / "manager.json").write_text(text)
        assert read_manager_file(str(tmp_path)) is None
