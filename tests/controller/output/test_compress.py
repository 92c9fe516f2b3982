"""Claims about compressing rotated log files."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import raised

from reconciler.controller.output.compress import Compressor, compress, compress_rotated
from reconciler.controller.runtime import clock
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.units import MILLISECOND_NS
from reconciler.output.places import folder_of


def compress_at(path: Path) -> None:
    with folder_of(str(path)) as (folder, name):
        compress(folder, name)


def test_a_compressed_file_takes_the_place_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "web-1.log.1"
    path.write_bytes(b"line\n" * 1000)
    path.chmod(0o640)
    log = path.with_suffix("")
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.controller.output.compress", str(log)], check=False
    )
    assert done.returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["web-1.log.1.gz"]
    packed = tmp_path / "web-1.log.1.gz"
    assert gzip.decompress(packed.read_bytes()) == b"line\n" * 1000
    assert packed.stat().st_mode & 0o777 == 0o640


def test_a_log_that_is_rotated_while_it_is_compressed_is_compressed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "web-1.log"
    real = os.utime
    coming = [b"third\n", b"second\n"]

    def rotate_once_more(*of: Any, **times: Any) -> None:
        real(*of, **times)
        if coming:
            for number in (2, 1):
                for end in ("", ".gz"):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{log}.{number}{end}").rename(f"{log}.{number + 1}{end}")
            Path(f"{log}.1").write_bytes(coming.pop())

    Path(f"{log}.1").write_bytes(b"first\n")
    Path(f"{log}.old").write_bytes(b"not ours\n")
    monkeypatch.setattr(os, "utime", rotate_once_more)
    compress_rotated(str(log))
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert found.pop("web-1.log.old") == b"not ours\n"
    assert {name: gzip.decompress(data) for name, data in found.items()} == {
        "web-1.log.1.gz": b"third\n",
        "web-1.log.2.gz": b"second\n",
        "web-1.log.3.gz": b"first\n",
    }


def test_a_file_that_the_keeper_rotated_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web-1.log.1"
    path.write_bytes(b"older\n")
    real = os.utime

    def rotate_now(*of: Any, **times: Any) -> None:
        real(*of, **times)
        path.rename(tmp_path / "web-1.log.2")
        path.write_bytes(b"newer\n")

    monkeypatch.setattr(
        os, "utime", rotate_now
    )  # the moment before the compressed file is put in place
    with pytest.raises(FileNotFoundError):
        compress_at(path)
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert found == {"web-1.log.1": b"newer\n", "web-1.log.2": b"older\n"}


def test_nobody_waits_for_a_helper_that_takes_long_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that hangs it closes its standard error, and then for long nothing else."""
    reactor, log, real = Reactor(raised), Lines(), subprocess.Popen
    script = "echo first >&2; echo last >&2; exec 2>&-; read until_it_may_end"
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def helper(_command: list[str], **more: Any) -> subprocess.Popen[bytes]:
        return real(["sh", "-c", f"{script} <{gate}; exit 1"], **more)

    monkeypatch.setattr(subprocess, "Popen", helper)
    compressor = Compressor(reactor, log)
    compressor.add("/a.log")
    helper_holds = gate.open("w")
    ended: list[bool] = []
    reactor.at("a while", clock.now_ns() + 200 * MILLISECOND_NS, lambda: ended.append(True))
    while not ended:
        reactor.wait(None)
    assert log.causes == []
    helper_holds.close()
    while not log.causes:
        reactor.wait(None)
    assert log.causes == ["last"]


class Lines:
    """A log of which only causes are kept."""

    def __init__(self) -> None:
        self.causes: list[object] = []

    def write(self, level: str, message: str, **pairs: Any) -> None:
        self.causes.append(pairs["cause"])


def test_a_failed_compression_leaves_the_original(tmp_path: Path) -> None:
    path = tmp_path / "a.log.1"
    path.write_bytes(b"line\n")
    (tmp_path / "a.log.1.gz").mkdir()
    with pytest.raises(OSError, match="exists"):
        compress_at(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.log.1", "a.log.1.gz"]


def test_compressing_writes_through_no_link_and_reads_none(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    rotated = tmp_path / "web.log.1"
    rotated.write_bytes(b"line\n")
    (tmp_path / "web.log.1.gz.unfinished").symlink_to(victim)
    compress_at(rotated)
    assert victim.read_text() == "precious"
    assert gzip.decompress((tmp_path / "web.log.1.gz").read_bytes()) == b"line\n"
    (tmp_path / "web.log.2").symlink_to(victim)
    with pytest.raises(OSError, match="a symbolic link"):
        compress_at(tmp_path / "web.log.2")
    assert not (tmp_path / "web.log.2.gz").exists()


def test_compressing_follows_no_folder_that_became_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "web.log.1").write_bytes(b"precious\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "logs").symlink_to(secret)
    (tmp_path / "app").chmod(0o777)
    with pytest.raises(OSError, match="a symbolic link that others may change"):
        compress_rotated(str(tmp_path / "app" / "logs" / "web.log"))
    assert [each.name for each in secret.iterdir()] == ["web.log.1"]
