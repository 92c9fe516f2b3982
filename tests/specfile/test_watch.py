"""What a watcher says of the files that it watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.model.spec import WatchSpec
from tests.specfile.files import loaded, only_error
from tests.specfile.test_traps import warnings_of

if TYPE_CHECKING:
    from tests.specfile.files import Folder

MAP = "expected a map with paths, ignore, quiet_period or null, found "


def test_paths_are_relative_to_the_folder_of_the_file(folder: Folder) -> None:
    (path,) = folder.write(
        spec="watchers: {web: {cmd: x, watch: {paths: [app, ../lib/, /etc/web.conf], ignore: [a/*]}}}"
    )
    above = folder.path.parent
    assert loaded(path).spec.watchers["web"].watch == WatchSpec(
        paths=(f"{folder.path}/app", f"{above}/lib", "/etc/web.conf"), ignore=("a/*",)
    )


@pytest.mark.parametrize(
    ("watch", "field", "message", "hint"),
    [
        ("true", "watch", MAP + "'true'", "write: {paths: [...]}"),
        ("app", "watch", MAP + "'app'", "write: {paths: [app]}"),
        ("{ignore: [x]}", "watch.paths", "'paths' is missing", "write: paths: ..."),
        ("{paths: []}", "watch.paths", "expected at least one path, found none", "leave watch out"),
        ("{paths: ['']}", "watch.paths[0]", "expected a path, found nothing", ""),
        ("{paths: [~/app]}", "watch.paths[0]", "'~' is for shells, not for paths", "write: ${env.HOME}/..."),
        ("{paths: ['app/*.py']}", "watch.paths[0]", "a path is not a glob",
         "name the folder, and leave out with ignore what does not count"),
        ("{paths: [/], ignore: [/]}", "watch.ignore[0]", "expected a glob, found nothing", ""),
        ("{paths: [/], ignore: ['!x']}", "watch.ignore[0]", "what is ignored cannot be taken back with '!'",
         "write narrower globs"),
        ("{paths: [/], delay: 1s}", "watch.delay", "unknown field 'delay'", "write: quiet_period"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_a_mistake(
    watch: str, field: str, message: str, hint: str
) -> None:
    error = only_error(f"watchers: {{web: {{cmd: x, watch: {watch}}}}}")
    assert (error.field, error.message, error.hint) == (f"watchers.web.{field}", message, hint)


def test_what_is_not_there_is_told(folder: Folder) -> None:
    folder.write(there="")
    text = "watchers: {web: {cmd: x, watch: {paths: [there.yaml, nowhere]}}}"
    (said,) = warnings_of(folder, text)
    assert (said.field, said.message) == (
        "watchers.web.watch.paths[1]",
        "there is nothing at nowhere on this machine",
    )
