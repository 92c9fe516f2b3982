"""Root believes only what nobody else could have written. Who reads is made up, the files are real."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.specfile.loading import read_spec
from reconciler.specfile.reading import Reader
from reconciler.specfile.trust import ALLOW, Trust

if TYPE_CHECKING:
    from tests.specfile.files import Folder

SPEC = "watchers: {web: {cmd: serve}}"


def reader(uid: int = 0, gid: int | None = None, *, allow: bool = False) -> Reader:
    """One that reads as this user. What whoever runs the tests has made is believed as root's is."""
    trust = Trust(uid=uid, gid=uid if gid is None else gid, hidden=os.geteuid())
    return Reader(trust=trust, allow_writable=allow)


@pytest.mark.parametrize(
    ("file", "inner", "doubted"),
    [
        (0o644, 0o755, ""),
        (0o666, 0o755, "spec.yaml"),
        (0o644, 0o777, "inner"),
        (0o644, 0o1777, ""),  # in a sticky folder only the owner may rename or remove
        (0o646, 0o1777, "spec.yaml"),
    ],
)
def test_root_refuses_a_file_that_others_may_write_or_replace(
    folder: Folder, file: int, inner: int, doubted: str
) -> None:
    (path,) = folder.write(inner__spec=SPEC)
    Path(path).chmod(file)
    Path(path).parent.chmod(inner)
    found = reader().read(path)
    message = getattr(found, "message", "")
    assert doubted in message if doubted else message == "", found


def test_a_folder_whose_files_are_read_must_not_let_others_add_any(folder: Folder) -> None:
    folder.write(spec=SPEC)
    folder.path.chmod(0o1777)
    found = reader().distrusted(str(folder.path), lists_it=True)
    assert found is not None
    assert f"{folder.path} has mode 1777: everybody may write to it" in found.message
    assert "chmod go-w" in found.hint


def test_where_a_link_leads_is_looked_at_too(folder: Folder) -> None:
    (path,) = folder.write(open__spec=SPEC)
    Path(path).parent.chmod(0o777)
    link = folder.path / "link.yaml"
    link.symlink_to(path)
    found = reader().distrusted(str(link))
    assert found is not None and "open has mode 0777" in found.message


def test_ones_own_group_is_oneself_but_not_for_root(folder: Folder) -> None:
    (path,) = folder.write(spec=SPEC)
    gid = Path(path).stat().st_gid
    Path(path).chmod(0o664)
    mine = reader(1000, gid)
    assert mine.distrusted(path) is None and not mine.warnings
    if gid != 0:
        assert reader().distrusted(path) is not None


def test_anybody_but_root_is_only_warned_and_so_is_root_when_it_says_so(folder: Folder) -> None:
    (path,) = folder.write(spec=SPEC)
    Path(path).chmod(0o666)
    for one in (reader(1000), reader(0, allow=True)):
        assert one.distrusted(path) is None
        one.distrusted(path)
        assert ["mode 0666" in each.message for each in one.warnings] == [True]


def test_environment_files_and_included_files_are_judged_like_the_spec(folder: Folder) -> None:
    text = "include: [more.yaml]\nwatchers: {web: {cmd: serve, env_file: [secrets.env]}}"
    (spec, more) = folder.write(spec=text, more="{}", secrets_env="A=b")
    for path in (more, str(folder.path / "secrets.env")):
        Path(path).chmod(0o666)
    outcome = read_spec([spec], {ALLOW: "1"})
    assert outcome.spec is not None
    assert sorted(Path(each.path).name for each in outcome.warnings) == ["more.yaml", "secrets.env"]


# ---- whose it is ---------------------------------------------------------------------------------

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of somebody else")
SOMEBODY = 12347


@AS_ROOT
@pytest.mark.parametrize("owned", ["inner/spec.yaml", "inner", "."])
@pytest.mark.parametrize("sticky", [0, 0o1000])
def test_what_belongs_to_somebody_else_can_be_written_by_him(
    folder: Folder, owned: str, sticky: int
) -> None:
    (path,) = folder.write(inner__spec=SPEC)
    place = folder.path / owned
    os.chown(place, SOMEBODY, -1)
    if place.is_dir():
        place.chmod(0o755 | sticky)
    found = reader().read(path)
    assert f"{place} belongs to uid {SOMEBODY}, who may write to it" in getattr(
        found, "message", ""
    )
    assert "--allow-writable-specs" in getattr(found, "hint", "")
    # Its owner may read it, as may root when it says so; and a third one is warned.
    assert not reader(SOMEBODY).warnings
    for one, warnings in ((reader(SOMEBODY), 0), (reader(allow=True), 1), (reader(12348), 1)):
        assert one.distrusted(path) is None
        assert len(one.warnings) == warnings


@AS_ROOT
def test_a_link_of_somebody_else_may_lead_elsewhere_tomorrow(folder: Folder) -> None:
    (path,) = folder.write(spec=SPEC)
    link = folder.path / "link.yaml"
    link.symlink_to(path)
    assert reader().distrusted(str(link)) is None
    os.chown(link, SOMEBODY, -1, follow_symlinks=False)
    found = reader().distrusted(str(link))
    assert found is not None and f"the link {link} belongs to uid {SOMEBODY}" in found.message


@AS_ROOT
def test_an_owner_hidden_by_a_user_namespace_is_no_stranger(folder: Folder) -> None:
    (path,) = folder.write(spec=SPEC)
    os.chown(path, 65534, -1)
    assert Trust(uid=0, gid=0, hidden=None).doubt(path) is not None
    assert Trust(uid=0, gid=0, hidden=65534).doubt(path) is None


@AS_ROOT
@pytest.mark.parametrize(
    "owned", ["pass", "hooks", "hooks/__init__.py", "hooks/own.py", "env", "more.yaml"]
)
def test_files_of_secrets_and_hooks_are_judged_like_the_spec(folder: Folder, owned: str) -> None:
    text = (
        "include: [more.yaml]\nwatchers:\n  web:\n    cmd: serve\n    env_file: [env]\n"
        "    secrets: {PW: {file: pass}}\n    hooks: {before_start: {python: hooks.own.check}}\n"
    )
    (spec, _) = folder.write(spec=text, more="{}")
    (folder.path / "hooks").mkdir()
    for name in ("pass", "env", "hooks/__init__.py", "hooks/own.py"):
        (folder.path / name).write_text("")
    assert read_spec([spec], {}).errors == ()
    os.chown(folder.path / owned, SOMEBODY, -1)
    messages = [each.message for each in read_spec([spec], {}).errors]
    assert messages
    assert all(f"{folder.path / owned} belongs to uid {SOMEBODY}" in each for each in messages)


@AS_ROOT
def test_hooks_that_run_as_another_user_may_be_his(folder: Folder) -> None:
    text = "watchers: {web: {cmd: serve, user: '12347', group: '1', hooks: {before_start: {python: own.check}}}}"
    (spec,) = folder.write(spec=text)
    (folder.path / "own.py").write_text("")
    os.chown(folder.path / "own.py", SOMEBODY, -1)
    assert read_spec([spec], {}).errors == ()
