"""The whole of it in environments that are ordinary elsewhere: a uid without account, HOME and XDG; a foreign name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.stage import RECONCILE, stage, until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
UID = 1000780000
"""Such as OpenShift gives to a container: there is no account of that number."""
PLACE = Path(f"/tmp/reconcile-{UID}")


def opened() -> str:
    """Return shell commands that, in a mount namespace, let everybody execute this Python.

    Where it lies below a folder that only root may enter, that folder is covered by one with just the way to it.
    """
    closed = next(
        (
            folder
            for folder in reversed(Path(sys.executable).resolve().parents)
            if not folder.stat().st_mode & 0o001
        ),
        None,
    )
    if closed is None:
        return ":"
    within = closed / Path(sys.executable).resolve().relative_to(closed).parts[0]
    return (
        f"keep=$(mktemp -d); mount --bind {within} $keep; mount -t tmpfs none {closed}; chmod 755 {closed}; "
        f"mkdir {within}; mount --bind $keep {within}; umount $keep; rmdir $keep"
    )


@AS_ROOT
def test_without_home_and_account_everything_works_and_nothing_is_complained_about() -> None:
    with tempfile.TemporaryDirectory(prefix="rec-") as folder:
        os.chmod(folder, 0o755)
        shop = Path(folder, "shop")
        shop.mkdir()
        (shop / "reconcile.yaml").write_text(
            "watchers:\n  web: {cmd: sh -c 'echo hi; exec sleep 1000'}\n"
        )
        commands = "\n".join(
            f'{RECONCILE} {line} || echo "{line}: exit $?"'
            for line in ("up -d", "status", "logs", "ls", "shutdown")
        )
        script = (
            f"{opened()}\ncd {shop}\n"
            f"exec setpriv --reuid {UID} --regid 0 --clear-groups env -i PATH=/usr/bin:/bin sh -c '\n"
            f"{commands}'"
        )
        try:
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-ec", script],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            shutil.rmtree(PLACE, ignore_errors=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout
    assert (
        f"logs and state are in {PLACE}/.state/shop: uid {UID} has no writable home folder" in said
    )
    assert "shop · revision 1" in said
    assert any(line.startswith("web") and line.endswith(" hi") for line in said.splitlines())
    assert said.endswith("shop: stopped\n")
    assert "exit" not in said


def test_a_process_of_one_manager_can_start_and_ask_another() -> None:
    with tempfile.TemporaryDirectory(prefix="rec-") as folder:
        spec = Path(folder, "inner", "reconcile.yaml")
        spec.parent.mkdir()
        spec.write_text(
            "daemon: {runtime_dir: run, state_dir: state}\nwatchers:\n  web: {cmd: sleep 1000}\n"
        )
        outer = Path(folder, "outer.yaml")
        line = f"cd inner && {RECONCILE} up -d > out 2>&1; {RECONCILE} shutdown >> out 2>&1"
        outer.write_text(
            f"watchers:\n  ci: {{inherit_env: true, restart: never, cmd: \"sh -c '{line}'\"}}\n"
        )
        environ = os.environ | {
            "RECONCILE_NAME": "outer",
            "RECONCILE_RUNTIME_DIR": f"{folder}/run",
            "RECONCILE_STATE_DIR": f"{folder}/state",
        }
        done = subprocess.run(
            [RECONCILE, "up", str(outer)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = (spec.parent / "out").read_text()
        assert "inner · revision 1 (pending) · 1 watcher, 1 process · all as desired" in said, done
        assert said.endswith("inner: stopped\n")


@AS_ROOT
def test_one_file_that_is_mounted_is_watched_and_told_when_it_was_replaced_outside() -> None:
    with stage("watchers: {w: {cmd: sleep 1001}}\n") as it:
        outside = it.folder / "outside.yaml"
        it.spec.rename(outside)
        it.spec.touch()
        command = 'mount --bind "$1" "$2"; exec "$0" up "$2"'
        with it.output.open("ab") as output:
            it.foreground = subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", command, RECONCILE, str(outside), str(it.spec)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=it.environ, start_new_session=True,
            )  # fmt: skip
        until(it.answers, "the manager answers", show=it.output.read_text)
        until(lambda: it.pids("w"), "it runs")
        outside.write_text("watchers: {w: {cmd: sleep 1001}, more: {cmd: sleep 1002}}\n")
        until(lambda: len(it.status()["watchers"]) == 2, "an edit outside is applied", within_s=10)
        other = it.folder / "other.yaml"
        other.write_text("watchers: {w: {cmd: sleep 1003}}\n")
        other.rename(outside)
        told = f"files: {it.spec} was replaced outside of this mount"
        until(
            lambda: told in it.run("status", code=None).stdout,
            "what cannot be seen is told",
            within_s=10,
            every_s=0.2,
        )
