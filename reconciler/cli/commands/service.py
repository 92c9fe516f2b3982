"""The command install-service: a unit by which systemd starts the manager, and restarts it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from reconciler.cli import options
from reconciler.cli.commands import programs
from reconciler.cli.commands.starting import valid
from reconciler.cli.connection import loading
from reconciler.cli.connection.launch import place
from reconciler.cli.errors import DONE, Refused
from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Cell
from reconciler.specfile.trust import ALLOW
from reconciler.system.cgroups import OWN_LEAF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.cli.session import Session

MAX_PROGRAMS: Final = 10
SYSTEM_UNITS: Final = "/etc/systemd/system"
# Characters that systemd.service(5) takes for more than themselves, or that would end a word.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@:,./+=-]+")

UNIT: Final = """\
# Written by `reconcile install-service`.
[Unit]
Description=reconcile: {name}
{after}# However often it fails: what it keeps lives on meanwhile.
StartLimitIntervalSec=0

[Service]
Type=notify
{path}ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
# The manager ends its processes itself, in order. If it dies, they live on until the next one takes them over.
KillMode=process
TimeoutStopSec=5min
Restart=always
RestartSec=1
WatchdogSec=60
Delegate=yes
{subgroup}# One process that takes too much memory is that process's end, not everybody's.
OOMPolicy=continue
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy={wanted_by}
"""
SUBGROUP: Final = f"""\
# Control groups of processes can have limits only where the manager itself is in another one.
DelegateSubgroup={OWN_LEAF}
"""
SUBGROUP_SINCE: Final = 254
"""The version of systemd from which on it knows that setting; older ones complain of it."""


class Unit(NamedTuple):
    """A unit: where it belongs, and its text."""

    path: str
    text: str


@click.command("install-service")
@options.spec
@click.option("--user", is_flag=True, help="Install a user service, which needs no root.")
@click.option("--force", is_flag=True, help="Replace an existing unit that differs.")
@click.option("--print", "shows", is_flag=True, help="Write the unit to standard output instead.")
@click.option("--keep-path", is_flag=True, help="Give the service the PATH of this terminal.")
@options.writable
@options.with_instance
def install_service_command(
    session: Session, spec: tuple[str, ...], user: bool, force: bool, shows: bool, keep_path: bool
) -> int:
    """Write a systemd unit that runs the manager with this spec, and show the next steps.

    The unit is called reconcile-NAME.service after the instance. Nothing is started. A service has
    a different PATH from a terminal: the command lists where the programs of the spec are found,
    and warns about those that the service would not find.
    """
    loaded = valid(loading.find(spec))
    name = place(session.choice(), loaded).name
    argv = command_of(session, name, loaded.source.paths)
    path = programs.own_path() if keep_path else None
    unit = unit_of(name, argv, user=user, path=path)
    watchers = loaded.block("watchers")
    alike, otherwise = programs.remarks(watchers, path or programs.SYSTEMD_PATH)
    for remark in otherwise:
        hint = "write the full path in the spec, or use --keep-path"
        screen = terminal.stderr()
        screen.show(
            (Cell("warning: ", "busy"), Cell(remark)), (Cell("  hint: ", "cyan"), Cell(hint))
        )
    if shows:
        terminal.stdout().write(unit.text)
        return DONE
    written = _write(unit, force=force)
    ctl = "systemctl --user" if user else "systemctl"
    service = os.path.basename(unit.path)
    verb = "wrote" if written else "nothing to do, up to date:"
    lines = [f"{verb} {unit.path}", *alike[:MAX_PROGRAMS], f"next: {ctl} daemon-reload"]
    lines.append(f"      {ctl} enable --now {service}")
    if user:
        lines.append("      loginctl enable-linger     # to start at boot, not at your login")
    terminal.stdout().show(*((Cell(line),) for line in lines))
    return DONE


def command_of(session: Session, name: str, paths: Sequence[str]) -> list[str]:
    """Return the command line that starts the instance, from any folder and in any environment."""
    script = Path(sys.executable).with_name("reconcile")
    argv = [str(script)] if script.exists() else [sys.executable, "-m", "reconciler.cli"]
    argv += ["--name", name]
    chosen = session.choice()
    for option, folder in (
        ("--runtime-dir", chosen.runtime_dir),
        ("--state-dir", chosen.state_dir),
    ):
        argv += [option, os.path.abspath(folder)] if folder else []
    allowed = ["--allow-writable-specs"] if os.environ.get(ALLOW) else []
    return [*argv, "run", *allowed, *map(os.path.abspath, paths)]


def unit_of(name: str, argv: Sequence[str], *, user: bool, path: str | None = None) -> Unit:
    """Return the unit of an instance; `user` is for the service manager of one user.

    `path` is the PATH of the service, None is systemd's own.
    """
    # That of a user knows neither the network nor the target that the system starts with.
    network = "After=network-online.target\nWants=network-online.target\n"
    environment = ""
    if path is not None:
        # In `Environment=` a $ means nothing: systemd.exec(5).
        environment = f"Environment={quoted(f'PATH={path}').replace('$$', '$')}\n"
    text = UNIT.format(
        name=name,
        path=environment,
        command=" ".join(map(quoted, argv)),
        after="" if user else network,
        subgroup=SUBGROUP if _systemd_version() not in range(SUBGROUP_SINCE) else "",
        wanted_by="default.target" if user else "multi-user.target",
    )
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    folder = os.path.join(config, "systemd", "user") if user else SYSTEM_UNITS
    # An instance that is called as the program is needs no second mention.
    service = "reconcile" if name == "reconcile" else f"reconcile-{name}"
    return Unit(os.path.join(folder, f"{service}.service"), text)


def _systemd_version() -> int | None:
    """Return the version of systemd here, None: there is none, so that the unit is meant for another machine."""
    try:
        command = ["systemctl", "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return int(done.stdout.split()[1])
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def quoted(word: str) -> str:
    """Return a word of a command line as systemd reads it back: systemd.service(5), "Command lines"."""
    if "\n" in word or "\r" in word:
        msg = f"cannot write {word!r} into a unit: it contains the end of a line"
        raise Refused(msg, "rename it")
    doubled = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return doubled
    return '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(unit: Unit, *, force: bool) -> bool:
    """Write a unit atomically; False when it is there already. Raises `Refused`."""
    try:
        with contextlib.suppress(FileNotFoundError):
            if Path(unit.path).read_text(errors="replace") == unit.text:
                return False
            if not force:
                msg = f"cannot write {unit.path}: it exists and differs"
                raise Refused(
                    msg, "show the new unit with --print, replace the old one with --force"
                )
        os.makedirs(os.path.dirname(unit.path), exist_ok=True)
        beside = f"{unit.path}.{os.getpid()}"
        try:
            with open(beside, "x", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(unit.text)
            os.replace(beside, unit.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
    except OSError as error:
        hint = "install it for this user with --user, or print it with --print"
        msg = f"cannot write {unit.path}: {(error.strerror or str(error)).lower()}"
        raise Refused(msg, hint) from None
    return True
