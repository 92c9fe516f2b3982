"""Database, migration, web processes and nginx: in order, replaced after the migration, stopped in reverse."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import require_program
from tests.e2e.load import Client
from tests.e2e.stage import ROOT, free_port, free_ports, stage, until

if TYPE_CHECKING:
    from tests.e2e.stage import Stage

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/07-migrate-before-deploy"


def prepare(it: Stage, postgres: Path, front: int) -> None:
    """Give the example a database program, folders, an account for it where that is needed, and free ports."""
    data = it.folder / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(data, entry.pw_uid, entry.pw_gid)
        for command in ("initdb", "postgres"):
            it.edit(
                f"    cmd: ${{postgres}}/{command} ",
                f"    user: postgres\n    cmd: ${{postgres}}/{command} ",
            )
    it.edit("vars:\n", "apply: {confirm_after: 1s}\n\nvars:\n")
    it.edit("postgres: /usr/lib/postgresql/15/bin", f"postgres: {postgres.parent}")
    it.edit("folder: /tmp/shop", f"folder: {it.folder}")
    it.edit("127.0.0.1:8030", f"127.0.0.1:{front}")
    it.edit("127.0.0.1:8030", f"127.0.0.1:{front}", "nginx.conf")
    web = free_port()
    it.edit("127.0.0.1:8031", f"127.0.0.1:{web}")
    it.edit("127.0.0.1:8031", f"127.0.0.1:{web}", "nginx.conf")
    it.write(it.spec.read_text().replace("slot+8040", f"slot+{free_ports(3) - 1}"))


def test_each_comes_after_what_it_needs_and_gives_way_after_its_migration() -> None:
    nginx = require_program("nginx", "apt install nginx-light")
    require_program("uvicorn", "pip install uvicorn")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    postgres = require_program(str(found[-1]) if found else "postgres", "apt install postgresql")
    here, there = Path(sys.executable).parent, Path(nginx).parent
    path = f"{here}:{os.environ.get('PATH', os.defpath)}:{there}"
    front = free_port()
    with stage(EXAMPLE, PATH=path) as it:
        prepare(it, Path(postgres), front)
        it.run("up", "-d")
        started = list(dict.fromkeys(each["watcher"] for each in told(it, "process.started")))
        assert [n for n in started if n != "migrate"] == ["initdb", "db", "web", "nginx"]
        assert started.index("db") < started.index("migrate") < started.index("web")
        load = Client(front)
        load.start()
        try:
            deploy(it)
            the_database_dies(it)
        finally:
            load.over.set()
            load.join(20)
        assert load.failed == []
        assert load.answered > 50
        it.run("shutdown")
        assert ends(it)[-3:] == ["nginx", "web", "db"]


def deploy(it: Stage) -> None:
    """A migration that fails leaves the old processes alone; one that succeeds is followed by the new ones."""
    old = it.pids("web")
    (it.specs / "schema" / "2.sql").write_text("SELECT * FROM nowhere;\n")
    it.edit('version: "1"', 'version: "2"')
    until(lambda: it.status()["outcome"] == "paused", "the migration has failed", show=it.status)
    assert "migrate.1 failed: exit 3" in it.status()["reason"]
    assert 'relation "nowhere" does not exist' in it.log("migrate")
    assert it.pids("web") == old
    assert it.watcher("web")["ready"] == 3
    (it.specs / "schema" / "3.sql").write_text("INSERT INTO schema_version VALUES (3);\n")
    it.edit('version: "2"', 'version: "3"')
    until(
        lambda: (
            not {*it.pids("web").values()} & {*old.values()} and it.watcher("web")["ready"] == 3
        ),
        "replaced",
        show=it.status,
    )
    events = told(it, "process.started", "job.ended")
    newest = [each for each in events if each["type"] == "job.ended"][-1]
    begun = [each for each in events if each["watcher"] == "web"][-3:]
    assert all(each["seq"] > newest["seq"] for each in begun)


def the_database_dies(it: Stage) -> None:
    """Who depends on what has died says so, and goes on."""
    before = it.pids("web")
    os.kill(it.pids("db")[1], signal.SIGKILL)
    until(lambda: "depends on db" in it.watcher("web")["note"], "it shows", show=it.status)
    until(lambda: it.watcher("web")["note"] == "", "it is back", show=it.status)
    assert it.pids("web") == before


def told(it: Stage, *kinds: str) -> list[dict[str, Any]]:
    """Return the events of some kinds, in order."""
    lines = it.run("events", "-o", "json", "-n", "1000").stdout.splitlines()
    return [each for line in lines if (each := json.loads(line))["type"] in kinds]


def ends(it: Stage) -> list[str]:
    """Return whose processes ended, each at its last end, in order."""
    log = (it.state_dir / "reconcile.log").read_text()
    found = re.findall(r"process\.exited watcher=(\S+)", log)
    return list(dict.fromkeys(reversed(found)))[::-1]
