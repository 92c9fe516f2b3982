"""Claims about folders and programs on file systems that do not answer: only who needs them waits."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from reconciler.model.process import Exit, ProcessId, Running, Starting
from reconciler.system.mounts import Mounts, may_hang
from tests.keeper.rig import keeper
from tests.keeper.test_roads import AS_ROOT, own_mounts

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334524k
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 0:40 / /home rw,relatime shared:2 master:3 - btrfs /dev/vdb rw
29 27 0:41 / /a\\040b rw,relatime - overlay overlay rw,lowerdir=/nfs
30 22 0:42 / /proc/sys/fs/binfmt_misc rw,relatime - autofs systemd-1 rw
31 22 0:43 / /proc/cpuinfo rw,relatime - fuse.lxcfs lxcfs rw
"""


@pytest.mark.parametrize(
    ("line", "hangs"),
    [
        (b"", False),
        (b"40 27 7:1 / /snap/x ro - squashfs /dev/loop1 ro", False),
        (b"40 27 0:50 / /srv rw shared:9 - nfs4 server:/srv rw", True),
        (b"40 27 0:50 / /srv rw - cifs //server/srv rw", True),
        (b"40 27 0:50 / /srv rw - fuse.sshfs server: rw", True),
        (b"40 27 8:17 / /usb rw - fuseblk /dev/sdb1 rw", True),
        (b"40 27 0:50 / /net rw - autofs /etc/auto.net rw", True),
        (b"40 27 0:50 / /processes rw - invented none rw", True),  # who knows what that is
    ],
)
def test_what_others_serve_may_hang_wherever_it_is_mounted(line: bytes, hangs: bool) -> None:
    assert may_hang(LOCAL + line) is hangs


def test_where_it_cannot_be_told_anything_may_hang(tmp_path: Path) -> None:
    strange = tmp_path / "mountinfo"
    strange.write_text("nothing that anybody knows\n")
    mounts = Mounts(str(strange))
    assert mounts.may_hang()
    os.close(mounts._fd)
    assert mounts.may_hang()


@AS_ROOT
def test_a_file_system_that_does_not_answer_keeps_only_its_own_processes_waiting(
    tmp_path: Path,
) -> None:
    """It is served by this test (FUSE), which answers nothing."""
    dead = tmp_path / "dead"
    dead.mkdir()
    (tmp_path / "link").symlink_to(dead / "bin")
    try:
        server = open("/dev/fuse", "r+b", buffering=0)  # noqa: SIM115
    except OSError:
        pytest.skip("needs /dev/fuse")
    before, chdir, program, after = (ProcessId(name, 1) for name in ("w", "x", "y", "z"))
    with keeper(tmp_path, preexec_fn=own_mounts) as rig, server:
        link = rig.link()
        link.spawn(before, "sleep", "1000")
        assert isinstance(link.wait(lambda: link.records.get(before)).phase, Running)
        enter = ["nsenter", f"--mount=/proc/{rig.pid}/ns/mnt", "mount", "-t", "fuse", "none"]
        options = f"-ofd={server.fileno()},rootmode=40000,user_id=0,group_id=0"
        mount = subprocess.run([*enter, dead, options], check=False, pass_fds=[server.fileno()])
        if mount.returncode:
            pytest.skip("nothing can be mounted here")
        link.spawn(chdir, "true", working_dir=str(dead / "folder"))
        path = f"{tmp_path / 'link'}:/bin:/usr/bin"
        link.spawn(program, "true", env={"PATH": path})
        link.spawn(after, "true")
        assert link.exited(after).exit == Exit(code=0)
        for waiting in (chdir, program):
            assert isinstance(link.records[waiting].phase, Starting)
            link.signal(waiting, "KILL")
        # Both look into the same folder: who waits for the other one's look (in D) dies after that one.
        for waiting in (chdir, program):
            assert link.exited(waiting).exit == Exit(signal="KILL")
