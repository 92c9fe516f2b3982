"""gunicorn asked by HTTP: a version that never becomes ready stops at its first slot, and the others go on serving."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import require_program
from tests.e2e.stage import free_ports, stage, until
from tests.e2e.test_scenarios_servers import Load

pytestmark = pytest.mark.e2e

APP = """
import os


def app(environ, start):
    version = os.environ["VERSION"]
    body = f"this is {version}\\n".encode()
    status = "503 Service Unavailable" if version == "broken" else "200 OK"
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
SPEC = """
apply: {confirm_after: 300ms, quiet_period: 100ms}
watchers:
  web:
    cmd: gunicorn --bind 127.0.0.1:${slot+BASE} --chdir . app:app
    numprocesses: 2
    env: {VERSION: good}
    ready: {http: {port: "${slot+BASE}", path: /healthz}, interval: 200ms, deadline: 2s}
    health: {http: "http://127.0.0.1:${slot+BASE}/healthz", interval: 200ms, timeout: 5s}
"""


def test_a_version_that_never_becomes_ready_stops_at_its_first_slot() -> None:
    require_program("gunicorn", "pip install gunicorn")
    base = free_ports(2) - 1
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    with stage(SPEC.replace("BASE", str(base)), PATH=path) as it:
        (it.specs / "app.py").write_text(APP)
        it.up()
        until(lambda: it.status()["outcome"] == "good", "the revision is good")
        before = it.pids("web")
        with Load([(base + 2, "/")]).running() as load:
            it.edit("VERSION: good", "VERSION: broken")
            until(lambda: it.status()["outcome"] == "paused", "the revision is paused")
            said = it.status()["reason"]
            status = it.watcher("web")
        place = f"http 127.0.0.1:{base + 1}/healthz"
        answer = f"{place} answers 503 Service Unavailable: this is broken"
        assert said == f"web.1 was not ready within 2s: {answer}"
        assert (status["slots"][1]["pid"], status["slots"][1]["ready"]) == (before[2], True)
        assert status["slots"][1]["last_probe"]["kind"] == "health"
        assert (load.failed, set(load.answers)) == ([], {"this is good\n"})
        it.edit("VERSION: broken", "VERSION: good")
        it.settle()
        assert it.pids("web")[2] == before[2]
