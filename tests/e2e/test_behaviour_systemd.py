"""Under systemd, whose part the test plays: what `reconcile run` tells it, and what nobody else is told."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess

import pytest

from tests.e2e.stage import PATIENCE_S, RECONCILE, Stage, environ_of, free_port, stage, until

pytestmark = pytest.mark.e2e

SPEC = """\
sockets:
  http: {{listen: "127.0.0.1:{port}"}}
watchers:
  web:
    cmd: sleep 1000
    use_sockets: [http]
    inherit_env: true
  late:
    cmd: sleep 1000
"""


class Systemd:
    """The far end of sd_notify(3); what was heard stays in `messages`."""

    def __init__(self, it: Stage) -> None:
        self.messages: list[dict[str, str]] = []
        self.senders: set[int] = set()
        name = str(it.folder / "notify")
        it.environ |= {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000"}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(PATIENCE_S)
        self.socket.bind(name)

    def hear(self, **wanted: str) -> dict[str, str]:
        """Return the next message that says all this, and let those before it be."""
        while True:
            text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            self.senders.add(struct.unpack("3i", ancillary[0][2])[0])
            message = dict(line.split("=", 1) for line in text.decode().splitlines())
            self.messages.append(message)
            if wanted.items() <= message.items():
                return message


def test_systemd_hears_when_it_is_ready_reloads_lives_and_stops() -> None:
    port = free_port()
    with stage(SPEC.format(port=port)) as it:
        systemd = Systemd(it)
        it.environ["RECONCILE_NAME"] = "unit"
        with it.output.open("ab") as output:
            it.foreground = subprocess.Popen(
                [RECONCILE, "run", str(it.specs)], env=it.environ, stdout=output, stderr=output
            )
        systemd.hear(READY="1")
        # A unit that is started after this one can connect by now, whoever serves there later.
        socket.create_connection(("127.0.0.1", port)).close()
        systemd.hear(STATUS="revision 1: all as desired")
        status = it.status()
        for pid in (status["controller_pid"], *it.pids("web").values()):
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & environ_of(pid).keys()

        # Refused or applied, a reload has an end.
        for text, said in (("  nonsense: 1\n", "invalid"), ("  more: {cmd: sleep 1001}\n", "")):
            it.write(SPEC.format(port=port) + text)
            it.foreground.send_signal(signal.SIGHUP)
            began = systemd.hear(RELOADING="1")
            assert began["MONOTONIC_USEC"].isdecimal()
            assert said in systemd.hear(READY="1")["STATUS"]
        systemd.hear(STATUS="revision 2: all as desired")

        # It hangs: another takes its place before the watchdog bites, and no process is touched.
        web, hanging = it.pids("web"), it.status()["controller_pid"]
        os.kill(hanging, signal.SIGSTOP)
        until(lambda: it.status()["controller_pid"] != hanging, "another controller")
        assert it.pids("web") == web
        systemd.hear(WATCHDOG="1")

        assert it.end() == 0
        systemd.hear(STOPPING="1")
        assert systemd.senders == {status["keeper_pid"]}
