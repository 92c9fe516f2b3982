"""Mistakes of a spec, and what is doubtful about it, with their places."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reconciler.cli.views import terminal
from reconciler.cli.views.layout import Block, Cell, Wrapped
from reconciler.model.units import format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reconciler.model.errors import SpecError


def show_mistakes(errors: Sequence[SpecError], outcome: str = "") -> None:
    """Write the mistakes of a spec with excerpts, how many there are, and what came of it."""
    last = Cell(f"{mistakes(len(errors))} in the spec{outcome}")
    blocks = spec_error_blocks(errors, folder=os.getcwd())
    terminal.stderr().show(*blocks, (Cell("reconcile: ", "bad"), last))


def show_warnings(warnings: Sequence[SpecError]) -> None:
    """Write what is doubtful about a spec, with its places."""
    if warnings:
        blocks = spec_error_blocks(warnings, folder=os.getcwd(), warnings=True)
        terminal.stderr().show(*blocks)


def spec_error_blocks(
    errors: Iterable[SpecError],
    *,
    excerpts: bool = True,
    folder: str = "",
    warnings: bool = False,
) -> list[Block]:
    """Return mistakes with their places, the source lines with a caret, and what to try."""
    blocks: list[Block] = []
    for error in errors:
        place = _place(error, folder) if error.line or not warnings else ""
        place = f"{place}: warning".removeprefix(": ") if warnings else place
        field = f"{error.field}: " if error.field else ""
        blocks.append(
            Wrapped((Cell(f"{place}: ", "title"), Cell(field, "bad"), Cell(error.message)))
        )
        if excerpts and error.excerpt:
            source, *carets = error.excerpt.split("\n")
            blocks.append((Cell("    " + source.replace("\t", " ")),))
            blocks += [(Cell("    " + caret, "bad"),) for caret in carets if caret]
        if error.hint:
            blocks.append(Wrapped((Cell("    hint: ", "cyan"), Cell(error.hint))))
    return blocks


def _place(error: SpecError, folder: str) -> str:
    path = _near_path(error, folder)
    return f"{path}:{error.line}:{error.column}" if error.line else path


def _near_path(error: SpecError, folder: str) -> str:
    below = folder and error.path.startswith(folder + "/")
    return os.path.relpath(error.path, folder) if below else error.path


def mistakes(number: int) -> str:
    """Return `1 mistake`, `2 mistakes`."""
    return format_count(number, "mistake")


def github_annotation(error: SpecError, folder: str, level: str = "error") -> str:
    """Return a mistake, or a warning, as a workflow command of GitHub Actions."""
    path = _near_path(error, folder)
    place = f",line={error.line},col={error.column}" if error.line else ""
    field = f"{error.field}: " if error.field else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"::{level} file={_property(path)}{place}::{_data(field + error.message + hint)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
