"""Claims about revisions, from a saved file through the core and the store to what clients are told."""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from conftest import by_hand, job, service, until
from paper_keeper import PaperKeeper

from reconciler.controller.state import history, seals
from reconciler.controller.state.history import KEPT_REVISIONS
from reconciler.controller.state.queries import read_spec
from reconciler.controller.state.records import Applied, RevisionChanged, SourceFile
from reconciler.controller.state.store import Store
from reconciler.core import readiness
from reconciler.model.observation import SignalReceived
from reconciler.model.process import ProcessId, Running
from reconciler.model.revision import Revision, Trial
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import MILLISECOND_NS, SECOND_NS
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Client, Instance

WEB = ProcessId("web", 1)
TEXT = """\
apply: {{confirm_after: {after}, on_failure: {on_failure}, quiet_period: 20ms, auto: {auto}}}
watchers:
  web: {{cmd: sleep {web}, numprocesses: {n}}}
  db: {{cmd: sleep 2000}}
"""


@pytest.fixture(autouse=True)
def rolls_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a process count as settled soon; returns what sets another time, for tests of a roll under way."""

    def choose(time_ns: int) -> None:
        monkeypatch.setattr(readiness, "READY_AFTER_NS", time_ns)

    choose(20 * MILLISECOND_NS)
    return choose


def save(instance: Instance, web: int, **more: object) -> None:
    fields = {"after": "10s", "on_failure": "rollback", "n": 1, "auto": "true"} | more
    instance.spec_file.parent.mkdir(exist_ok=True)
    beside = instance.spec_file.with_name(".beside")
    beside.write_text(TEXT.format(web=web, **fields))
    beside.replace(instance.spec_file)


def reach(client: Client, **wanted: object) -> dict[str, Any]:
    """Wait until the status has these values and return it; a revision is reached when the core has it."""
    if "revision" in wanted:
        wanted["observed_revision"] = wanted["revision"]
    return dict(
        until(
            lambda: (
                (status := client.call("status"))
                and all(status[key] == value for key, value in wanted.items())
                and status
            ),
            str(wanted),
        )
    )


def commands(instance: Instance) -> dict[str, str]:
    """Return what runs, by slot, from what the keeper was told."""
    newest = {a.id: a.launch.argv[1] for a in instance.keeper.actions if hasattr(a, "launch")}
    return {
        str(id): newest[id]
        for id, record in instance.keeper.records.items()
        if isinstance(record.phase, Running) and id in newest
    }


def outcomes(client: Client) -> dict[int, str]:
    return {each["number"]: each["outcome"] for each in client.call("history")["revisions"]}


def events(client: Client, type_: str) -> list[dict[str, Any]]:
    return [each for each in client.call("events")["events"] if each["type"] == type_]


def begun(instance: Instance, **more: object) -> Client:
    """Return a client of an instance whose first revision has proven itself."""
    save(instance, 1000, after="0s", **more)
    client = instance.start().client()
    reach(client, revision=1, outcome="good", settled=True)
    return client


def edited(
    instance: Instance, before: Callable[[], object] = lambda: None, **more: object
) -> Client:
    """Return a client of an instance on whose second revision web has to stay up for ten seconds.

    `before` is called when the first revision has proven itself.
    """
    client = begun(instance, **more)
    before()
    save(instance, 3000, **more)
    until(lambda: "3000" in commands(instance).values())
    return client


def test_a_bad_revision_is_rolled_back_and_its_files_are_left_aside(instance: Instance) -> None:
    client = edited(instance)
    log = instance.folder / "logs" / "web-1.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("starting\nno route to host\n")
    instance.keeper.exit(WEB, 78)
    status = reach(client, revision=3, settled=True)
    assert commands(instance)["web.1"] == "1000"
    assert (status["spec_state"], status["log"]) == (
        "rolled_back",
        ["starting", "no route to host"],
    )
    assert (
        "revision 2 was rolled back to the content of 1: web.1 ended with exit 78"
        in (status["spec_message"])
    )
    assert outcomes(client)[2] == "rolled_back"
    # What a revision changed may be long, and is kept only as long as it matters.
    assert instance.controller is not None
    assert not any(
        each.trial.changed for each in instance.controller.specs.revisions.newest_first()
    )
    (told,) = events(client, "revision.rolled_back")
    assert (told["watcher"], told["slot"], told["details"]["log"][-1]) == (
        "web",
        1,
        "no route to host",
    )
    # The same bytes again, a HUP, asked for by hand, and under a new controller: they stay rejected.
    save(instance, 3000)
    instance.keeper.tell(SignalReceived("reload"))
    until(lambda: events(client, "operator.reload"))
    assert "which was rolled back: web.1 ended" in client.error("apply")[1]
    instance.stop()
    client = instance.start(PaperKeeper(tuple(instance.keeper.records.values()))).client()
    status = reach(client, settled=True, spec_state="rolled_back")
    assert (status["revision"], instance.keeper.spawned()) == (3, [])
    # Other bytes count again.
    save(instance, 4000)
    reach(client, revision=4, spec_state="applied")


def test_files_that_are_mended_to_what_runs_are_no_revision(instance: Instance) -> None:
    client = edited(instance)
    instance.keeper.exit(WEB, 1)
    reach(client, revision=3, spec_state="rolled_back")
    save(instance, 1000, after="0s")
    assert reach(client, spec_state="applied")["revision"] == 3


def test_what_was_rejected_is_tried_once_more_when_somebody_says_so(instance: Instance) -> None:
    client = edited(instance)
    instance.keeper.exit(WEB, 1)
    reach(client, revision=3, spec_state="rolled_back", settled=True)
    assert client.call("apply", **{"continue": True})["revision"] == 4
    reach(client, spec_state="applied", outcome="pending")
    until(lambda: commands(instance).get("web.1") == "3000")


def test_a_verdict_whose_consequence_was_lost_is_carried_out_by_the_next_controller(
    instance: Instance,
) -> None:
    client = edited(instance)
    current = next(r for r in client.call("history")["revisions"] if r["number"] == 2)
    assert current["outcome"] == "pending"
    instance.stop()
    store = Store(str(instance.folder))
    revision = store.read(lambda _: None).revisions[2]
    trial = replace(revision.trial, outcome="rolled_back", reason="it was bad")
    store.write(RevisionChanged(replace(revision, trial=trial)))
    store.close()
    records = tuple(instance.keeper.records.values())
    client = instance.start(PaperKeeper(records)).client()
    reach(client, revision=3, spec_state="rolled_back", settled=True)
    assert commands(instance)["web.1"] == "1000"


def test_a_paused_roll_waits_for_a_word_also_under_a_new_controller(
    instance: Instance, rolls_after: Callable[[int], None]
) -> None:
    client = edited(instance, lambda: rolls_after(SECOND_NS), on_failure="pause", n=3)
    instance.keeper.exit(WEB, 1)
    status = reach(client, outcome="paused")
    assert (status["revision"], status["spec_state"]) == (2, "applied")
    assert status["reason"].startswith("web.1 ended with exit 1 after")
    progress = client.next(client.call("apply.follow", revision=2)["stream"])
    assert (progress["done"], progress["converged"], progress["outcome"]) == (True, False, "paused")
    instance.stop()
    client = instance.start(PaperKeeper(tuple(instance.keeper.records.values()))).client()
    status = reach(client, outcome="paused")
    (web,) = [each for each in status["watchers"] if each["name"] == "web"]
    assert [slot.get("outdated", False) for slot in web["slots"]] == [False, True, True]
    rolls_after(20 * MILLISECOND_NS)
    assert client.call("apply", **{"continue": True})["revision"] == 2
    reach(client, outcome="pending", settled=True)
    assert "nothing to continue" in client.error("apply", **{"continue": True})[1]


def test_an_edit_in_the_middle_of_a_roll_wins_and_no_revision_is_taken_for_another(
    instance: Instance, rolls_after: Callable[[int], None]
) -> None:
    client = edited(instance, lambda: rolls_after(SECOND_NS), n=3)
    seen = []
    for number, web in ((3, 4000), (4, 5000)):
        save(instance, web, n=3)
        seen.append(reach(client, revision=number)["observed_revision"])
    rolls_after(20 * MILLISECOND_NS)
    reach(client, settled=True)
    assert seen == [3, 4]
    assert set(commands(instance).values()) == {"2000", "5000"}
    assert outcomes(client) == {1: "good", 2: "superseded", 3: "superseded", 4: "pending"}


def test_the_first_revision_is_kept_whatever_happens(instance: Instance) -> None:
    save(instance, 1000, on_failure="pause")
    client = instance.start().client()
    until(lambda: instance.keeper.records.get(WEB))
    instance.keeper.exit(WEB, 1)
    reach(client, revision=1, outcome="failed", spec_state="applied")


def test_there_is_no_end_of_the_line_to_go_back_to(instance: Instance) -> None:
    save(instance, 1000)
    client = instance.start().client()
    for web, known in ((1000, 1), (3000, 2)):
        save(instance, web)
        until(lambda web=web: commands(instance).get("web.1") == str(web))
        reach(client, revision=known, outcome="pending")
    # Nothing has proven itself yet: the newest that was never found bad comes back, and stays.
    instance.keeper.exit(WEB, 1)
    reach(client, revision=3, spec_state="rolled_back")
    until(lambda: commands(instance).get("web.1") == "1000")
    instance.keeper.exit(WEB, 1)
    reach(client, revision=3, outcome="failed")
    assert outcomes(client) == {1: "superseded", 2: "rolled_back", 3: "failed"}


def test_an_operator_goes_back_and_the_files_wait(instance: Instance) -> None:
    client = edited(instance)
    planned = client.call("rollback", dry_run=True)
    assert (planned["restores"], planned["applied"], planned["changes"][0]["name"]) == (
        1,
        False,
        "web",
    )
    assert client.error("rollback", base=1)[0] == "conflict"
    assert client.error("rollback", revision=2)[0] == "conflict"
    assert client.error("rollback", revision=7)[:2] == ("not_found", "there is no revision 7")
    assert client.call("rollback")["revision"] == 3
    status = reach(client, revision=3, spec_state="rolled_back", settled=True)
    assert commands(instance)["web.1"] == "1000"
    assert "by " in status["spec_message"]
    assert client.error("rollback")[0] == "not_found"  # nothing good lies before the first
    # An operator may take the word back: the files were not found bad.
    assert client.call("apply")["revision"] == 4
    reach(client, spec_state="applied")


def test_going_back_may_not_remove_much_unasked(instance: Instance) -> None:
    client = begun(instance)
    text = instance.spec_file.read_text()
    more = "".join(f"  more{n}: {{cmd: sleep 1}}\n" for n in range(3))
    instance.spec_file.write_text(text + more)
    reach(client, revision=2, settled=True)
    code, message, _ = client.error("rollback")
    assert (code, "removes 3 of 5" in message) == ("conflict", True)
    assert client.call("rollback", allow_removal=True)["revision"] == 3


def test_a_plan_of_yesterday_is_not_applied(instance: Instance) -> None:
    client = begun(instance, auto="false")
    save(instance, 3000, auto="false")
    assert client.call("apply", dry_run=True)["revision"] == 1
    assert client.call("apply", base=1)["revision"] == 2
    save(instance, 4000, auto="false")
    assert "revision 2 is in force by now" in client.error("apply", base=1)[1]


def test_a_difference_is_told_field_by_field_without_secrets(instance: Instance) -> None:
    instance.store(by_hand(web=service(env={"TOKEN": "s3cret-old", "A": "1"}), fin=job()))
    client = instance.start().client()
    reach(client, revision=1)
    assert client.error("diff")[0] == "conflict"  # stored before there was a history
    instance.spec_file.parent.mkdir()
    text = "apply: {{auto: false}}\nwatchers:\n  web: {{cmd: sleep 1000, env: {{TOKEN: {}, A: '2'}}}}\n"
    for secret in ("s3cret-two", "s3cret-new"):
        instance.spec_file.write_text(text.format(secret))
        client.call("apply", allow_removal=True)
    answer = client.call("diff")
    assert (answer["old"], answer["new"]) == (2, 3)
    (change,) = answer["changes"]
    assert change["fields"] == [
        {"field": "env.TOKEN", "effect": "restart", "old": "(hidden)", "new": "(hidden)"}
    ]
    assert client.call("diff", old=3, new=3)["changes"] == []
    told = str([client.call(each) for each in ("history", "diff", "events", "status")])
    assert "s3cret" not in told


def test_damage_in_the_history_is_named_and_passed_over(instance: Instance) -> None:
    client = begun(instance)
    save(instance, 1500, after="0s")
    reach(client, revision=2, outcome="good", settled=True)
    save(instance, 3000)
    reach(client, revision=3)
    until(lambda: "3000" in commands(instance).values())
    with sqlite3.connect(instance.folder / "state.db") as connection:
        connection.execute("update contents set content = zeroblob(40) where number = 2")
    assert "the row of table contents for 2 is damaged" in client.error("diff", old=2)[1]
    instance.keeper.exit(WEB, 1)
    reach(client, revision=4, settled=True)
    assert commands(instance)["web.1"] == "1000"
    assert events(client, "revision.damaged")
    instance.stop()
    with sqlite3.connect(instance.folder / "state.db") as connection:
        connection.execute("update revisions set revision = '{}' where number = 3")
    client = instance.start(PaperKeeper(tuple(instance.keeper.records.values()))).client()
    assert sorted(outcomes(client)) == [1, 2, 4]
    assert "table revisions for 3" in events(client, "store.damaged")[0]["message"]


# ---- the rows -------------------------------------------------------------------------------------


def applied(number: int, outcome: str = "superseded") -> Applied:
    spec = Spec(watchers={"web": WatcherSpec(cmd=("run", str(number)))})
    made = Revision(number, 5, "alice", 1000, trial=Trial({"web": 1}, 7, outcome=outcome))  # type: ignore[arg-type]
    files = (SourceFile("/s/a.yaml", "aa", 3, 12, b"a: \xff"), SourceFile("/s/env", "bb", 1))
    return Applied(spec, number, files=files, made=made)


def written(folder: Path, *entries: Applied) -> dict[int, Revision]:
    store = Store(str(folder))
    store.read(lambda _: None)
    for entry in entries:
        store.write(entry)
    store.close()
    store = Store(str(folder))
    try:
        return dict(store.read(lambda _: None).revisions)
    finally:
        store.close()


def test_a_content_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = applied(1)
    assert written(tmp_path, one, applied(2))[1] == one.made
    assert read_spec(tmp_path / "state.db", 1) == one.spec
    assert read_spec(tmp_path / "state.db", 3) == "it is not in the store (any more)"
    with sqlite3.connect(tmp_path / "state.db") as connection:
        ((data,),) = connection.execute("select content from contents where number = 1").fetchall()
    assert [
        (f["path"], f["digest"], f["text"]) for f in json.loads(zlib.decompress(data))["files"]
    ] == [
        ("/s/a.yaml", "aa", base64.b64encode(b"a: \xff").decode()),
        ("/s/env", "bb", None),
    ]


def test_the_newest_are_kept_and_the_newest_good_one_always(tmp_path: Path) -> None:
    many = [applied(number) for number in range(4, 4 + KEPT_REVISIONS)]
    kept = written(tmp_path, applied(1, "good"), applied(2, "good"), applied(3), *many)
    assert sorted(kept) == [2, *range(4, 4 + KEPT_REVISIONS)]
    with sqlite3.connect(tmp_path / "state.db") as connection:
        contents = connection.execute("select number from contents order by number").fetchall()
    assert [number for (number,) in contents] == sorted(kept)


def test_an_entry_that_cannot_be_read_is_told() -> None:
    revisions, notes = history.read([(1, '{"number": "x"}'), (2, '{"number": 2}')])
    assert revisions == {2: Revision(2)}
    assert "revision 1" in notes[0]
    assert set(seals.KEYS) >= {"revisions", "contents"}
