from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reconciler.controller.output.last_lines import Span, last_of
from reconciler.model.hiding import MAX_SHOWN_LINE

if TYPE_CHECKING:
    from pathlib import Path


def span(path: Path, begin: int = 0, end: int | None = None) -> Span:
    return Span(str(path), os.stat(path).st_ino, begin, end)


def test_only_the_lines_of_its_own_life_are_a_process_last_words(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("of an older one\nno database\nof a later one\n")
    own = span(log, 16, 28)
    assert last_of([own], 5) == ["no database"]
    assert last_of([span(log, 43)], 5) == []
    assert last_of([span(log, 16)], 1) == ["of a later one"]


def test_a_log_that_was_rotated_meanwhile_holds_newer_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("old\n" * 100)
    known = span(log, 400)
    log.rename(tmp_path / "web.log.1")
    log.write_text("new\n")
    assert last_of([known], 5) == ["new"]


def test_what_went_wrong_is_read_first_and_what_is_missing_is_no_trouble(tmp_path: Path) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    out.write_text("hello\n")
    missing = Span(str(errors), 0, 0)
    assert last_of([missing, span(out)], 1) == ["hello"]
    errors.write_text("\n  no config file  \n\n")
    assert last_of([span(errors), span(out)], 1) == ["no config file"]


def test_last_words_are_short_and_show_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("x" * 100_000 + "\n" + "y" * 100_000 + "\npostgres://app:hunter2@db failed\n")
    assert last_of([span(log)], 1) == ["postgres://app:(hidden)@db failed"]
    log.write_text("a\n" + "z" * 100_000)
    assert last_of([span(log)], 5) == []
    log.write_text("z" * 1000)
    assert last_of([span(log)], 5) == ["z" * MAX_SHOWN_LINE]
    assert last_of([Span(str(tmp_path), 0, 0)], 5) == []
