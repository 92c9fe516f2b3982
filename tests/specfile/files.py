"""Builders: texts to files, to specs or mistakes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.specfile.loading import read_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.model.errors import SpecError
    from reconciler.model.spec import Spec, WatcherSpec
    from reconciler.specfile.reading import FileRead


class Folder:
    """A folder with spec files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **files: str | bytes) -> list[str]:
        """Write files (`a__b` is a/b.yaml, `x_env` is x.env) and return the paths of the YAML ones."""
        paths = []
        for name, text in files.items():
            stem, suffix = (
                (name.removesuffix("_env"), ".env") if name.endswith("_env") else (name, ".yaml")
            )
            path = self.path / (stem.replace("__", "/") + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            if suffix == ".yaml":
                paths.append(str(path))
        return paths


@dataclass(frozen=True)
class Loaded:
    """A valid spec, and all files that were read for it."""

    spec: Spec
    files: Mapping[str, FileRead]


def load(paths: Sequence[str], environ: Mapping[str, str]) -> Loaded | tuple[SpecError, ...]:
    outcome = read_spec(paths, environ)
    return outcome.errors if outcome.spec is None else Loaded(outcome.spec, outcome.files)


def loaded(*paths: str, environ: Mapping[str, str] | None = None) -> Loaded:
    found = load(paths, environ or {})
    assert isinstance(found, Loaded), "\n".join(map(str, found))
    return found


def spec_of(text: str, environ: Mapping[str, str] | None = None) -> Spec:
    with tempfile.TemporaryDirectory() as folder:
        return loaded(*Folder(Path(folder)).write(spec=text), environ=environ).spec


def watcher_of(text: str, environ: Mapping[str, str] | None = None) -> WatcherSpec:
    """The only watcher of a spec, or the one called web."""
    watchers = spec_of(text, environ).watchers
    return watchers["web"] if "web" in watchers else next(iter(watchers.values()))


def errors_of(text: str | bytes, environ: Mapping[str, str] | None = None) -> tuple[SpecError, ...]:
    with tempfile.TemporaryDirectory() as folder:
        found = load(Folder(Path(folder)).write(spec=text), environ or {})
    assert isinstance(found, tuple), found
    return found


def only_error(text: str | bytes, environ: Mapping[str, str] | None = None) -> SpecError:
    errors = errors_of(text, environ)
    assert len(errors) == 1, "\n".join(map(str, errors))
    return errors[0]


def place(error: SpecError) -> tuple[int, int, str]:
    return error.line, error.column, error.field
