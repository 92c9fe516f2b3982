from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from reconciler.cli.connection import ahead, instances, launch, places
from reconciler.cli.connection.loading import Loaded
from reconciler.cli.errors import Refused
from reconciler.controller.runtime.config import Config
from reconciler.keeper.startup.config import KeeperConfig
from reconciler.model.spec import ControlSpec, DaemonLogSpec, DaemonSpec, Spec
from reconciler.model.value import from_plain, replace, to_plain
from reconciler.specfile.source import Source
from reconciler.wire.manager_file import ManagerFile
from tests.cli.manager import Manager

if TYPE_CHECKING:
    from pathlib import Path


def loaded(daemon: DaemonSpec | None = None) -> Loaded:
    spec = to_plain(Spec(daemon=daemon or DaemonSpec()))
    return Loaded(Source(("/srv/shop/specs",), "/srv/shop/specs"), spec, [], [])


def prepared(daemon: DaemonSpec | None = None, **options: str) -> launch.Start:
    return launch.prepare(instances.choice(**options), loaded(daemon), "up")


def test_the_instance_is_named_after_the_folder_and_lives_where_the_platform_says() -> None:
    start = prepared()

    assert start.instance == instances.Instance("shop", os.path.join(places.runtime_root(), "shop"))
    assert start.instance.state_dir == os.path.join(places.state_root(), "shop")


BECOMES = """
import os, signal, sys
from reconciler.cli.connection import ahead, instances, launch
from reconciler.specfile.source import Source
def shown(path, argv):
    print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    sys.exit(0)
os.execv = shown
launch.become(launch.Start(instances.Instance("shop", "/run/shop"), Source(("/srv/shop",), "/srv/shop"), {}))
"""


def test_what_comes_while_the_keeper_comes_up_waits_until_it_can_hear_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BECOMES], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["1", "2", "3", "15"], "")


def test_options_go_before_the_environment_and_that_before_the_spec(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = DaemonSpec(name="spec", runtime_dir="/r/spec", state_dir="/s/spec")

    def places(**options: str) -> tuple[str, str, str]:
        start = prepared(daemon, **options)
        return start.instance.name, start.instance.runtime_dir, start.instance.state_dir

    assert places() == ("spec", "/r/spec", "/s/spec")
    for name in ("NAME", "RUNTIME_DIR", "STATE_DIR"):
        monkeypatch.setenv(f"RECONCILE_{name}", "/env" if "DIR" in name else "env")
    assert places() == ("env", "/env", "/env")
    assert places(name="o", runtime_dir="/r/o", state_dir="/s/o") == ("o", "/r/o", "/s/o")


def test_keeper_and_controller_understand_what_they_are_started_with() -> None:
    daemon = DaemonSpec(
        control=ControlSpec(mode=0o660, group="ops"),
        umask=0o077,
        log=DaemonLogSpec(level="debug", file="/var/log/shop"),
    )
    start = replace(prepared(daemon), exit_with=("app",))

    *program, argument = start.keeper_argv(viewed=True, ready_fd=7)
    keeper = KeeperConfig.from_json(argument)
    controller: Config = from_plain(Config, json.loads(keeper.controller_argv[-1]))

    assert program[1:] == ["-I", "-m", "reconciler.keeper"]
    assert keeper == KeeperConfig(
        name="shop",
        state_dir=start.instance.state_dir,
        runtime_dir=start.instance.runtime_dir,
        controller_argv=keeper.controller_argv,
        control_mode=0o660,
        control_group="ops",
        umask=0o077,
        hup="stop",
        ready_fd=7,
        log_level="warning",
    )
    assert controller == Config(
        name="shop",
        state_dir=start.instance.state_dir,
        runtime_dir=start.instance.runtime_dir,
        source=("/srv/shop/specs",),
        until_done=True,
        started_by=f"up by {instances.user_name(os.geteuid())}",
        exit_with=("app",),
        log_level="debug",
        log_file="/var/log/shop",
    )


def test_what_there_is_not_or_never_runs_cannot_be_what_all_end_with() -> None:
    watchers = {"app": {}, "db": {}, "by_hand": {"autostart": False}, "none": {"numprocesses": 0}}
    spec: dict[str, object] = {"watchers": watchers}
    source = Source(("/srv/shop/specs",), "/srv/shop/specs")
    for exit_with, message in (
        (("app",), ""),
        (("ap",), "cannot exit with ap: the spec has no such watcher"),
        (("app", "by_hand"), "cannot exit with by_hand: its autostart is false, so nothing of it"),
        (("none",), "cannot exit with none: its numprocesses is 0, so nothing of it is started"),
    ):
        with pytest.raises(Refused, match=message) if message else nullcontext():
            start = launch.prepare(
                instances.choice(), Loaded(source, spec, [], []), "up", exit_with=exit_with
            )
            assert start.exit_with == exit_with


def test_what_a_spec_does_not_say_is_at_its_default_in_keeper_and_controller() -> None:
    start, daemon = prepared(), DaemonSpec()

    keeper = KeeperConfig.from_json(start.keeper_argv()[-1])
    controller: Config = from_plain(Config, json.loads(keeper.controller_argv[-1]))

    assert (keeper.control_mode, keeper.umask) == (0o600, daemon.umask)
    assert (keeper.hup, keeper.cgroup, keeper.log_level) == ("reload", None, daemon.log.level)
    assert (controller.until_done, controller.log_file) == (False, None)
    assert controller.log_format == daemon.log.format


def test_a_second_one_is_refused_with_who_and_which(tmp_path: Path) -> None:
    with (
        Manager(str(tmp_path / "shop")),
        pytest.raises(Refused, match=f"already running, started by .*, pid {os.getpid()}"),
    ):
        prepared(runtime_dir=str(tmp_path / "shop"))


def test_what_runs_under_another_name_is_started_twice_only_by_a_name(tmp_path: Path) -> None:
    with Manager(
        os.path.join(places.runtime_root(), "box"),
        hello={"name": "box", "source": ["/srv/shop/specs"]},
    ):
        with pytest.raises(Refused, match="cannot start shop: box already runs /srv/shop/specs"):
            prepared()
        assert prepared(name="second").instance.name == "second"
        assert prepared(runtime_dir=str(tmp_path / "other")).instance.name == "shop"


def test_a_runtime_folder_that_others_can_write_to_is_refused() -> None:
    os.makedirs(places.runtime_root())
    os.chmod(places.runtime_root(), 0o777)

    with pytest.raises(Refused, match="not a folder that only this user can write to"):
        prepared()


def test_a_manager_that_dies_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(Refused, match=r"cannot write .*/reconcile\.log"):
        launch.start_detached(prepared(state_dir=str(blocked)))
    monkeypatch.setattr(ahead, "KEEPER", ("/bin/false",))
    with pytest.raises(Refused, match="cannot start shop: it exited without printing an error"):
        launch.start_detached(prepared(state_dir=str(tmp_path / "state")))


def test_the_state_of_another_spec_is_not_taken_over_unasked(tmp_path: Path) -> None:
    state_dir, other = tmp_path / "state", tmp_path / "other.yaml"
    state_dir.mkdir()
    other.write_text("watchers: {}\n")
    ManagerFile("shop", "/run/x", (str(other),)).write(str(state_dir))

    with pytest.raises(Refused, match=rf"holds the state of {other}, not of /srv/shop/specs"):
        prepared(state_dir=str(state_dir))
    chosen = instances.choice(state_dir=str(state_dir))
    start = launch.prepare(chosen, loaded(), "up", replaces_source=True)
    assert start.instance.state_dir == str(state_dir)
    # A spec that is nowhere any more has moved.
    other.unlink()
    assert prepared(state_dir=str(state_dir)).instance.state_dir == str(state_dir)


def test_a_second_one_of_another_spec_is_refused_with_both(tmp_path: Path) -> None:
    hello = {"name": "shop", "source": ["/srv/other/specs"]}
    with (
        Manager(str(tmp_path / "shop"), hello=hello),
        pytest.raises(Refused, match="shop runs /srv/other/specs, not /srv/shop/specs"),
    ):
        prepared(runtime_dir=str(tmp_path / "shop"))


def test_why_a_manager_did_not_start_is_said_once() -> None:
    itself = "cannot start rel: cannot write /var/lib/reconcile/rel: read-only file system"
    assert launch.refusal("rel", ["a warning", itself]) == itself
    assert launch.refusal("rel", ["Killed"]) == "cannot start rel: Killed"
    assert launch.refusal("rel", []) == "cannot start rel: it exited without printing an error"


def test_where_no_keeper_can_be_begun_ahead_nothing_has_happened() -> None:
    text = (
        "import os, resource\n"
        "from reconciler.cli.connection import ahead\n"
        "first = os.open('/', os.O_RDONLY)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (first + 3, first + 3))\n"
        "ahead.begin()\n"
        "print(ahead.waiting, os.open('/', os.O_RDONLY) - first)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.path.join(os.path.dirname(__file__), "../../..")},
    )
    assert done.stdout == "None 1\n"
