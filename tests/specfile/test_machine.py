"""Claims about what a spec says that this machine, or none, can do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.specfile import machine
from tests.specfile.files import only_error
from tests.specfile.test_traps import warnings_of

if TYPE_CHECKING:
    from tests.specfile.files import Folder

LOGS = "watchers: {web: {cmd: x, logs: {stderr: {file: %s}}}}"
UNKNOWN_UID = 4_000_123_456


def words_of(folder: Folder, text: str) -> list[str]:
    return [each.message for each in warnings_of(folder, text)]


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("/dev/null", "write: to: devnull"),
        ("/dev/stdout", "write: to: manager"),
        ("/dev//stderr", "write: to: manager"),
        ("/dev/fd/2", "write: to: manager"),
        ("/proc/1/fd/1", "write: to: manager"),
        ("/proc/self/fd/2", "write: to: manager"),
        ("/dev/tty", "write: to: manager"),
        ("/dev/log", ""),
        ("/proc/x", ""),
    ],
)
def test_a_log_that_is_a_device_is_refused_with_what_is_meant(file: str, hint: str) -> None:
    error = only_error(LOGS % file)
    assert (error.field, error.hint) == ("watchers.web.logs.stderr.file", hint)
    assert error.message.startswith("a log is a file")


def test_a_log_in_memory_or_beside_the_spec_is_one(folder: Folder) -> None:
    assert words_of(folder, LOGS % "/dev/shm/web.log") == []
    assert words_of(folder, LOGS % "dev/stdout") == []


def test_a_log_in_whose_place_lies_something_else_is_told(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    (folder.path / "link").symlink_to("pipe")
    for name, kind in (("pipe", "a FIFO"), ("link", "a symbolic link"), (".", "a folder")):
        (said,) = words_of(folder, LOGS % f'"{name}"')
        assert said == f"a log is a file, and {name} is {kind} on this machine"


@pytest.mark.skipif(os.geteuid() == UNKNOWN_UID, reason="it is ours")
def test_accounts_that_are_not_on_this_machine_are_told(folder: Folder) -> None:
    text = "watchers: {web: {cmd: x, user: %s, group: %s}}"
    assert words_of(folder, text % (UNKNOWN_UID, "null")) == [
        f"user {UNKNOWN_UID} has no account; give group, too"
    ]
    assert words_of(folder, text % (UNKNOWN_UID, 7)) == []
    assert words_of(folder, text % ("no-such", "nor-such")) == [
        "there is no user 'no-such' on this machine",
        "there is no group 'nor-such' on this machine",
    ]
    assert words_of(folder, text % ("root", "null")) == []


def test_root_is_said_not_to_be_limited_by_nproc(folder: Folder) -> None:
    text = "watchers: {web: {cmd: x, user: %s, limits: {nproc: 3}}}"
    said = ["root is not limited by nproc (setrlimit(2))"]
    assert words_of(folder, text % "root") == said
    assert words_of(folder, text % "0") == said
    assert words_of(folder, text % "daemon") == []
    assert words_of(folder, text % "null") == (said if os.geteuid() == 0 else [])


def test_limits_of_control_groups_that_the_machine_does_not_have_are_told(folder: Folder) -> None:
    there = machine._controllers()
    said = words_of(
        folder, "watchers: {web: {cmd: x, limits: {cgroup: {pids_max: 9, cpu_max: 50%}}}}"
    )
    missing = [name for name in ("pids_max", "cpu_max") if name.partition("_")[0] not in there]
    assert [each.partition(" is not in force on this machine")[0] for each in said] == [
        f"'{name}'" for name in missing
    ]
