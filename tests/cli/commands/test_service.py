"""The unit that install-service writes: its text, read as systemd reads it, and when nothing is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.commands import programs, service
from reconciler.cli.main import main
from reconciler.cli.session import Session

SPEC = "watchers: {web: {cmd: sleep 1000}}\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "shop" / "reconcile.yaml"
    path.parent.mkdir()
    path.write_text(SPEC)
    return path


@pytest.fixture
def user_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/systemd/user"


def settings(text: str) -> dict[str, str]:
    """Return what a unit sets; none of ours sets anything twice."""
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def words(command: str) -> list[str]:
    """Return the words of an ExecStart as systemd.service(5) says that they are read."""
    found, word, quoted, index = [], "", False, 0
    while index < len(command):
        char = command[index]
        if char == "\\" and quoted:
            index += 1
            word += command[index]
        elif char == '"':
            quoted = not quoted
        elif char in "%$":
            assert command[index + 1] == char, f"{char} is expanded in {command}"
            index += 1
            word += char
        elif char == " " and not quoted:
            found.append(word)
            word = ""
        else:
            word += char
        index += 1
    assert not quoted
    return [*found, word]


def test_the_unit_lets_systemd_start_the_manager_and_touch_nothing_else(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install-service", "--print", str(spec)]) == 0
    found = settings(capsys.readouterr().out)
    found.pop("DelegateSubgroup", None)  # by the version of systemd
    command = words(found.pop("ExecStart"))
    assert command[1:] == ["--name", "shop", "run", str(spec)]
    assert os.access(command[0], os.X_OK)
    assert found == {
        "Description": "reconcile: shop",
        "After": "network-online.target",
        "Wants": "network-online.target",
        "StartLimitIntervalSec": "0",
        "Type": "notify",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "KillMode": "process",
        "TimeoutStopSec": "5min",
        "Restart": "always",
        "RestartSec": "1",
        "WatchdogSec": "60",
        "Delegate": "yes",
        "OOMPolicy": "continue",
        "LimitNOFILE": "1048576",
        "TasksMax": "infinity",
        "WantedBy": "multi-user.target",
    }


def test_a_service_of_a_user_starts_with_that_user(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install-service", "--user", "--print", str(spec)]) == 0
    found = settings(capsys.readouterr().out)
    assert found["WantedBy"] == "default.target"
    assert "After" not in found


def test_places_that_were_chosen_are_in_the_command(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECONCILE_STATE_DIR", "state")
    assert main(["--runtime-dir", "/r", "install-service", "--print", str(spec)]) == 0
    command = words(settings(capsys.readouterr().out)["ExecStart"])
    where = ["--runtime-dir", "/r", "--state-dir", os.path.abspath("state")]
    assert command[3:] == [*where, "run", str(spec)]


@pytest.mark.parametrize("word", ["/a b", "/50%", "/$HOME", '/"', "/back\\slash", "/a'b", "/;"])
def test_any_path_is_read_back_as_it_is(word: str) -> None:
    assert words(service.quoted(word)) == [word]


def test_the_end_of_a_line_in_a_path_is_refused(tmp_path: Path) -> None:
    odd = tmp_path / "a\nExecStop=rm"
    odd.mkdir()
    (odd / "reconcile.yaml").write_text(SPEC)
    assert main(["install-service", "--print", "--name", "x", str(odd / "reconcile.yaml")]) == 1


def test_a_unit_is_written_once_and_another_one_only_by_force(
    spec: Path, user_units: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["install-service", "--user", str(spec)]
    unit = user_units / "reconcile-shop.service"
    assert main(command) == 0
    text = unit.read_text()
    assert unit.stat().st_mode & 0o777 == 0o644
    assert "systemctl --user enable --now reconcile-shop.service" in capsys.readouterr().out

    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out

    unit.write_text("edited")
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert unit.read_text() == "edited"
    assert main([*command, "--force"]) == 0
    assert unit.read_text() == text
    assert os.listdir(user_units) == [unit.name]


def test_a_spec_with_mistakes_installs_nothing(spec: Path, user_units: Path) -> None:
    spec.write_text("watchers: {web: {cmdd: sleep}}\n")
    assert main(["install-service", "--user", str(spec)]) == 1
    assert not user_units.exists()


def test_where_nothing_can_be_written_the_message_says_what_to_try(
    spec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(service, "SYSTEM_UNITS", str(tmp_path / "file"))
    assert main(["install-service", str(spec)]) == 1
    said = capsys.readouterr().err
    assert f"cannot write {tmp_path}/file/reconcile-shop.service: " in said
    assert "--user" in said


def test_systemd_finds_nothing_wrong_with_it(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here; apt install systemd")
    monkeypatch.setattr(service, "SYSTEM_UNITS", str(tmp_path / "units"))
    assert main(["install-service", str(spec)]) == 0
    unit = tmp_path / "units/reconcile-shop.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [each for each in done.stderr.splitlines() if "reconcile" in each]) == (0, [])  # fmt: skip


@pytest.mark.parametrize(
    ("says", "subgroup"),
    [
        ("systemd 253 (253.1)", None),
        ("systemd 254 (v254)", "reconcile-manager"),
        ("", "reconcile-manager"),
    ],
)
def test_the_manager_gets_a_group_apart_where_systemd_knows_how(
    spec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    says: str,
    subgroup: str | None,
) -> None:
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert main(["install-service", "--print", str(spec)]) == 0
    assert settings(capsys.readouterr().out).get("DelegateSubgroup") == subgroup


def test_a_checkout_without_a_script_is_started_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    command = service.command_of(Session(), "x", ["/spec"])
    assert command[:3] == [str(tmp_path / "python3"), "-m", "reconciler.cli"]


def test_programs_that_the_service_finds_elsewhere_or_nowhere_are_told(
    tmp_path: Path,
    user_units: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, systems = tmp_path / "ours", tmp_path / "systems"
    for folder, names in ((ours, ("both", "here", "same")), (systems, ("both", "there", "same"))):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
    (ours / "same").unlink()
    monkeypatch.setenv("PATH", f"{ours}:relative:{systems}")
    monkeypatch.setattr(programs, "SYSTEMD_PATH", str(systems))
    path = tmp_path / "reconcile.yaml"
    path.write_text(
        "watchers:\n  a: {cmd: both x, stop: {cmd: here y}}\n  b: {cmd: same}\n  c: {cmd: nowhere}\n"
        "  d: {cmd: hidden, env: {PATH: /opt}}\n  e: {cmd: hidden, virtualenv: /venv}\n"
        "  f: {cmd: hidden; true, shell: true}\n  g: {cmd: ./hidden}\n"
        "  h: {cmd: same, hooks: {before_start: {cmd: here z}}}\n"
    )
    assert main(["install-service", "--user", str(path)]) == 0
    told = capsys.readouterr()
    assert f"same is {systems}/same (b, h)" in told.out
    assert f"both of a is {systems}/both for the service; here it is {ours}/both" in told.err
    assert f"here of a, h is not in the PATH of the service; here it is {ours}/here" in told.err
    assert "nowhere of c is not in the PATH of the service; it is not found here either" in told.err
    assert "hidden" not in told.out + told.err

    assert main(["install-service", "--user", "--print", "--keep-path", str(path)]) == 0
    told = capsys.readouterr()
    assert settings(told.out)["Environment"] == f"PATH={ours}:{systems}"
    assert "both" not in told.err


def test_a_path_with_special_characters_is_kept_as_it_is() -> None:
    unit = service.unit_of("shop", ["/x"], user=True, path='/a b:/50%:/$HOME:/q"')
    assert 'Environment="PATH=/a b:/50%%:/$HOME:/q\\""' in unit.text


def test_that_others_may_write_the_spec_is_allowed_to_the_service_too(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECONCILE_ALLOW_WRITABLE_SPECS", "1")
    assert main(["install-service", "--print", str(spec)]) == 0
    assert f"run --allow-writable-specs {spec}" in capsys.readouterr().out
