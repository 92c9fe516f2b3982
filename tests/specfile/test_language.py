"""The schema, the reference page and the explanations say what the loader does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.specfile.hints import WORDS
from reconciler.specfile.reference import explain, reference_markdown
from reconciler.specfile.schema import json_schema
from reconciler.specfile.shapes import block
from reconciler.specfile.source import Source, find_source, instance_name
from reconciler.specfile.words import all_fields

if TYPE_CHECKING:
    from tests.specfile.files import Folder

ROOT = Path(__file__).parents[2]


def test_the_committed_reference_is_what_the_declarations_make() -> None:
    made = reference_markdown()
    again = "run: python -m reconciler.specfile.reference > docs/reference.md"
    assert (ROOT / "docs" / "reference.md").read_text() == made, again


def test_every_field_is_in_the_reference_and_can_be_explained() -> None:
    page = reference_markdown()
    for each in all_fields():
        assert f"| `{each.path[-1]}` |" in page
        assert explain(each.name).startswith(each.name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("watchers.web.stop.timeout", ["watchers.NAME.stop.timeout", "default 10s", "(live)"]),
        ("watchers.stop", ["watchers.NAME.stop", "signal", "timeout", "scope"]),
        ("stop.timeout", ["watchers.NAME.stop.timeout"]),
        ("sockets.listen", ["required", "(rebind)"]),
        ("", ["watchers", "sockets", "defaults"]),
    ],
)
def test_a_field_is_explained(path: str, words: list[str]) -> None:
    assert [word for word in words if word not in explain(path)] == []


def test_an_unknown_field_is_answered_with_a_near_one() -> None:
    with pytest.raises(LookupError, match=r"did you mean 'numprocesses'\?"):
        explain("numproceses")


def test_the_schema_is_whole() -> None:
    schema = json.loads(json.dumps(json_schema()))
    definitions = schema["$defs"]
    for reference in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)):
        assert reference in definitions
    watcher, defaults = definitions["WatcherSpec"], definitions["WatcherDefaults"]
    assert watcher["required"] == ["cmd"]
    assert "required" not in defaults
    assert defaults["properties"] == watcher["properties"]
    assert (watcher["additionalProperties"], watcher["patternProperties"]) == (False, {"^x-": {}})
    assert schema["patternProperties"] == {"^x-": {}}
    assert "as" in definitions["LimitsSpec"]["properties"]
    assert watcher["properties"]["max_age"]["default"] is None
    assert definitions["StopSpec"]["properties"]["timeout"]["default"] == "10s"


def test_a_hint_never_stands_for_a_field_that_exists() -> None:
    classes = {each.__name__: each for one in all_fields() for each in one.blocks}
    for name, words in WORDS.items():
        if name in classes:
            assert words.keys().isdisjoint(block(classes[name]).fields), name


# ---- sources --------------------------------------------------------------------------------------


def test_the_nearest_spec_is_found(folder: Folder) -> None:
    folder.write(specs__a="", deep__er__x="")
    below = folder.path / "deep" / "er"
    specs = str(folder.path / "specs")
    assert find_source(None, str(below)) == Source((specs,), specs)
    folder.write(reconcile="")
    assert find_source([], str(below)) == Source(
        (str(folder.path / "reconcile.yaml"),), str(folder.path)
    )
    assert find_source(["x.yaml"], str(below)) == Source((str(below / "x.yaml"),), str(below))


def test_no_spec_is_told_with_what_to_try(folder: Folder) -> None:
    empty = folder.path / "empty"
    empty.mkdir()
    for arguments in (["nope.yaml"], [str(empty)]):
        found = find_source(arguments, str(folder.path))
        assert not isinstance(found, Source)
        assert found.message
        assert found.hint


@pytest.mark.parametrize(
    ("name", "folder_path", "expected"),
    [
        ("given", "/srv/shop", "given"),
        (None, "/srv/shop", "shop"),
        (None, "/srv/shop/specs", "shop"),
        (None, "/srv/my shop!/conf", "my-shop"),
        (None, "/", "reconcile"),
    ],
)
def test_an_instance_has_the_name_of_its_folder(
    name: str | None, folder_path: str, expected: str
) -> None:
    assert instance_name(name, Source((folder_path,), folder_path)) == expected


@pytest.mark.parametrize("module", ["source", "schema"])
def test_who_asks_little_imports_little(module: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import reconciler.specfile.{module}; "
        "print('yaml' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
