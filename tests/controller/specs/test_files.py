"""Claims about saved files, with the real watcher and the real loader: nobody gives a command."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import until
from paper_keeper import PaperKeeper

from reconciler.controller.specs import early, source
from reconciler.controller.specs.loader import Loader
from reconciler.model.process import Running
from reconciler.model.spec import DaemonSpec, Spec, WatcherSpec
from reconciler.model.value import replace
from reconciler.specfile.answering import answer_to
from reconciler.wire.manager_file import ManagerFile, read_manager_file

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Client, Instance

    from reconciler.controller.specs.early import EarlyReader

TWO = """\
version: 1
watchers:
  a:
    cmd: sleep 1000
  b:
    cmd: sleep 1000
    env: {COLOUR: red}
"""
FOUR = TWO + "  c:\n    cmd: sleep 1000\n  d:\n    cmd: sleep 1000\n"


@pytest.fixture
def client(instance: Instance) -> Client:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(FOUR)
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    return client


def hand_over(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    """Leave in memory what a loader says of a file, as the command line does; we are the keeper."""
    monkeypatch.setattr(os, "getppid", os.getpid)
    memory = os.memfd_create("spec")
    os.write(memory, json.dumps(answer_to([str(path)], dict(os.environ))).encode())
    return memory


def forbid_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a loader was started")

    monkeypatch.setattr(early, "Loader", refuse)


def test_what_was_read_for_the_start_is_not_read_again(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(TWO)
    memory = hand_over(monkeypatch, instance.spec_file)
    forbid_loaders(monkeypatch)

    client = instance.start(reading_fd=memory).client()

    until(lambda: client.call("status")["settled"])
    assert running(instance) == ["a.1", "b.1"]
    assert os.fstat(memory).st_size == 0  # a spec may hold secrets, and takes memory
    os.close(memory)


def test_what_was_read_for_the_start_is_read_again_when_the_file_differs(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(TWO)
    memory = hand_over(monkeypatch, instance.spec_file)
    instance.spec_file.write_text(FOUR)

    client = instance.start(reading_fd=memory).client()

    until(lambda: client.call("status")["settled"])
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1"]
    os.close(memory)


def test_a_reading_that_is_damaged_or_gone_is_made_again(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(TWO)
    memory = hand_over(monkeypatch, instance.spec_file)
    os.truncate(memory, 10)

    client = instance.start(reading_fd=memory).client()

    until(lambda: client.call("status")["settled"])
    assert running(instance) == ["a.1", "b.1"]
    os.close(memory)


def running(instance: Instance) -> list[str]:
    return sorted(
        str(id)
        for id, record in instance.keeper.records.items()
        if isinstance(record.phase, Running)
    )


def replace_by_rename(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def state(client: Client) -> tuple[str, int]:
    status = client.call("status", names=[])
    return status["spec_state"], status["revision"]


def test_the_first_start_loads_the_files(instance: Instance, client: Client) -> None:
    assert state(client) == ("applied", 1)
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1"]


def test_what_the_first_spec_says_of_the_manager_is_no_change(
    instance: Instance, client: Client
) -> None:
    assert instance.controller is not None
    spec = replace(Spec(), daemon=DaemonSpec(name="shop"), watchers={"a": WatcherSpec(cmd=("x",))})
    in_force = instance.controller.specs.in_force
    applied, in_force.applied = in_force.applied, None
    assert [each.kind for each in in_force.changes(spec)] == ["watcher"]
    in_force.applied = applied
    assert "daemon" in [each.kind for each in in_force.changes(spec)]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_saved_file_is_applied_within_a_second(
    instance: Instance, client: Client, *, in_place: bool
) -> None:
    text = FOUR + "  e:\n    cmd: sleep 1000\n"
    began = time.monotonic()
    if in_place:
        instance.spec_file.write_text(text)
    else:
        replace_by_rename(instance.spec_file, text)
    until(lambda: "e.1" in running(instance))
    print(f"applied after {time.monotonic() - began:.3f} s")
    assert state(client) == ("applied", 2)
    assert len(instance.keeper.spawned()) == 5


SLOW = "apply: {quiet_period: 1500ms}\n"
"""Files rest for long enough to see what happens meanwhile."""


@pytest.fixture
def slow(instance: Instance) -> EarlyReader:
    """Return the early reader of a controller whose files have to rest for long."""
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(SLOW + TWO)
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    assert instance.controller is not None
    return instance.controller.specs.files.reader


def test_files_are_read_while_they_come_to_rest(
    instance: Instance, slow: EarlyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_by_rename(instance.spec_file, SLOW + FOUR)
    until(lambda: slow._read)
    assert running(instance) == ["a.1", "b.1"], "they have not rested yet"
    forbid_loaders(monkeypatch)
    until(lambda: running(instance) == ["a.1", "b.1", "c.1", "d.1"])


def test_files_that_change_while_they_come_to_rest_are_read_again_and_once_only(
    instance: Instance, slow: EarlyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], Loader.ask
    monkeypatch.setattr(Loader, "ask", lambda *of: (asked.append(of), real(*of)))
    replace_by_rename(instance.spec_file, SLOW + FOUR)
    until(lambda: slow._read)
    for name in ("e", "f"):
        instance.spec_file.write_text(f"{SLOW}{FOUR}  {name}: {{cmd: sleep 1000}}\n")
        until(lambda: slow._in_vain)
    until(lambda: running(instance) == ["a.1", "b.1", "c.1", "d.1", "f.1"])
    assert len(asked) == 2
    assert instance.controller.specs.in_force.revision == 2


def test_a_file_that_is_included_only_now_counts_as_it_is_once_all_have_come_to_rest(
    instance: Instance, slow: EarlyReader
) -> None:
    part = instance.folder / "elsewhere" / "part.yaml"  # nobody looks there yet
    part.parent.mkdir()
    part.write_text("watchers: {e: {cmd: sleep 1000}}\n")
    replace_by_rename(instance.spec_file, f"include: ['{part}']\n{SLOW}{TWO}")
    until(lambda: slow._read)
    part.write_text("watchers: {f: {cmd: sleep 1000}}\n")
    until(lambda: running(instance) != ["a.1", "b.1"])
    assert running(instance) == ["a.1", "b.1", "f.1"]
    assert state(instance.clients[0]) == ("applied", 2)


def test_mistakes_are_told_of_files_that_rest(instance: Instance, slow: EarlyReader) -> None:
    client = instance.clients[0]
    instance.spec_file.write_text(f"{SLOW}{TWO}  e: {{cmdd: x}}\n")
    until(lambda: slow._read)
    assert state(client)[0] == "applied"
    until(lambda: state(client)[0] == "invalid")


def test_a_file_of_overrides_counts_when_it_appears_and_when_it_goes(
    instance: Instance, client: Client
) -> None:
    hosts = instance.spec_file.with_name("hosts")
    instance.spec_file.write_text(f"overrides: ['{hosts}/${{hostname}}.yaml']\n{TWO}")
    until(lambda: state(client)[1] == 2)
    hosts.mkdir()
    mine = hosts / f"{os.uname().nodename}.yaml"
    mine.write_text("watchers: {a: {numprocesses: 2}}")
    until(lambda: "a.2" in running(instance))
    mine.write_text("watchers: {a: {numproceses: 2}}")
    until(lambda: state(client)[0] == "invalid")
    mine.unlink()
    until(lambda: "a.2" not in running(instance))
    assert state(client) == ("applied", 4)


def test_only_the_edited_watcher_is_touched(instance: Instance, client: Client) -> None:
    before = {str(id): r.incarnation for id, r in instance.keeper.records.items()}
    instance.spec_file.write_text(FOUR.replace("red", "blue"))
    until(lambda: len(instance.keeper.spawned()) == 5)
    after = {str(id): r.incarnation for id, r in instance.keeper.records.items()}
    assert {name for name in before if before[name] != after[name]} == {"b.1"}


def test_what_the_loop_compares_after_an_edit_is_the_very_same(
    instance: Instance, client: Client
) -> None:
    assert instance.controller is not None
    assert instance.controller.specs.in_force.applied is not None
    before = instance.controller.specs.in_force.applied.spec.watchers
    instance.spec_file.write_text(FOUR.replace("red", "blue"))
    until(lambda: len(instance.keeper.spawned()) == 5)
    after = instance.controller.specs.in_force.applied.spec.watchers
    assert {name for name in before if before[name] is not after[name]} == {"b"}


def test_a_comment_changes_nothing_and_makes_no_revision(
    instance: Instance, client: Client
) -> None:
    files = instance.controller.specs.files
    instance.spec_file.write_text("# hello\n" + FOUR)
    until(lambda: files.accepted.files[str(instance.spec_file)].text.startswith(b"# hello"))
    assert state(client) == ("applied", 1)
    assert len(instance.keeper.spawned()) == 4


def test_invalid_content_changes_nothing_and_is_shown_with_its_place(
    instance: Instance, client: Client
) -> None:
    replace_by_rename(instance.spec_file, FOUR.replace("cmd: sleep 1000\n  b", "cmdd: x\n  b"))
    until(lambda: state(client)[0] == "invalid")
    status = client.call("status")
    assert status["revision"] == 1
    places = {(each["path"], each["line"]) for each in status["spec_errors"]}
    assert (str(instance.spec_file), 4) in places
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1"]
    assert any(each["type"] == "spec.rejected" for each in client.call("events")["events"])
    replace_by_rename(instance.spec_file, FOUR)
    until(lambda: state(client) == ("applied", 1))
    assert client.call("status")["spec_errors"] == []


def test_a_missing_file_or_folder_means_hold(instance: Instance, client: Client) -> None:
    folder = instance.spec_file.parent
    instance.spec_file.unlink()
    until(lambda: state(client)[0] == "missing")
    shutil.rmtree(folder)
    folder.mkdir()
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1"]
    instance.spec_file.write_text(FOUR)
    until(lambda: state(client) == ("applied", 1))
    instance.spec_file.write_text(FOUR + "  e:\n    cmd: sleep 1000\n")
    until(lambda: "e.1" in running(instance))


def test_a_moved_and_recreated_tree_is_followed(instance: Instance, client: Client) -> None:
    folder = instance.spec_file.parent
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    instance.spec_file.write_text(FOUR + "  e:\n    cmd: sleep 1000\n")
    until(lambda: "e.1" in running(instance))
    (folder.with_name("old") / "reconcile.yaml").write_text("")
    instance.spec_file.write_text(FOUR + "  f:\n    cmd: sleep 1000\n")
    until(lambda: "f.1" in running(instance) and "e.1" not in running(instance))


def test_editors_temporary_files_are_ignored(instance: Instance, client: Client) -> None:
    folder = instance.spec_file.parent
    for name in ("4913", ".reconcile.yaml.swp", "reconcile.yaml~", "#reconcile.yaml#", "~x.yaml"):
        (folder / name).write_text("watchers: {}\n")
    backup = instance.spec_file.with_name("reconcile.yaml~")
    instance.spec_file.rename(backup)
    instance.spec_file.write_text(FOUR.replace("red", "green"))
    until(lambda: state(client) == ("applied", 2))
    # One of the four is being replaced just now; none has gone for good.
    until(lambda: len(running(instance)) == 4)


def test_many_saves_converge_to_the_last(instance: Instance, client: Client) -> None:
    for number in range(40):
        text = FOUR.replace("red", f"c{number}") + (f"  x{number}:\n    cmd: sleep 1000\n")
        if number % 2:
            replace_by_rename(instance.spec_file, text)
        else:
            instance.spec_file.write_text(text)
    until(lambda: "x39.1" in running(instance))
    until(lambda: client.call("status")["settled"])
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1", "x39.1"]
    assert state(client)[1] < 20


@pytest.mark.parametrize(
    "cut", [0, 30, FOUR.index("  c:") + 5, FOUR.index("  c:") + 6, len(FOUR) - 1]
)
def test_a_file_cut_off_by_its_writer_removes_nothing(
    instance: Instance, client: Client, cut: int
) -> None:
    os.truncate(instance.spec_file, cut)
    until(lambda: state(client)[0] in {"held", "invalid"})
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1"]
    assert state(client)[1] == 1
    instance.spec_file.write_text(FOUR)
    until(lambda: state(client)[0] == "applied")


def test_one_entry_deleted_at_the_end_in_place_is_a_deletion_after_a_while(
    instance: Instance, client: Client
) -> None:
    began = time.monotonic()
    os.truncate(instance.spec_file, FOUR.index("  d:"))
    until(lambda: running(instance) == ["a.1", "b.1", "c.1"])
    assert time.monotonic() - began >= 2.0


def test_mass_removal_is_held_until_somebody_consents(instance: Instance, client: Client) -> None:
    one = TWO[: TWO.index("  b:")]
    replace_by_rename(instance.spec_file, one)
    until(lambda: state(client)[0] == "held")
    assert "--allow-removal" in client.call("status")["spec_message"]
    assert len(running(instance)) == 4
    code, message, _ = client.error("apply")
    assert (code, "3 of 4" in message) == ("conflict", True)
    answer = client.call("apply", allow_removal=True)
    assert (answer["revision"], answer["applied"]) == (2, True)
    until(lambda: running(instance) == ["a.1"])
    assert state(client) == ("applied", 2)


@pytest.mark.parametrize("text", ["", "# nothing\n", "vars: {x: y}\n", "watchers: {}\n"])
def test_a_spec_without_any_watcher_is_held(instance: Instance, text: str) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text("watchers:\n  only: {cmd: sleep 1000}\n")
    client = instance.start().client()
    until(lambda: running(instance) == ["only.1"])
    replace_by_rename(instance.spec_file, text)
    until(lambda: state(client) == ("held", 1))
    assert "no watchers at all" in client.call("status")["spec_message"]
    assert client.error("apply")[0] == "conflict"
    assert client.call("apply", allow_removal=True)["revision"] == 2
    until(lambda: running(instance) == [])


def test_once_the_end_was_ordered_no_saved_file_counts(instance: Instance, client: Client) -> None:
    instance.keeper.stubborn.add("a")
    client.call("shutdown")
    instance.spec_file.write_text(FOUR + "  late:\n    cmd: sleep 1000\n")
    controller = instance.controller
    files = controller.specs.files
    until(lambda: b"late" in (files.source.newest.files[str(instance.spec_file)].text or b""))
    until(lambda: files not in controller.runtime.reactor._deadlines and not files.reader.is_wanted)
    assert (controller.specs.in_force.applied.revision, running(instance)) == (1, ["a.1"])


def test_the_death_of_the_controller_applies_no_edit_that_waits(
    instance: Instance, client: Client
) -> None:
    instance.spec_file.write_text(FOUR + "apply: {auto: false}\n")
    until(lambda: state(client)[1] == 2)
    instance.spec_file.write_text(FOUR + "  e:\n    cmd: sleep 1000\napply: {auto: false}\n")
    records = tuple(instance.keeper.records.values())
    instance.stop()
    instance.clients.clear()
    other = instance.start(PaperKeeper(records)).client()
    assert state(other) == ("pending", 2)
    assert "e.1" not in running(instance)
    other.call("apply")
    until(lambda: "e.1" in running(instance))
    assert state(other) == ("applied", 3)


def test_the_history_says_who_started_applied_and_confirmed(instance: Instance) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text(TWO)
    client = instance.start(started_by="up by alice").client()
    until(lambda: state(client) == ("applied", 1))
    instance.spec_file.write_text(TWO.replace("red", "blue"))
    until(lambda: state(client) == ("applied", 2))
    assert by(client) == ["saved files", "up by alice"]
    client.call("apply")
    me = pwd.getpwuid(os.getuid()).pw_name
    assert by(client) == [f"saved files, confirmed by {me}", "up by alice"]
    client.call("apply")
    assert by(client)[0] == f"saved files, confirmed by {me}"
    slowly = "apply: {quiet_period: 1m}\n"  # or they are applied by themselves before the command has read them
    instance.spec_file.write_text(slowly + TWO.replace("red", "blue"))
    client.call("apply")
    instance.spec_file.write_text(slowly + FOUR)
    client.call("apply")
    assert by(client)[0] == me
    told = [each["message"] for each in client.call("events")["events"]]
    assert any("applied by saved files: 1 change (b: " in message for message in told)


def by(client: Client) -> list[str]:
    return [each["who"] for each in client.call("history")["revisions"]]


def test_without_auto_nothing_is_watched_and_apply_does_it(
    instance: Instance, client: Client
) -> None:
    instance.spec_file.write_text(FOUR + "apply: {auto: false}\n")
    until(lambda: state(client)[1] == 2)
    watch = instance.controller.specs.source._watch
    until(lambda: not watch._wanted.folders)
    instance.spec_file.write_text(FOUR.replace("red", "blue") + "apply: {auto: false}\n")
    status = client.call("status")
    assert (status["spec_state"], status["spec_message"]) == (
        "pending",
        "1 change waits for reconcile apply (see: reconcile plan)",
    )
    instance.spec_file.write_text(FOUR + "  e: {cmdd: x}\napply: {auto: false}\n")
    assert state(client) == ("invalid", 2)
    instance.spec_file.write_text(FOUR + "apply: {auto: false}\n")
    assert state(client) == ("applied", 2)
    instance.spec_file.write_text(FOUR.replace("red", "blue") + "apply: {auto: false}\n")
    plan = client.call("plan")
    assert [(each["name"], each["how"]) for each in plan["changes"]] == [("b", "replace")]
    answer = client.call("apply", dry_run=True)
    assert (answer["applied"], answer["revision"]) == (False, 2)
    assert state(client)[1] == 2
    assert client.call("apply")["revision"] == 3
    assert client.call("apply") == {"revision": 3, "changes": [], "drift": [], "applied": True}


def test_apply_tells_all_mistakes_and_changes_nothing(instance: Instance, client: Client) -> None:
    other = instance.folder / "other.yaml"
    other.write_text("watchers:\n  a:\n    cmdd: x\n  b: {cmd: x, numprocesses: two}\n")
    code, _, details = client.error("plan", source=[str(other)])
    assert code == "invalid_spec"
    assert len(details["errors"]) >= 2
    assert {"path", "line", "message"} <= details["errors"][0].keys()


def test_another_source_needs_consent(instance: Instance, client: Client) -> None:
    other = instance.folder / "other.yaml"
    other.write_text(FOUR + "  e:\n    cmd: sleep 1000\n")
    code, _, details = client.error("apply", source=[str(other)])
    assert (code, "--replace-source" in details["hint"]) == ("conflict", True)
    folder = str(instance.folder)
    whose = ManagerFile("test", folder, (str(instance.spec_file),))
    assert read_manager_file(folder) == whose
    assert client.call("apply", source=[str(other)], replace_source=True)["applied"]
    assert read_manager_file(folder) == replace(whose, source=(str(other),))
    assert client.call("status")["source"] == [str(other)]
    other.write_text(FOUR + "  f:\n    cmd: sleep 1000\n")
    until(lambda: "f.1" in running(instance))


def test_only_the_named_watchers_are_applied(instance: Instance, client: Client) -> None:
    other = FOUR.replace("red", "blue") + "  e:\n    cmd: sleep 1000\n"
    instance.controller.runtime.lanes.hand_over(lambda: None)
    instance.spec_file.write_text("apply: {auto: false}\n" + FOUR)
    until(lambda: state(client)[1] == 2)
    instance.spec_file.write_text("apply: {auto: false}\n" + other)
    client.call("apply", only=["e"])
    until(lambda: "e.1" in running(instance))
    assert len(instance.keeper.spawned()) == 5
    assert client.error("apply", only=["nope"])[0] == "not_found"


def test_a_new_controller_goes_on_from_the_store_and_then_reads_the_files(
    instance: Instance, client: Client
) -> None:
    keeper = instance.keeper
    records = tuple(keeper.records.values())
    instance.stop()
    instance.clients.clear()
    instance.spec_file.write_text(FOUR + "  e:\n    cmd: sleep 1000\n")
    instance.start(PaperKeeper(records))
    until(lambda: "e.1" in running(instance))
    assert [str(id) for id in instance.keeper.spawned()] == ["e.1"]
    assert state(instance.client()) == ("applied", 2)


def test_unchanged_files_start_no_loader(instance: Instance, client: Client) -> None:
    records = tuple(instance.keeper.records.values())
    instance.stop()
    instance.clients.clear()
    instance.start(PaperKeeper(records))
    assert state(instance.client()) == ("applied", 1)
    assert instance.controller.specs.files.reader.loader is None


def test_the_last_good_spec_ignores_the_files_until_they_change(
    instance: Instance, client: Client
) -> None:
    records = tuple(instance.keeper.records.values())
    instance.stop()
    instance.clients.clear()
    instance.spec_file.write_text("what is this\n")
    instance.start(PaperKeeper(records), last_good=True)
    other = instance.client()
    status = other.call("status")
    assert (status["spec_state"], status["revision"]) == ("applied", 1)
    assert "ignored until they change" in status["spec_message"]
    instance.spec_file.write_text(FOUR + "  e:\n    cmd: sleep 1000\n")
    until(lambda: "e.1" in running(instance))


def test_a_damaged_store_makes_jobs_unknown_and_leaves_services_alone(
    instance: Instance, client: Client
) -> None:
    instance.spec_file.write_text(FOUR + "  j:\n    cmd: sleep 1000\n    restart: never\n")
    until(lambda: "j.1" in running(instance))
    records = tuple(instance.keeper.records.values())
    instance.stop()
    instance.clients.clear()
    for path in instance.folder.glob("state.db*"):
        path.write_bytes(b"\x55" * 10_000)
    instance.start(PaperKeeper(records))
    other = instance.client()
    until(lambda: other.call("status")["spec_state"] == "applied")
    assert instance.keeper.spawned() == []
    assert running(instance) == ["a.1", "b.1", "c.1", "d.1", "j.1"]
    assert instance.controller.core.observed("j").job.known is False
    assert any(each["type"] == "store.damaged" for each in other.call("events")["events"])


def test_without_a_valid_spec_at_the_first_start_everybody_can_ask_why(instance: Instance) -> None:
    instance.spec_file.parent.mkdir()
    instance.spec_file.write_text("watchers: 5\n")
    client = instance.start().client()
    status = client.call("status")
    assert (status["spec_state"], status["revision"], status["watchers"]) == ("invalid", 0, [])
    instance.spec_file.write_text(TWO)
    until(lambda: running(instance) == ["a.1", "b.1"])
    assert state(client) == ("applied", 1)


def test_a_disk_that_hangs_while_files_are_looked_at_holds_nobody_up(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.spec_file.parent.mkdir(exist_ok=True)
    instance.spec_file.write_text("watchers: {web: {cmd: sleep 1000}}\n")
    client = instance.start().client()
    until(lambda: client.call("status")["settled"])
    hangs, goes_on, real = threading.Event(), threading.Event(), source.look

    def look(*of: Any) -> Any:
        if threading.current_thread().name == "lane-files":
            hangs.set()
            assert goes_on.wait(20)
        return real(*of)

    monkeypatch.setattr(source, "look", look)
    instance.spec_file.write_text("watchers: {web: {cmd: sleep 1000}, new: {cmd: sleep 1000}}\n")
    assert hangs.wait(20)
    assert client.call("stop", names=["web"])
    assert {one["name"] for one in client.call("status")["watchers"]} == {"web"}
    goes_on.set()
    until(lambda: {one["name"] for one in client.call("status")["watchers"]} == {"web", "new"})
