"""Claims about what is said of a machine, whose files and answers we choose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.cli.checks import instance
from reconciler.cli.checks.groups import groups
from reconciler.cli.checks.machine import Machine, as_seen_by, this_machine
from reconciler.cli.checks.needs import Needs, needs_of
from reconciler.cli.checks.places import places
from reconciler.cli.checks.platform import platform
from reconciler.cli.checks.resources import resources
from reconciler.model.errors import SpecError
from reconciler.model.finding import Finding
from reconciler.model.status import SlotStatus, Status, WatcherStatus

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_800_000_000.0
MOUNT = "30 1 0:26 / {} rw,nosuid - {} none rw{}\n"
USER = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the root of a machine without files."""
    return tmp_path / "root"


def machine(root: Path, there: dict[str, str] | None = None, **known: object) -> Machine:
    for path, text in (there or {}).items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    good = {"release": "6.18.1", "files": (1024, 65536), "now_s": NOW_S, "is_synchronised": True}
    return Machine(str(root), **{**good, **known})  # type: ignore[arg-type]


def mounts(*each: tuple[str, str]) -> dict[str, str]:
    """Return the file that lists what is mounted, by place: types, with options of the file system behind a comma."""
    split = ((place, *kind.partition(",")) for place, kind in each)
    lines = (
        MOUNT.format(place, kind, f",{more}" if more else "") for place, kind, _, more in split
    )
    return {"/proc/self/mountinfo": "".join(lines)}


def all_of(it: Machine, needs: Needs = Needs()) -> dict[str, Finding]:  # noqa: B008  # a value
    found = [*platform(it, needs), *resources(it, needs), *groups(it, needs, None, None)]
    return {each.check: each for each in found}


def levels(it: Machine, needs: Needs = Needs()) -> dict[str, str]:  # noqa: B008  # a value
    return {name: each.level for name, each in all_of(it, needs).items() if each.level != "ok"}


def test_of_a_machine_that_lacks_nothing_nothing_is_amiss(root: Path) -> None:
    files = {
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
        "/proc/sys/fs/inotify/max_user_watches": "65536\n",
        "/proc/sys/fs/inotify/max_user_instances": "512\n",
        "/proc/vmstat": "nr_free_pages 9\noom_kill 0\n",
        "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 800 kB\n",
        **mounts(("/", "ext4"), ("/proc", "proc"), ("/sys/fs/cgroup", "cgroup2")),
    }
    found = all_of(machine(root, files), Needs(processes=100, sockets=2))
    assert {each.level for each in found.values()} == {"ok"}
    assert found["descriptors"].found == "limit 65536 (soft 1024); the manager needs about 466"
    assert found["cgroups"].found == "version 2 at /sys/fs/cgroup; controllers: memory cpu io pids"


@pytest.mark.parametrize(
    ("known", "files", "needs", "amiss"),
    [
        ({"files": (1024, 4096)}, {}, Needs(processes=2000), {"descriptors": "problem"}),
        ({"files": (1024, 1024)}, {}, Needs(processes=9), {"descriptors": "warning"}),
        ({"files": (-1, -1)}, {}, Needs(processes=9000), {}),
        ({}, {"/sys/fs/cgroup/pids.max": "200"}, Needs(processes=150), {"processes": "warning"}),
        ({}, {"/sys/fs/cgroup/pids.max": "max"}, Needs(processes=150), {}),
        ({"inotify": "EMFILE"}, {}, Needs(), {"inotify": "problem"}),
        ({}, {"/proc/sys/fs/inotify/max_user_instances": "8"}, Needs(), {"inotify": "warning"}),
        ({"uid": USER}, {"/proc/sys/fs/pipe-user-pages-soft": "16384"}, Needs(processes=1100), {"pipes": "warning"}),
        ({}, {"/proc/sys/fs/pipe-user-pages-soft": "16384"}, Needs(processes=1100), {}),
        ({}, {"/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 9 kB"}, Needs(), {"memory": "warning"}),
        ({}, {"/proc/sys/vm/overcommit_memory": "2"}, Needs(), {"overcommit": "warning"}),
        ({}, {"/proc/vmstat": "a 1\noom_kill 3"}, Needs(), {"oom": "warning"}),
        ({"release": "5.2.0"}, {}, Needs(), {"kernel": "problem"}),
        ({"release": "5.10.0-28-amd64"}, {}, Needs(), {"kernel": "warning"}),
        ({"release": "6.1.0"}, {}, Needs(), {}),
        ({"pidfd": "EPERM"}, {}, Needs(), {"kernel": "problem"}),
        ({"now_s": 0.0}, {}, Needs(), {"clock": "problem"}),
        ({"is_synchronised": False}, {}, Needs(), {}),
        ({"is_synchronised": False}, {}, Needs(schedules=("nightly",)), {"clock": "warning"}),
        ({"uid": USER}, mounts(("/proc", "proc,hidepid=invisible")), Needs(), {"proc": "warning"}),
        ({}, mounts(("/proc", "proc,hidepid=invisible")), Needs(), {}),
        ({"uid": USER}, {"/proc/sys/kernel/yama/ptrace_scope": "1"}, Needs(), {"ptrace": "warning"}),
        ({"uid": USER}, {}, Needs(low_port=80), {"user": "problem"}),
        ({"uid": USER}, {"/proc/sys/net/ipv4/ip_unprivileged_port_start": "80"}, Needs(low_port=80), {}),
        ({"uid": USER}, {}, Needs(other_users=("web",)), {"user": "problem"}),
        ({}, {}, Needs(low_port=80, other_users=("web",)), {}),
        ({}, {}, Needs(group_limits=("memory",)), {"cgroups": "warning", "delegation": "warning"}),
        ({}, {**mounts(("/cg", "cgroup2")), "/cg/cgroup.controllers": "cpu"}, Needs(group_limits=("pids",)),
         {"cgroups": "warning", "delegation": "warning"}),
    ],
)  # fmt: skip
def test_what_is_amiss_is_told_by_what_the_spec_needs(
    root: Path,
    known: dict[str, object],
    files: dict[str, str],
    needs: Needs,
    amiss: dict[str, str],
) -> None:
    it = machine(root, files, **known)
    assert levels(it, needs) == amiss
    assert all(
        each.meaning and each.advice for each in all_of(it, needs).values() if each.level != "ok"
    )


def test_a_manager_that_is_no_service_is_told_so(root: Path) -> None:
    files = {"/run/systemd/system/x": "", "/proc/7/cgroup": "0::/user.slice/session-2.scope\n"}
    it = machine(root, files)
    told = groups(it, Needs(), 7, "cgroup")
    assert [(each.check, each.level) for each in told] == [
        ("systemd", "warning"),
        ("cgroups", "ok"),
        ("delegation", "ok"),
    ]
    assert told[0].found == "the manager is no service (session-2.scope)"
    (root / "proc/7/cgroup").write_text(
        "0::/system.slice/reconcile-shop.service/reconcile-manager\n"
    )
    assert groups(it, Needs(), 7, "session")[0].found == "the manager is reconcile-shop.service"


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", "ok"), ("tmpfs", "warning"), ("nfs4", "problem"), ("fuse.sshfs", "problem")],
)
def test_the_file_system_of_the_state_is_judged(
    root: Path, tmp_path: Path, kind: str, level: str
) -> None:
    it = machine(root, mounts(("/", "ext4"), (str(tmp_path), kind)))
    state, runtime = places(it, str(tmp_path / "not/there/yet"), str(tmp_path / "run"))
    assert (state.level, runtime.level) == (level, "ok")
    assert f"({kind})" in state.found


def test_a_control_socket_whose_path_is_too_long_is_a_problem(root: Path) -> None:
    (runtime,) = places(machine(root), "", "/" + "x" * 100)
    assert (runtime.level, runtime.advice) == ("problem", "--runtime-dir with a shorter path")


def test_what_a_spec_needs_is_counted() -> None:
    limits = {"cgroup": {"memory_max": 1, "pids_max": 2}}
    spec = {
        "sockets": {
            "http": {"listen": {"is": "InternetAddress", "host": "", "port": 443}},
            "x": {"listen": {"path": "/x"}},
        },
        "watchers": {
            "web": {"cmd": ["x"], "numprocesses": 4, "user": "www", "limits": limits},
            "nightly": {"cmd": ["x"], "restart": "never", "schedule": {"cron": "0 3 * * *"}},
        },
    }
    assert needs_of(spec) == Needs(5, 2, 443, ("web",), ("nightly",), ("memory", "pids"))
    assert needs_of({}) == Needs()


def test_a_spec_with_mistakes_is_a_problem_and_one_with_warnings_a_warning() -> None:
    mistake = SpecError("/s.yaml", 3, 1, "watchers.web.cmd", "is missing")
    bad = instance.spec(["/s.yaml"], None, [mistake, mistake], [])
    assert (bad.level, bad.found) == ("problem", "/s.yaml: 2 mistakes, first: line 3: is missing")
    doubtful = instance.spec(["/s.yaml"], 2, [], [mistake])
    assert (doubtful.level, doubtful.found) == (
        "warning",
        "/s.yaml: 2 watchers; 1 warning, first: is missing",
    )
    assert instance.spec(["/s.yaml"], 2, [], []).level == "ok"


def test_a_manager_tells_of_limits_that_are_not_in_force_and_of_its_store() -> None:
    note = "limits.cgroup not in force: pids_max: the manager has no control groups for them; see reconcile doctor"
    web = WatcherStatus("web", slots=(SlotStatus(1, "Running", note=note),))
    status = Status(
        "shop", 4, keeper_pid=7, watchers=(web,), store_state="failing", store_message="disk full"
    )
    told = instance.manager(status)
    assert [(each.check, each.level) for each in told] == [
        ("manager", "ok"),
        ("store", "problem"),
        ("limits", "warning"),
    ]
    assert told[2].found == f"web: {note.partition('; see')[0]}"


def test_a_running_manager_counts_with_its_own_limits() -> None:
    mine = as_seen_by(this_machine(), os.getpid())
    assert (mine.files, mine.processes) == (this_machine().files, this_machine().processes)
