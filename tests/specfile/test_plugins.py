"""Plugins: watchers whose processes have rights on the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.model.spec import PluginAccess
from reconciler.specfile.reference import explain
from tests.specfile.files import errors_of, loaded, only_error, place, spec_of

if TYPE_CHECKING:
    from tests.specfile.files import Folder


def test_a_plugin_is_a_watcher_that_may_look_unless_it_says_more() -> None:
    spec = spec_of(
        "defaults: {numprocesses: 2, access: {role: operate}}\n"
        "watchers: {web: {cmd: x}}\n"
        "plugins:\n"
        "  stats: {cmd: y, numprocesses: 1, access: {role: view}}\n"
        "  mender: {cmd: 'z ${watcher}', access: {labels: {team: shop}}}\n"
        "  bare: {cmd: y, access: null}\n"
    )
    assert {name: each.access for name, each in spec.watchers.items()} == {
        "web": None,
        "stats": PluginAccess("view"),
        "mender": PluginAccess("operate", {"team": "shop"}),
        "bare": PluginAccess("view"),
    }
    assert spec.watchers["mender"].cmd == ("z", "mender")
    assert spec.watchers["mender"].numprocesses == 2


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("watchers: {w: {cmd: x, access: {role: view}}}", "watchers.w.access",
         "'access' is for plugins: other processes have the role of their user"),
        ("plugins: {p: {cmd: x, access: {role: rule}}}", "plugins.p.access.role",
         "expected view, operate or admin, found 'rule'"),
        ("plugins: {p: {cmd: x, access: {labels: {a: b}}}}", "plugins.p.access.labels",
         "'labels' limit what is operated, not who looks or who applies"),
        ("plugins: {p: {}}", "plugins.p.cmd", "'cmd' is missing"),
        ("plugins: {p: {cmd: x, numproceses: 2}}", "plugins.p.numproceses", "unknown field 'numproceses'"),
        ("plugins: {a b: {cmd: x}}", "plugins.a b", "'a b' cannot be the name of a plugin"),
        ("plugins: [p]", "plugins", "expected a map, found a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_path(text: str, field: str, message: str) -> None:
    error = only_error(text)
    assert (error.field, error.message) == (field, message)


def test_watchers_and_plugins_share_their_names() -> None:
    (error,) = errors_of("watchers:\n  a: {cmd: x}\nplugins:\n  a: {cmd: y}\n")
    assert place(error) == (4, 3, "plugins.a")
    assert error.message.startswith("'a' is the name of a watcher, too, at ")


def test_of_one_name_for_a_watcher_and_a_plugin_each_has_its_mistakes_under_its_own_path() -> None:
    found = errors_of(
        "watchers:\n  a: {cmd: x, bogus: 1, access: {role: view}}\n"
        "plugins:\n  a: {cmd: y, bogus: 2, access: {role: rule}}\n"
    )
    assert {place(each) for each in found} == {
        (2, 15, "watchers.a.bogus"),
        (2, 25, "watchers.a.access"),
        (4, 3, "plugins.a"),
        (4, 15, "plugins.a.bogus"),
        (4, 40, "plugins.a.access.role"),
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ("depends_on: [nobody]", "plugins.a.depends_on.nobody"),
        ("depends_on: [a]", "plugins.a.depends_on.a"),
        ("on_demand: {}", "plugins.a.on_demand"),
        ("use_sockets: [own]", "plugins.a"),
    ],
)
def test_what_is_wrong_between_a_plugin_and_others_is_told_with_its_path(
    fields: str, field: str
) -> None:
    error = only_error(
        "sockets: {own: {listen: 8000, reuseport: true}}\n"
        "plugins:\n  first: {cmd: x, use_sockets: [own]}\n"
        f"  a: {{cmd: y, {fields}}}\n"
    )
    assert error.field == field


def test_plugins_come_from_included_files_and_can_be_overridden(folder: Folder) -> None:
    paths = folder.write(
        spec="include: [more.yaml]\noverrides: [host.yaml]\n",
        more="plugins: {a: {cmd: x}, b: {cmd: x}}",
        host="plugins: {a: {access: {role: admin}}, b: null, c: {cmd: y}}",
    )
    found = loaded(paths[0]).spec.watchers
    assert {name: each.access and each.access.role for name, each in found.items()} == {
        "a": "admin",
        "c": "view",
    }


def test_the_fields_of_a_plugin_are_explained_as_those_of_a_watcher() -> None:
    assert explain("plugins.stats.access.role") == explain("watchers.NAME.access.role")
    assert "access" in explain("plugins")
