"""How many processors a process may use: its affinity, and the quotas of the groups that it is in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.system.processors import usable

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = 64


@pytest.fixture(autouse=True)
def many_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(ALLOWED)))


def machine(tmp_path: Path, groups: str, mounts: str, files: dict[str, str]) -> str:
    """Make what /proc/self says of a process, `GROUPS` standing for where the groups are mounted."""
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "mountinfo").write_text(mounts.replace("GROUPS", f"{tmp_path}/groups"))
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


V2 = "30 23 0:26 / GROUPS rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 %s GROUPS/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        ("0::/a/b\n", V2, {"a/b/cpu.max": "max 100000"}, ALLOWED),
        ("0::/a/b\n", V2, {"a/b/cpu.max": "400000 100000"}, 4),
        # A quota that nobody can use fully counts as one processor more; none is ever fewer than one.
        ("0::/a/b\n", V2, {"a/b/cpu.max": "150000 100000"}, 2),
        ("0::/a/b\n", V2, {"a/b/cpu.max": "10000 100000"}, 1),
        # The tightest of all groups from ours up counts, and those beside ours do not.
        ("0::/a/b\n", V2, {"a/b/cpu.max": "900000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", V2, {"a/c/cpu.max": "100000 100000"}, ALLOWED),
        # A container without a namespace of its own sees its group as the root of the mount.
        ("0::/docker/1\n", V2.replace(" / ", " /docker/1 "), {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", V2, {"cpu.max": "200000 100000"}, 2),
        # Version 1.
        (
            "3:cpu,cpuacct:/a\n1:name=systemd:/b\n",
            V1 % "/",
            {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "50000\n"},
            4,
        ),
        (
            "3:cpu,cpuacct:/a\n",
            V1 % "/",
            {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "50000"},
            ALLOWED,
        ),
        # What cannot be read limits nothing.
        ("0::/a\n", V2, {"a/cpu.max": "some nonsense"}, ALLOWED),
        ("", "", {}, ALLOWED),
        ("nonsense\n", "nonsense\n", {}, ALLOWED),
    ],
)
def test_the_tightest_quota_counts(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, str], expected: int
) -> None:
    assert usable(machine(tmp_path, groups, mounts, files)) == expected


def test_an_affinity_of_fewer_processors_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    assert usable(machine(tmp_path, "0::/\n", V2, {"cpu.max": "900000 100000"})) == 2
    assert usable(str(tmp_path / "nothing")) == 2
