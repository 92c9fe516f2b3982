from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.connection import instances, launch, loading, locate, places
from reconciler.cli.connection.absence import survivors
from reconciler.cli.connection.spec_head import Head, daemon_block
from reconciler.cli.errors import NoManager, Refused
from reconciler.cli.main import main
from reconciler.cli.session import Session
from reconciler.specfile.source import Source, find_source
from reconciler.wire.manager_file import ManagerFile
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


def test_a_plugin_means_its_own_manager_unless_it_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spec(tmp_path / "shop").parent)
    monkeypatch.setenv("RECONCILE_CONTROL_SOCKET", "/run/mine/control.sock")
    monkeypatch.setenv("RECONCILE_INSTANCE", "mine")

    assert locate.find() == instances.Instance("mine", "/run/mine")
    assert locate.find(runtime_dir="/run/x").control_socket == "/run/x/control.sock"
    assert locate.find("other").name == "other"
    assert locate.find(spec=source(tmp_path / "shop")).name == "shop"


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
    with Manager(os.path.join(places.runtime_root(), "other")):
        assert locate.find().name == "other"
        monkeypatch.chdir(spec(tmp_path / "shop").parent)
        assert locate.find().name == "shop"


def test_several_that_run_are_listed() -> None:
    root = places.runtime_root()
    with (
        Manager(os.path.join(root, "one")),
        Manager(os.path.join(root, "two")),
        pytest.raises(NoManager, match="2 managers are running: one, two"),
    ):
        locate.find()


def test_a_left_over_socket_file_does_not_run() -> None:
    folder = os.path.join(places.runtime_root(), "dead")
    manager = Manager(folder)
    manager.close()
    Path(folder, "control.sock").touch()

    assert instances.running() == []


def test_a_socket_whose_keeper_is_dead_does_not_run(tmp_path: Path) -> None:
    instance = instances.Instance("shop", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(instance.control_socket)
        if (keeper := os.fork()) == 0:
            sock.listen()
            os._exit(0)
        os.waitid(os.P_PID, keeper, os.WEXITED | os.WNOWAIT)
        assert (instances.is_running(instance), instances.listener(instance)) == (False, None)
        os.waitpid(keeper, 0)
        assert (instances.is_running(instance), instances.listener(instance)) == (False, None)


def test_a_process_that_is_not_seen_counts_as_its_asker_says() -> None:
    assert [instances.is_dead(0, unseen=unseen) for unseen in (False, True)] == [False, True]
    assert not instances.is_dead(os.getpid(), unseen=True)


def test_a_process_that_proc_hides_from_other_users_is_not_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden(*_: object) -> None:
        raise FileNotFoundError

    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    monkeypatch.setattr(instances, "open", hidden, raising=False)
    assert [instances.is_dead(pid) for pid in (os.getpid(), ended.pid, 0)] == [False, True, False]
    assert instances.is_dead(os.getpid(), unseen=True)


def test_the_kernel_says_who_listens(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "shop")):
        listener = instances.listener(instances.Instance("shop", str(tmp_path / "shop")))

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
    assert locate.find(spec=source(spec(tmp_path / "folder", text))).name == name


@given(st.text(alphabet="daemon: \n\t{},name\"'#x&*$<", max_size=200))
def test_any_text_is_survived(text: str) -> None:
    daemon_block(text)


def test_a_name_that_can_be_none_is_refused() -> None:
    with pytest.raises(Refused):
        locate.find("../etc")


# ---- which instance is meant: every command asks in the same way ---------------------------------


def at(folder: Path, name: str, runs: Path | None = None, says: str | None = None) -> Manager:
    """Return a manager that says what it is called and which spec it runs."""
    source = [str(runs)] if runs is not None else []
    return Manager(str(folder), hello={"name": says or name, "source": source})


def placed_by_up(path: Path, **options: str) -> instances.Instance:
    """Return where `up` would put the instance of a spec: the measure for all other commands."""
    return launch.place(instances.choice(**options), loading.load(source(path)))


OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"name": "box"},
    {"state_dir": "st"},
    {"runtime_dir": "r"},
    {"name": "box", "runtime_dir": "r"},
)


@pytest.mark.parametrize(
    ("daemon", "name", "runtime_dir"),
    [
        ("{umask: '022'}", "shop", None),
        ("{runtime_dir: ./run}", "shop", "run"),
        ("{runtime_dir: ../elsewhere/run, state_dir: ./state}", "shop", "../elsewhere/run"),
        ('{name: shop2, runtime_dir: "run"}', "shop2", "run"),
        ("{log: {level: info}, runtime_dir: run}", "shop", "run"),
        ("\n  state_dir: state  # c\n  runtime_dir: run", "shop", "run"),
        ("{name: other}", "other", None),
    ],
)
def test_every_command_looks_where_up_puts_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    daemon: str,
    name: str,
    runtime_dir: str | None,
) -> None:
    path = spec(tmp_path / "shop", f"daemon: {daemon}\nwatchers: {{}}\n")
    monkeypatch.chdir(path.parent)
    folder = os.path.normpath(path.parent / runtime_dir) if runtime_dir else None
    for options in OPTIONS:
        expected = instances.place(instances.choice(**options), Head(name, folder), source(path))
        assert expected.runtime_dir == os.path.abspath(
            options.get("runtime_dir")
            or folder
            or os.path.join(places.runtime_root(), options.get("name", name))
        )
        with at(Path(expected.runtime_dir), expected.name, path):
            assert locate.find(**options) == expected  # type: ignore[arg-type]  # no spec among them


@pytest.mark.parametrize(
    "daemon",
    [
        "\n  <<: {umask: '022'}\n  name: merged",
        "\n  runtime_dir: ${env.HOME}/here",
        "{\n  name: wrapped,\n  runtime_dir: run }",
    ],
)
def test_a_spec_that_says_it_in_an_unusual_way_is_read_as_up_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: str
) -> None:
    path = spec(tmp_path / "shop", f"daemon: {daemon}\nwatchers: {{}}\n")
    monkeypatch.chdir(path.parent)
    for options in OPTIONS[:2]:
        expected = placed_by_up(path, **options)
        with at(Path(expected.runtime_dir), expected.name, path):
            assert locate.find(**options) == expected  # type: ignore[arg-type]  # no spec among them


def test_what_an_included_file_says_of_the_place_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spec(tmp_path / "shop", "include: [place.yml]\nwatchers: {}\n")
    (path.parent / "place.yml").write_text("daemon: {name: box, runtime_dir: run}\n")
    monkeypatch.chdir(path.parent)
    with at(path.parent / "run", "box", path):
        assert (
            locate.find()
            == placed_by_up(path)
            == instances.Instance("box", str(path.parent / "run"))
        )


def test_two_folders_of_the_same_name_never_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (spec(tmp_path / client / "backend") for client in ("client1", "client2"))
    monkeypatch.chdir(two.parent)
    with at(Path(places.runtime_root(), "backend"), "backend", one):
        for meant in (
            lambda: locate.find(),
            lambda: locate.find(spec=source(two)),
            Session().client,
        ):
            with pytest.raises(Refused, match=rf"backend runs {one}, not {two}"):
                meant()
        # By its name, it is meant.
        assert locate.find("backend").name == "backend"
        # A command that gives it another spec means it, too.
        assert locate.find(spec=source(two), is_compared=False).name == "backend"
        monkeypatch.chdir(one.parent)
        assert locate.find().name == "backend"


COMMANDS_WITH_AN_INSTANCE = (
    "status",
    "logs",
    "events",
    "plan",
    "apply --yes",
    "history",
    "diff",
    "rollback",
    "start web",
    "stop web",
    "restart web",
    "reload web",
    "signal TERM web",
    "scale web=2",
    "resume web",
    "rerun web",
    "runs web",
    "upgrade",
    "shutdown",
    "up -d",
    "run",
)


def test_no_command_touches_the_manager_of_another_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (spec(tmp_path / client / "backend") for client in ("client1", "client2"))
    monkeypatch.chdir(two.parent)
    with at(Path(places.runtime_root(), "backend"), "backend", one) as manager:
        for command in COMMANDS_WITH_AN_INSTANCE:
            assert main(command.split()) == 1, command
            said = capsys.readouterr().err.replace("\n", " ")
            assert str(one) in said and str(two) in said, command
        assert {method for method, _ in manager.calls} == {"hello"}


@pytest.mark.parametrize("before", [True, False])
def test_every_command_takes_the_options_of_the_instance(tmp_path: Path, *, before: bool) -> None:
    options = ["--name", "x", "--runtime-dir", str(tmp_path / "r"), "--state-dir", str(tmp_path)]
    for command in COMMANDS_WITH_AN_INSTANCE[:-2]:
        words = command.split()
        # There is no manager, and of what the options say nothing is refused.
        assert main([*options, *words] if before else [*words, *options]) in {1, 4}, command


def test_a_manager_under_another_name_is_found_by_its_spec_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(tmp_path / "shop")
    monkeypatch.chdir(path.parent)
    with at(Path(places.runtime_root(), "box"), "box", path):
        assert Session().client().instance.name == "box"
        assert f"using box, the manager that runs {path}" in capsys.readouterr().err
        with (
            at(Path(places.runtime_root(), "bix"), "bix", path),
            pytest.raises(NoManager, match=r"2 managers run .*: bix, box"),
        ):
            locate.find()


def test_the_only_one_that_runs_is_named_when_nobody_chose_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(tmp_path / "a")
    with at(Path(places.runtime_root(), "a"), "a", path):
        Session().client()
        assert f"using a ({path}), the only running manager" in capsys.readouterr().err
        chosen = Session()
        chosen.name = "a"
        chosen.client()
        assert capsys.readouterr().err == ""


def test_the_place_of_a_spec_is_not_taken_for_that_of_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spec(tmp_path / "shop", "daemon: {runtime_dir: ./run}\n")
    monkeypatch.chdir(path.parent)
    with (
        at(path.parent / "run", "shop", path),
        at(Path(places.runtime_root(), "other"), "other"),
    ):
        assert locate.find("other").runtime_dir == os.path.join(places.runtime_root(), "other")


def test_a_state_folder_knows_where_its_manager_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spec(tmp_path / "shop")
    away = instances.Instance("box", str(tmp_path / "away"))
    for state_dir in (tmp_path / "state", Path(places.state_root(), "box")):
        state_dir.mkdir(parents=True)
        ManagerFile("box", away.runtime_dir, (str(path),)).write(str(state_dir))
    with at(tmp_path / "away", "box", path):
        assert locate.find(state_dir=str(tmp_path / "state")) == away
        assert locate.find("box") == away
        assert instances.running() == [away]
        monkeypatch.chdir(path.parent)
        assert locate.find() == away


def test_who_names_an_instance_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert locate.find("box").name == "box"
    assert locate.find(runtime_dir="/run/x").runtime_dir == "/run/x"


def test_a_link_keeps_its_name_when_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in ("1", "2"):
        spec(tmp_path / "releases" / release)
    current = tmp_path / "current"
    seen = []
    for release in ("1", "2"):
        current.unlink(missing_ok=True)
        current.symlink_to(tmp_path / "releases" / release)
        monkeypatch.chdir(current)
        monkeypatch.setenv("PWD", str(current))
        seen.append(
            (locate.find().name, loading.find(()).paths, loading.find(["reconcile.yaml"]).paths)
        )
    paths = (str(current / "reconcile.yaml"),)
    assert seen == [("current", paths, paths)] * 2
    # A shell that is still in the former release is not in `current` any more.
    monkeypatch.chdir(tmp_path / "releases" / "1")
    assert locate.find().name == "1"
    # Two dots are what the kernel takes them for, and above a link is also above what it leads to.
    monkeypatch.chdir(current)
    assert loading.find(["../1/reconcile.yaml"]).paths == (
        str(tmp_path / "releases/1/reconcile.yaml"),
    )
    (tmp_path / "releases/2/reconcile.yaml").rename(tmp_path / "releases/reconcile.yaml")
    assert loading.find(()).paths == (str(tmp_path / "releases/reconcile.yaml"),)


def test_what_other_users_run_is_known_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(spec(tmp_path / "demo").parent)
    root = Path(f"/tmp/reconcile-{os.getpid()}")  # a uid that nobody has
    root.mkdir(mode=0o700)
    try:
        with Manager(str(root / "demo")):
            ((other, user),) = [each for each in instances.of_others() if each[0].name == "demo"]
            with pytest.raises(
                NoManager, match=rf"{user} runs a manager named demo \({root}/demo\)"
            ):
                Session().client().hello()
            assert main(["ls"]) == 0
        assert other == instances.Instance("demo", str(root / "demo"))
        assert f"demo ({user})" in capsys.readouterr().out
    finally:
        shutil.rmtree(root)


def test_processes_without_a_manager_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(tmp_path / "stays")
    monkeypatch.chdir(path.parent)
    state_dir = Path(places.state_root(), "stays")
    state_dir.mkdir(parents=True)
    (state_dir / "instance").write_text(f"token-{os.getpid()} {state_dir}\n")
    ManagerFile("stays", os.path.join(places.runtime_root(), "stays"), (str(path),)).write(
        str(state_dir)
    )
    left = [
        subprocess.Popen(["sleep", "1000"], env={"RECONCILE_ID": f"token-{os.getpid()}/{slot}/7"})
        for slot in ("web.2", "web.1", "controller")
    ]
    try:
        with pytest.raises(
            NoManager,
            match=r"the manager of stays has ended, and 2 of its processes still run \(web.1, web.2\)",
        ):
            Session().client().hello()
        assert main(["ls"]) == 0
        assert "ended, 2 processes left" in capsys.readouterr().out
    finally:
        for process in left:
            process.kill()
            process.wait()
    assert survivors([str(state_dir)]) == {}
