"""The peers: Circus and supervisor from their packages, runit and s6 from Debian's, each where it is there."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from bench.managers import ROOT, Manager

PEERS: Final = ROOT / ".venv-peers"
"""Their own virtual environment, made by `make bench`: they are never a dependency of ours."""


def versions() -> dict[str, str]:
    """Return the versions of the peers, as far as they can be told."""
    wanted = {"circus", "supervisor"}
    path = [str(folder) for folder in PEERS.glob("lib/python*/site-packages")]
    found = {
        each.metadata["Name"].lower(): each.version
        for each in distributions(path=path)
        if each.metadata["Name"].lower() in wanted
    }
    if shutil.which("dpkg-query"):
        for name in ("runit", "s6"):
            done = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Version}", name],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and done.stdout:
                found[name] = done.stdout
    return found


class _Python(Manager):
    """What Circus and supervisor share: sections in files of a folder that the main file includes."""

    kill_every_s = 0.35
    suffix: str

    def configure(self) -> list[str]:
        self.includes = self.folder / "conf.d"
        self.includes.mkdir()
        for number, indexes in enumerate(self.crew.by_file()):
            text = "".join(self._section(index, self.crew.commands[index]) for index in indexes)
            self._file(number).write_text(text)
        return self._configure_main()

    def can_add(self) -> bool:
        return True

    def add(self, command: tuple[str, ...]) -> int:
        """Save the file, then give the command by which the manager reads its configuration again."""
        with self._file(0).open("a") as file:
            file.write(self._section(int(command[2]), command))
        began_ns = time.monotonic_ns()
        subprocess.run(self._reread(), check=True, capture_output=True)
        return began_ns

    def _file(self, number: int) -> Path:
        return self.includes / f"workers{number}{self.suffix}"

    def _configure_main(self) -> list[str]:
        raise NotImplementedError

    def _reread(self) -> list[str]:
        raise NotImplementedError

    def _section(self, index: int, command: tuple[str, ...]) -> str:
        raise NotImplementedError


class Circus(_Python):
    """Circus: circusd with its defaults, endpoints as Unix sockets; it reads again by `reloadconfig`."""

    name = "Circus"
    suffix = ".ini"

    def _configure_main(self) -> list[str]:
        main = self.folder / "circus.ini"
        main.write_text(
            f"[circus]\nendpoint = {self._endpoint}\n"
            f"pubsub_endpoint = ipc://{self.folder}/pubsub\ninclude_dir = {self.includes}\n"
        )
        return [str(PEERS / "bin/circusd"), str(main)]

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self.folder}/endpoint"

    def _section(self, index: int, command: tuple[str, ...]) -> str:
        program, *words = command
        text = f"[watcher:worker{index}]\ncmd = {program}\nargs = {' '.join(words)}\n"
        keeping = self.crew.keeping
        if keeping is not None:
            keeping.file(index).parent.mkdir(parents=True)
            text += (
                f"stdout_stream.class = FileStream\nstdout_stream.filename = {keeping.file(index)}\n"
                f"stdout_stream.max_bytes = {keeping.max_bytes}\n"
                f"stdout_stream.backup_count = {keeping.keep}\n"
            )
            if keeping.timestamps:
                text += "stdout_stream.time_format = %Y-%m-%d %H:%M:%S\n"
        return text

    def asker(self) -> list[str]:
        return [str(PEERS / "bin/python"), "-m", "bench.asking", "circus", self._endpoint]

    def status_command(self) -> list[str]:
        return [str(PEERS / "bin/circusctl"), "--endpoint", self._endpoint, "status"]

    def _reread(self) -> list[str]:
        return [str(PEERS / "bin/circusctl"), "--endpoint", self._endpoint, "reloadconfig"]


class Supervisor(_Python):
    """supervisor: supervisord in the foreground with its defaults; it reads again by `update`."""

    name = "supervisor"
    suffix = ".conf"

    def _configure_main(self) -> list[str]:
        main = self.folder / "supervisord.conf"
        logs = self.folder / "child-logs"
        logs.mkdir()
        # It needs three descriptors for each program, and refuses to start when it may not have what it asks for.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        main.write_text(
            f"[supervisord]\nnodaemon = true\nminfds = {min(most, 10_000)}\n"
            f"logfile = {self.folder}/supervisord.log\npidfile = {self.folder}/supervisord.pid\n"
            f"childlogdir = {logs}\n"
            f"[unix_http_server]\nfile = {self._socket}\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory ="
            " supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl = unix://{self._socket}\n"
            f"[include]\nfiles = {self.includes}/*.conf\n"
        )
        return [str(PEERS / "bin/supervisord"), "-c", str(main)]

    @property
    def _socket(self) -> Path:
        return self.folder / "supervisor.sock"

    def _section(self, index: int, command: tuple[str, ...]) -> str:
        text = f"[program:worker{index}]\ncommand = {' '.join(command)}\n"
        keeping = self.crew.keeping
        if keeping is not None:
            keeping.file(index).parent.mkdir(parents=True)
            text += (
                f"stdout_logfile = {keeping.file(index)}\n"
                f"stdout_logfile_maxbytes = {keeping.max_bytes}\n"
                f"stdout_logfile_backups = {keeping.keep}\n"
            )
        return text

    def asker(self) -> list[str]:
        return [str(PEERS / "bin/python"), "-m", "bench.asking", "supervisor", str(self._socket)]

    def _control(self, word: str) -> list[str]:
        main = str(self.folder / "supervisord.conf")
        return [str(PEERS / "bin/supervisorctl"), "-c", main, word]

    def status_command(self) -> list[str]:
        return self._control("status")

    def _reread(self) -> list[str]:
        return self._control("update")


class _Tree(Manager):
    """What runit and s6 share: a folder for each service, with a script `run` and one for its log."""

    kill_every_s = 0.1
    logger: str

    def configure(self) -> list[str]:
        self.services = self.folder / "services"
        for index, command in enumerate(self.crew.commands):
            folder = self.services / f"worker{index}"
            folder.mkdir(parents=True)
            _script(folder / "run", f"exec {' '.join(command)}")
            keeping = self.crew.keeping
            if keeping is not None:
                kept = keeping.file(index).parent
                kept.mkdir(parents=True)
                folder.joinpath("log").mkdir()
                _script(folder / "log/run", self._logger(kept))
        return self._command()

    def pids(self) -> list[int]:
        """Return those that are managers already; a script that is about to become a worker is none."""
        found = []
        for pid in super().pids():
            try:
                command = Path(f"/proc/{pid}/comm").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if re.match(r"runsv|svlogd|s6-", command):
                found.append(pid)
        return found

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _logger(self, folder: Path) -> str:
        raise NotImplementedError


class Runit(_Tree):
    """runit: runsvdir over a folder, a runsv for each service; HUP makes it stop them."""

    name = "runit"
    stop_signal = signal.SIGHUP

    def _command(self) -> list[str]:
        return ["runsvdir", str(self.services)]

    def _logger(self, folder: Path) -> str:
        keeping = self.crew.keeping
        assert keeping is not None
        folder.joinpath("config").write_text(f"s{keeping.max_bytes}\nn{keeping.keep}\n")
        return f"exec svlogd {folder}"

    def status_command(self) -> list[str]:
        services = [str(self.services / f"worker{n}") for n in range(len(self.crew.commands))]
        return ["sv", "status", *services]


class S6(_Tree):
    """s6: s6-svscan over a folder, an s6-supervise for each service; TERM makes it stop them."""

    name = "s6"

    def _command(self) -> list[str]:
        return ["s6-svscan", "-c", str(2 * len(self.crew.commands) + 10), str(self.services)]

    def _logger(self, folder: Path) -> str:
        keeping = self.crew.keeping
        assert keeping is not None
        return f"exec s6-log n{keeping.keep} s{keeping.max_bytes} {folder}"


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


ALL_PEERS: Final[tuple[type[Manager], ...]] = (Circus, Supervisor, Runit, S6)


def peers() -> list[type[Manager]]:
    """Return those that are installed."""
    there = {
        Circus: (PEERS / "bin/circusd").exists(),
        Supervisor: (PEERS / "bin/supervisord").exists(),
        Runit: shutil.which("runsvdir") and shutil.which("svlogd"),
        S6: shutil.which("s6-svscan") and shutil.which("s6-log"),
    }
    return [kind for kind in ALL_PEERS if there[kind]]
