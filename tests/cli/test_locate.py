from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli import locate
from reconciler.cli.errors import NoManager, Refused
from reconciler.specfile.source import Source, find_source
from tests.cli.manager import Manager


def spec(folder: Path, text: str = "watchers: {}\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "reconcile.yaml"
    path.write_text(text)
    return path


def source(path: Path) -> Source:
    found = find_source([str(path)], "/")
    assert isinstance(found, Source)
    return found


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILE_RUNTIME_DIR", "/somewhere/else")

    assert locate.find(runtime_dir="/run/x").control_socket == "/run/x/control.sock"
    assert locate.find("shop").name == "shop"


def test_the_environment_goes_before_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spec(tmp_path / "shop").parent)
    monkeypatch.setenv("RECONCILE_NAME", "other")

    assert locate.find().name == "other"


def test_the_spec_here_or_above_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop" / "specs").mkdir(parents=True)
    (tmp_path / "shop" / "specs" / "web.yml").write_text("watchers: {}\n")
    (tmp_path / "shop" / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "shop" / "deep" / "down")

    assert locate.find().name == "shop"


def test_a_spec_whose_instance_does_not_run_is_not_answered_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manager(os.path.join(locate.runtime_root(), "other")):
        assert locate.find().name == "other"
        monkeypatch.chdir(spec(tmp_path / "shop").parent)
        assert locate.find().name == "shop"


def test_several_that_run_are_listed() -> None:
    root = locate.runtime_root()
    with (
        Manager(os.path.join(root, "one")),
        Manager(os.path.join(root, "two")),
        pytest.raises(NoManager, match="2 managers are running: one, two"),
    ):
        locate.find()


def test_a_left_over_socket_file_does_not_run() -> None:
    folder = os.path.join(locate.runtime_root(), "dead")
    manager = Manager(folder)
    manager.close()
    Path(folder, "control.sock").touch()

    assert locate.running() == []


def test_a_socket_whose_keeper_is_dead_does_not_run(tmp_path: Path) -> None:
    instance = locate.Instance("shop", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(instance.control_socket)
        if (keeper := os.fork()) == 0:
            sock.listen()
            os._exit(0)
        os.waitid(os.P_PID, keeper, os.WEXITED | os.WNOWAIT)
        assert (locate.is_running(instance), locate.listener(instance)) == (False, None)
        os.waitpid(keeper, 0)
        assert (locate.is_running(instance), locate.listener(instance)) == (False, None)


def test_the_kernel_says_who_listens(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "shop")):
        listener = locate.listener(locate.Instance("shop", str(tmp_path / "shop")))

    assert listener == (os.getpid(), os.geteuid())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("daemon:\n  name: shop\n", "shop"),
        (
            "# c\ndaemon:  # c\n  log: {level: x}\n\n  # name: no\n  name: 'shop'  # c\nenv: {}\n",
            "shop",
        ),
        ('daemon: {umask: "022", name: "shop"}\n', "shop"),
        ("daemon: {name: shop}", "shop"),
        ("daemon:\n  name: null\n", "folder"),
        ("daemon:\n  umask: '022'\nwatchers:\n  name: {cmd: x}\n", "folder"),
        ("env: {name: no}\n", "folder"),
    ],
)
def test_the_name_in_the_spec_is_found_without_reading_all_of_it(
    tmp_path: Path, text: str, name: str
) -> None:
    assert locate.instance_of(source(spec(tmp_path / "folder", text))).name == name


def test_the_spec_may_say_where_its_socket_is(tmp_path: Path) -> None:
    path = spec(tmp_path / "shop", "daemon:\n  runtime_dir: /run/elsewhere\n")

    assert locate.instance_of(source(path)) == locate.Instance("shop", "/run/elsewhere")


@given(st.text(alphabet="daemon: \n\t{},name\"'#x", max_size=200))
def test_any_text_is_survived(text: str) -> None:
    locate.daemon_block([text])


def test_a_name_that_can_be_none_is_refused() -> None:
    with pytest.raises(Refused):
        locate.find("../etc")
