"""What people meet when something is wrong outside of the spec, and what becomes of output."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys

import pytest

from tests.e2e.stage import Stage, stage, until

pytestmark = pytest.mark.e2e

HOOKED = """\
watchers:
  app:
    cmd: sleep 1001
    backoff: {initial: 50ms, max: 100ms}
    hooks:
      before_start: {python: HOOK}
"""
HOOKS = {
    "checks.raedy": ("cannot find hook checks.raedy: checks has no 'raedy'", "'ready'"),
    "checks.number": ("cannot call hook checks.number: it is int, not a function",),
    "raises.ready": ("cannot import hook raises.ready: module raises raised", "KeyError: 'nobody'"),
    "checks.refuse": ("before_start hook (checks.refuse) returned False",),
}
LOGS = """\
watchers:
  talker:
    cmd: [PYTHON, -u, talk.py]
    logs: {timestamps: true, max_size: 4KiB, keep: 3, compress: true}
"""
TALK = """\
import time
for number in range(2000):
    print(f"line {number:05}")
    if number % 50 == 49:
        time.sleep(0.02)
time.sleep(1000)
"""


def note(it: Stage, name: str) -> str:
    return str(it.watcher(name)["note"])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_cannot_be_run_is_told_by_what_is_wrong(hook: str) -> None:
    with stage(HOOKED.replace("HOOK", hook)) as it:
        (it.specs / "checks.py").write_text(
            "number = 3\ndef ready(**_): return True\ndef refuse(**_): return False\n"
        )
        (it.specs / "raises.py").write_text("import os\nos.environ['nobody']\n")
        it.up(wait=False)
        until(it.answers, "the manager answers")
        for part in HOOKS[hook]:
            until(lambda part=part: part in note(it, "app"), part, show=lambda: note(it, "app"))
        assert it.pids("app") == {}
        it.edit(hook, "checks.ready")
        it.settle()
        assert len(it.pids("app")) == 1


def test_arbiter_works_in_a_bare_virtualenv() -> None:
    spec = HOOKED.replace("HOOK", "asks.f").replace("cmd:", "virtualenv: venv\n    cmd:")
    with stage(spec) as it:
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", it.specs / "venv"], check=True
        )
        (it.specs / "asks.py").write_text(
            "def f(watcher, arbiter, hook_name):\n"
            "    found = arbiter.call('status', names=[watcher.name])['watchers']\n"
            "    return [each['name'] for each in found] == ['app']\n"
        )
        it.up()
        assert len(it.pids("app")) == 1


def test_a_port_that_is_taken_is_told_with_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        spec = f"sockets:\n  http: {{listen: '{address}'}}\nwatchers:\n"
        spec += (
            "  web:\n    cmd: sleep 1001\n    use_sockets: [http]\n  other:\n    cmd: sleep 1002\n"
        )
        with stage(spec) as it:
            it.up(wait=False)
            until(it.answers, "the manager answers")
            until(lambda: it.pids("other"), "who needs no socket runs")
            told = until(lambda: it.status()["sockets"][0]["note"], "what is wrong")
            assert address in told
            assert "in use" in told
            until(
                lambda: str(os.getpid()) in it.status()["sockets"][0]["note"],
                "who holds it",
                show=lambda: it.status()["sockets"][0]["note"],
            )
            assert it.pids("web") == {}
            holder.close()
            it.settle()
            assert len(it.pids("web")) == 1


def test_output_is_stamped_rotated_compressed_and_complete() -> None:
    with stage(LOGS.replace("PYTHON", sys.executable)) as it:
        (it.specs / "talk.py").write_text(TALK)
        it.up()
        until(
            lambda: "line 01999" in it.log("talker"), "the last line", show=lambda: it.log("talker")
        )
        logs = it.state_dir / "logs"
        rotated = until(
            lambda: len(found := sorted(logs.glob("talker-1.log.*.gz"))) == 3 and found,
            "three compressed files",
            show=lambda: sorted(path.name for path in logs.iterdir()),
        )
        stamped = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z line (\d{5})")
        texts = [gzip.decompress(path.read_bytes()).decode() for path in rotated]
        lines = [line for text in [*texts, it.log("talker")] for line in text.splitlines()]
        numbers = sorted(int(match[1]) for line in lines if (match := stamped.fullmatch(line)))
        assert len(numbers) == len(lines)
        assert numbers == list(range(2000 - len(numbers), 2000))  # the kept ones, each of them once
